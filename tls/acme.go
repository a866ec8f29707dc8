package tls

import (
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"github.com/rs/zerolog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// orders is the only part that knows certmagic: it orders certificates, keeps
// them in storage and answers validations. Of certmagic's cache only the OCSP
// code is used, of its maintenance nothing: jobs decides when what is done.
type orders struct {
	store *storage
	log   zerolog.Logger
	zap   *zap.Logger

	mu      sync.RWMutex
	options Options
	roots   []*x509.CertPool // of each issuer; nil for the system's
	keys    []string         // of the issuers in storage
	others  []string         // of issuers that storage knows besides
	cache   *certmagic.Cache // while running
	config  *certmagic.Config
	issuers []*certmagic.ACMEIssuer
}

var (
	errNoIssuer    = errors.New("no ACME server is configured")
	errNoListener  = errors.New("no listener is configured that an ACME server could validate names on")
	errNotRunning  = errors.New("certificates are not being kept now")
	errNoChallenge = errors.New("no validation is under way for this name")
)

func newOrders(dir string, l *locks, log zerolog.Logger) *orders {
	store := &storage{FileStorage: certmagic.FileStorage{Path: dir}, locks: l}
	return &orders{store: store, log: log, zap: zap.New(zapCore{log})}
}

// configure changes what later orders use. An error has changed nothing.
func (o *orders) configure(options Options) error {
	var keys []string
	var roots []*x509.CertPool
	for _, issuer := range options.Issuers {
		pool, err := readRoots(issuer.CAFile)
		if err != nil {
			return err
		}
		roots = append(roots, pool)
		template := certmagic.ACMEIssuer{CA: issuer.Directory}
		keys = append(keys, certmagic.StorageKeys.Safe(template.IssuerKey()))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.options, o.roots, o.keys = options, roots, keys
	o.others = o.otherIssuers(keys)
	o.build()
	return nil
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("roots of an ACME server: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("roots of an ACME server: no certificate in %q", file)
	}
	return pool, nil
}

// otherIssuers are those whose certificates are served until the configured
// ones have issued theirs.
func (o *orders) otherIssuers(keys []string) (others []string) {
	dirs, _ := os.ReadDir(filepath.Join(o.store.Path, "certificates"))
	for _, dir := range dirs {
		if dir.IsDir() && !slices.Contains(keys, dir.Name()) {
			others = append(others, dir.Name())
		}
	}
	return others
}

func (o *orders) start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cache = certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: o.configFor, Logger: o.zap})
	o.build()
}

func (o *orders) stop() {
	o.mu.Lock()
	cache := o.cache
	o.cache, o.config, o.issuers = nil, nil, nil
	o.mu.Unlock()
	cache.Stop()
}

func (o *orders) configFor(certmagic.Certificate) (*certmagic.Config, error) {
	config, _ := o.current()
	if config == nil {
		return nil, errNotRunning
	}
	return config, nil
}

func (o *orders) current() (*certmagic.Config, []*certmagic.ACMEIssuer) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.config, o.issuers
}

// build makes certmagic's view of the options. Orders under way keep theirs.
func (o *orders) build() {
	if o.cache == nil {
		return
	}
	config := certmagic.New(o.cache, certmagic.Config{
		Storage: o.store, Logger: o.zap,
		// Without a proxy function certmagic fetches OCSP responses with a
		// client that has no time limit.
		OCSP: certmagic.OCSPConfig{HTTPProxy: http.ProxyFromEnvironment},
	})
	config.Issuers, o.issuers = nil, nil
	var accounts []*certmagic.Config
	for i := range o.options.Issuers {
		own := *config
		own.Storage = &storage{FileStorage: o.store.FileStorage, locks: o.store.locks, issuer: o.keys[i]}
		issuer := certmagic.NewACMEIssuer(&own, o.template(i))
		o.issuers, accounts = append(o.issuers, issuer), append(accounts, &own)
		config.Issuers = append(config.Issuers, issuer)
	}
	for _, own := range accounts {
		own.Issuers = config.Issuers
	}
	o.config = config
}

func (o *orders) template(i int) certmagic.ACMEIssuer {
	issuer := o.options.Issuers[i]
	t := certmagic.ACMEIssuer{
		CA: issuer.Directory, TrustedRoots: o.roots[i], Logger: o.zap, Agreed: true,
		// Of an empty address certmagic asks standard input, or takes one that
		// it finds in storage; a space means none.
		Email:                   " " + o.options.Email,
		DisableHTTPChallenge:    len(o.options.HTTPAddrs) == 0,
		DisableTLSALPNChallenge: len(o.options.TLSAddrs) == 0,
	}
	t.ListenHost, t.AltHTTPPort, t.AltTLSALPNPort = takenAddress(o.options.HTTPAddrs, o.options.TLSAddrs)
	if issuer.EABKeyID != "" {
		t.ExternalAccount = &acme.EAB{KeyID: issuer.EABKeyID, MACKey: strings.TrimRight(issuer.EABKey, "=")}
	}
	return t
}

// place makes one try at every issuer in turn. have is what load said.
func (o *orders) place(ctx context.Context, host string, have stored) error {
	config, issuers := o.current()
	switch {
	case config == nil:
		return errNotRunning
	case len(issuers) == 0:
		return errNoIssuer
	case issuers[0].DisableHTTPChallenge && issuers[0].DisableTLSALPNChallenge:
		return errNoListener
	case have.present && have.current:
		return config.RenewCertSync(ctx, host, false)
	}
	if err := o.clear(ctx, host); err != nil {
		return err
	}
	return config.ObtainCertSync(ctx, host)
}

// clear removes what cannot be used from the places where certmagic would take
// it for a certificate.
func (o *orders) clear(ctx context.Context, host string) error {
	for _, key := range o.issuerKeys() {
		dir := certmagic.StorageKeys.CertsSitePrefix(key, host)
		if !o.store.Exists(ctx, dir) {
			continue
		}
		if err := o.store.Lock(ctx, "issue_cert_"+host); err != nil {
			return err
		}
		_, err := o.loadFrom(key, host)
		if err != nil {
			o.log.Warn().Err(err).Str("site", host).Msg("certificate in storage cannot be used: ordering a new one")
			err = o.store.Delete(ctx, dir)
		}
		if err := errors.Join(err, o.store.Unlock(ctx, "issue_cert_"+host)); err != nil {
			return err
		}
	}
	return nil
}

func (o *orders) issuerKeys() []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.keys
}

// load reads the certificate of a site from storage, without network: the
// newest of the configured issuers, or else of those that were configured once.
// fs.ErrNotExist means that there is none that can be used.
func (o *orders) load(host string) (stored, error) {
	o.mu.RLock()
	keys, others := o.keys, o.others
	o.mu.RUnlock()
	best, err := o.newest(keys, host)
	best.current = best.present
	if !best.present || time.Now().After(best.notAfter) {
		if old, _ := o.newest(others, host); old.present && time.Now().Before(old.notAfter) {
			return old, nil
		}
	}
	if err == nil && !best.present {
		err = fs.ErrNotExist
	}
	return best, err
}

func (o *orders) newest(keys []string, host string) (best stored, err error) {
	for _, key := range keys {
		one, failed := o.loadFrom(key, host)
		switch {
		case errors.Is(failed, fs.ErrPermission):
			err = failed
		case failed == nil && (!best.present || one.notBefore.After(best.notBefore)):
			best = one
		}
	}
	if best.present {
		err = nil
	}
	return best, err
}

func (o *orders) loadFrom(key, host string) (stored, error) {
	ctx, keys := context.Background(), certmagic.StorageKeys
	private, err := o.store.Load(ctx, keys.SitePrivateKey(key, host))
	if err != nil {
		return stored{}, err
	}
	chain, err := o.store.Load(ctx, keys.SiteCert(key, host))
	if err != nil {
		return stored{}, err
	}
	cert, err := cryptotls.X509KeyPair(chain, private)
	if err != nil {
		return stored{}, err
	}
	if err := cert.Leaf.VerifyHostname(host); err != nil {
		return stored{}, err
	}
	_, made, err := o.metadata(key, host)
	if err != nil {
		return stored{}, err
	}
	return stored{key: key, cert: &cert, record: newRecord(cert.Leaf, key, made)}, nil
}

// metadata is what certmagic wrote beside a certificate.
func (o *orders) metadata(key, host string) (res certmagic.CertificateResource, made acme.Certificate, err error) {
	content, err := o.store.Load(context.Background(), certmagic.StorageKeys.SiteMeta(key, host))
	if err == nil {
		err = json.Unmarshal(content, &res)
	}
	if err == nil && len(res.IssuerData) > 0 {
		err = json.Unmarshal(res.IssuerData, &made)
	}
	return res, made, err
}

func newRecord(leaf *x509.Certificate, key string, made acme.Certificate) record {
	r := record{present: true, issuer: key, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	if u, err := url.Parse(made.CA); err == nil && u.Host != "" {
		r.issuer = u.Host
	}
	if window := made.RenewalInfo; window != nil && window.HasWindow() {
		r.chosen = window.SelectedTime
		r.askAt = time.Now().Add(usualPace().look)
		if window.RetryAfter != nil {
			r.askAt = *window.RetryAfter
		}
	}
	return r
}

// askRenewal asks the issuer of the certificate in storage for its renewal
// window and keeps the answer there.
func (o *orders) askRenewal(ctx context.Context, host string) (stored, error) {
	have, err := o.load(host)
	if err != nil {
		return have, err
	}
	_, issuers := o.current()
	at := slices.Index(o.issuerKeys(), have.key)
	if at < 0 || at >= len(issuers) {
		return have, errNoIssuer
	}
	window, err := issuers[at].GetRenewalInfo(ctx, certmagic.Certificate{Certificate: *have.cert})
	if err != nil {
		return have, err
	}
	if err := o.store.Lock(ctx, "issue_cert_"+host); err != nil {
		return have, err
	}
	defer o.store.Unlock(ctx, "issue_cert_"+host)
	return o.keepRenewal(ctx, host, have, window)
}

func (o *orders) keepRenewal(ctx context.Context, host string, have stored, window acme.RenewalInfo) (stored, error) {
	now, err := o.load(host)
	if err != nil || now.key != have.key || !now.cert.Leaf.Equal(have.cert.Leaf) {
		return now, err // another process renewed it meanwhile
	}
	res, made, err := o.metadata(have.key, host)
	if err != nil {
		return have, err
	}
	if old := made.RenewalInfo; old != nil && old.SameWindow(window) && !old.SelectedTime.IsZero() {
		window.SelectedTime = old.SelectedTime
	}
	made.RenewalInfo = &window
	if res.IssuerData, err = json.Marshal(made); err != nil {
		return have, err
	}
	content, err := json.MarshalIndent(res, "", "\t")
	if err != nil {
		return have, err
	}
	if err := o.store.Store(ctx, certmagic.StorageKeys.SiteMeta(have.key, host), content); err != nil {
		return have, err
	}
	return o.load(host)
}

// staple returns the OCSP response for a certificate: from storage while that
// is fresh, else from the responder.
func (o *orders) staple(ctx context.Context, cert *cryptotls.Certificate) ([]byte, error) {
	o.mu.RLock()
	config, cache := o.config, o.cache
	o.mu.RUnlock()
	if config == nil {
		return nil, errNotRunning
	}
	bare := *cert
	bare.OCSPStaple = nil
	hash, err := config.CacheUnmanagedTLSCertificate(ctx, bare, nil)
	if err != nil {
		return nil, err
	}
	defer cache.Remove([]string{hash})
	for _, name := range certNames(cert.Leaf) {
		for _, held := range cache.AllMatchingCertificates(name) {
			if held.Hash() == hash {
				return held.OCSPStaple, nil
			}
		}
	}
	return nil, nil
}

func certNames(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// httpChallenge answers from memory, or from storage what another process that
// shares it is being asked.
func (o *orders) httpChallenge(host, token string) (string, bool) {
	if c, ok := certmagic.GetACMEChallenge(host); ok {
		return c.KeyAuthorization, c.Type == acme.ChallengeTypeHTTP01 && c.Token == token
	}
	_, issuers := o.current()
	if len(issuers) == 0 || issuers[0].DisableHTTPChallenge {
		return "", false
	}
	answer := answer{header: http.Header{}}
	issuers[0].HandleHTTPChallenge(&answer, &http.Request{
		Method: http.MethodGet, Host: host, URL: &url.URL{Path: "/.well-known/acme-challenge/" + token},
	})
	return answer.body.String(), answer.body.Len() > 0
}

// answer catches what certmagic writes.
type answer struct {
	header http.Header
	body   strings.Builder
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(int)             {}
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (o *orders) challengeCertificate(h *cryptotls.ClientHelloInfo) (*cryptotls.Certificate, error) {
	config, issuers := o.current()
	if config == nil || len(issuers) == 0 || issuers[0].DisableTLSALPNChallenge {
		return nil, errNoChallenge
	}
	lower := *h
	lower.ServerName = strings.ToLower(h.ServerName)
	cert, err := config.GetCertificate(&lower)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNoChallenge, err)
	}
	return cert, nil
}

// explain says in plain words why an order failed, and whether a rate limit of
// the CA was the reason.
func (o *orders) explain(host string, err error) (reason string, limited bool) {
	var problem acme.Problem
	if !errors.As(err, &problem) {
		if unwritable := o.store.probe(); unwritable != nil {
			o.log.Error().Err(unwritable).Msg("the state directory cannot be written: certificates are served but not renewed")
			return printable("the state directory cannot be written: " + unwritable.Error()), false
		}
		return printable(bareText(host, err)), false
	}
	reason = problem.Detail
	for _, part := range problem.Subproblems {
		reason += "; " + part.Detail
	}
	kind := strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:")
	return printable(fmt.Sprintf("the ACME server says %s: %s", kind, reason)), problem.Type == acme.ProblemTypeRateLimited
}

// bareText leaves out what whoever reads it knows.
func bareText(host string, err error) string {
	text := err.Error()
	for _, prefix := range []string{"[" + host + "] ", "Obtain: ", "Renew: ", "[" + host + "] "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

// storage is the state directory. Its locks, other than those of certmagic's
// FileStorage, leave no goroutine behind and end with the process.
type storage struct {
	certmagic.FileStorage
	locks  *locks
	issuer string // whose accounts it holds
}

// accountWait bounds the wait for an account that another order registers, so
// that a server which does not answer does not keep names from the next one.
const accountWait = 5 * time.Second

func (s *storage) Lock(ctx context.Context, name string) error {
	if isAccount(name) {
		waiting, cancel := context.WithTimeout(ctx, accountWait)
		defer cancel()
		ctx = waiting
	}
	return s.locks.lock(ctx, s.lockName(name))
}

func (s *storage) TryLock(_ context.Context, name string) (bool, error) {
	return s.locks.tryLock(s.lockName(name))
}

func (s *storage) Unlock(_ context.Context, name string) error {
	return s.locks.unlock(s.lockName(name))
}

// lockName tells the accounts of one address at two servers apart, which
// certmagic does not.
func (s *storage) lockName(name string) string {
	if isAccount(name) {
		name += "_" + s.issuer
	}
	return certmagic.StorageKeys.Safe(name)
}

func isAccount(lock string) bool { return strings.HasPrefix(lock, "register_acme_account") }

// probe tries to write as much as a certificate takes.
func (s *storage) probe() error {
	f, err := os.CreateTemp(s.Path, ".probe-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 10<<10))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// zapCore writes what certmagic logs into our log. Its everyday steps are of
// interest to nobody, and its errors are repeated by jobs in plain words.
type zapCore struct{ log zerolog.Logger }

func levelOf(e zapcore.Level) zerolog.Level {
	switch {
	case e >= zapcore.DPanicLevel:
		return zerolog.ErrorLevel
	case e >= zapcore.WarnLevel:
		return zerolog.WarnLevel
	case e == zapcore.InfoLevel:
		return zerolog.DebugLevel
	default:
		return zerolog.TraceLevel
	}
}

func (c zapCore) Enabled(l zapcore.Level) bool {
	return levelOf(l) >= max(c.log.GetLevel(), zerolog.GlobalLevel())
}

func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	with := c.log.With()
	for name, value := range fieldValues(fields) {
		with = with.Str(name, value)
	}
	return zapCore{with.Logger()}
}

func (c zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := levelOf(e.Level)
	// Any client can cause the one, and certmagic repeats what the other says.
	if e.Message == "tls-alpn challenge" || strings.HasSuffix(e.LoggerName, ".acme_client") {
		level = min(level, zerolog.DebugLevel)
	}
	event := c.log.WithLevel(level)
	for name, value := range fieldValues(fields) {
		event = event.Str(name, value)
	}
	event.Str("from", "certmagic").Msg(printable(e.Message))
	return nil
}

func (c zapCore) Sync() error { return nil }

func fieldValues(fields []zapcore.Field) map[string]string {
	all := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(all)
	}
	values := make(map[string]string, len(all.Fields))
	for name, value := range all.Fields {
		values[name] = printable(fmt.Sprint(value))
	}
	return values
}
