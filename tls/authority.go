package tls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	day          = 24 * time.Hour
	rootLifetime = 10 * 365 * day
	rootRenewal  = 90 * day // a root that ends sooner is replaced
	leafLifetime = 90 * day
	backdating   = time.Hour // for clients whose clock is behind
	maxGuests    = 1000
	rootLock     = "local-ca"
	rootLockWait = 10 * time.Second
	rootRetry    = 10 * time.Second
)

// authority is our own CA. Its root is kept on disk, its leaves only in memory:
// they are made when a client asks, which takes less time than a handshake.
type authority struct {
	dir    string
	locks  *locks
	log    zerolog.Logger
	guests guests

	mu   sync.Mutex
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	failure error     // of the last try
	retry   time.Time // no try before
}

func newAuthority(dir string, l *locks, log zerolog.Logger) *authority {
	return &authority{dir: dir, locks: l, log: log, guests: newGuests(maxGuests)}
}

func (a *authority) certFile() string { return filepath.Join(a.dir, "root.crt") }
func (a *authority) keyFile() string  { return filepath.Join(a.dir, "root.key") }

// open makes sure that there is a root. After a failure the next try waits a
// moment, lest every handshake works the disk.
func (a *authority) open() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root != nil && time.Until(a.root.NotAfter) > rootRenewal || time.Now().Before(a.retry) {
		return a.failure
	}
	root, key, err := a.loadOrCreate()
	switch {
	case err == nil:
		a.root, a.key = root, key
	case a.root != nil:
		a.log.Error().Err(err).Time("not_after", a.root.NotAfter).Msg("the root of the local CA cannot be replaced")
		err = nil
	}
	if a.failure = err; err != nil || a.root.NotAfter.Before(time.Now().Add(rootRenewal)) {
		a.retry = time.Now().Add(rootRetry)
	}
	return err
}

func (a *authority) loadOrCreate() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	root, key, err := a.load()
	if !errors.Is(err, errNoRoot) {
		return root, key, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), rootLockWait)
	defer cancel()
	if err := a.locks.lock(ctx, rootLock); err != nil {
		return nil, nil, fmt.Errorf("locking the local CA: %w", err)
	}
	defer a.locks.unlock(rootLock)
	root, key, err = a.load()
	if !errors.Is(err, errNoRoot) {
		return root, key, err
	}
	a.log.Warn().Str("reason", err.Error()).Str("root", a.certFile()).Msg("making a new local CA: clients have to trust its root")
	return a.create()
}

// errNoRoot: there is no root, or none that can be used.
var errNoRoot = errors.New("no usable root")

// load reads the root. A file that is only half there, or does not belong to
// the other one, is as good as none; one that may not be read is an error.
func (a *authority) load() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(a.certFile())
	if err != nil {
		return nil, nil, absent(err)
	}
	keyPEM, err := os.ReadFile(a.keyFile())
	if err != nil {
		return nil, nil, absent(err)
	}
	both, err := cryptotls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %v", errNoRoot, err)
	}
	key, ok := both.PrivateKey.(*ecdsa.PrivateKey)
	switch {
	case !ok || !both.Leaf.IsCA:
		return nil, nil, fmt.Errorf("%w: not an ECDSA CA", errNoRoot)
	case time.Until(both.Leaf.NotAfter) <= rootRenewal:
		return nil, nil, fmt.Errorf("%w: it ends at %s", errNoRoot, both.Leaf.NotAfter)
	}
	return both.Leaf, key, nil
}

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %v", errNoRoot, err)
	}
	return err
}

func (a *authority) create() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial := newSerial()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "usher local CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	if err := a.save(der, key); err != nil {
		return nil, nil, fmt.Errorf("saving the local CA: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	return root, key, err
}

func (a *authority) save(der []byte, key *ecdsa.PrivateKey) error {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	if err := writeFile(a.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return writeFile(a.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// show is the leaf of a site, made anew when two thirds of its life are over.
func (a *authority) show(s *site) (*shown, error) {
	if now := s.shown.Load(); now != nil && fresh(now) {
		return now, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.shown.Load(); now != nil && fresh(now) {
		return now, nil
	}
	made, err := a.issue(s.want.Host)
	if err == nil {
		s.shown.Store(made)
	}
	return made, err
}

// guest is the leaf of a name that only the catch-all site stands for. The last
// 1,000 are kept.
func (a *authority) guest(name string) (*shown, error) {
	if now := a.guests.get(name); now != nil && fresh(now) {
		return now, nil
	}
	made, err := a.issue(name)
	if err == nil {
		a.guests.put(name, made)
	}
	return made, err
}

func fresh(s *shown) bool { return time.Until(s.cert.Leaf.NotAfter) > leafLifetime/3 }

// issue makes a leaf for a name, a wildcard or an IP literal.
func (a *authority) issue(name string) (*shown, error) {
	if err := a.open(); err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := leafTemplate(name)
	a.mu.Lock()
	root, signer := a.root, a.key
	a.mu.Unlock()
	der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("local CA: certificate for %q: %w", name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("local CA: certificate for %q: %w", name, err)
	}
	return newShown(&cryptotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}), nil
}

func leafTemplate(name string) *x509.Certificate {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-backdating),
		NotAfter:              now.Add(leafLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	return t
}

// newSerial has 127 random bits below a one, so that its length is fixed.
func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}
