package tls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	cryptotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// acmeServer is a small ACME server (RFC 8555, RFC 8737, RFC 8738, RFC 9773)
// that checks signatures and nonces and really connects to validate names.
type acmeServer struct {
	*httptest.Server
	CAFile string
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey

	// Where names are validated, and by what.
	HTTPAddr, TLSAddr string
	Types             []string

	Registering func() // called before an account is made

	Refuse   func(host string) *acmeProblem // says no to an order
	Hold     func(host string) bool         // never ends the validation of a name
	Lifetime func(host string) (backdated, left time.Duration)
	Renewal  func(serial string) (start, end time.Time) // nil: not supported
	EAB      map[string]string                          // key ID to base64url key: required when not nil
	BadNonce int                                        // every so many requests are refused for their nonce

	mu       sync.Mutex
	requests int
	nonces   map[string]bool
	accounts map[string]*acmeAccount
	orders   map[string]*acmeOrder
	placed   map[string]int // orders by host
	replaced []string
	contacts []string
	busy     sync.WaitGroup
}

type acmeAccount struct {
	key   *ecdsa.PublicKey
	thumb string
}

type acmeOrder struct {
	host, kind, token string
	account           *acmeAccount
	status            string // of the order
	authz             string
	failure           *acmeProblem
	chain             []byte
}

type acmeProblem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status"`
}

func problemOf(kind, detail string) *acmeProblem {
	status := http.StatusForbidden
	switch kind {
	case "badNonce", "malformed":
		status = http.StatusBadRequest
	case "rateLimited":
		status = http.StatusTooManyRequests
	}
	return &acmeProblem{"urn:ietf:params:acme:error:" + kind, detail, status}
}

func newACMEServer(t *testing.T) *acmeServer {
	t.Helper()
	a := &acmeServer{
		Types:  []string{"http-01", "tls-alpn-01"},
		nonces: map[string]bool{}, accounts: map[string]*acmeAccount{}, orders: map[string]*acmeOrder{}, placed: map[string]int{},
		Lifetime: func(string) (time.Duration, time.Duration) { return time.Hour, 90 * day },
	}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-365 * day), NotAfter: time.Now().Add(365 * day), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.ca, _ = x509.ParseCertificate(der)
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.EnableHTTP2 = true // as real ones do: orders share a connection
	a.StartTLS()
	a.CAFile = filepath.Join(t.TempDir(), "acme-ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
	if err := os.WriteFile(a.CAFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); a.busy.Wait() })
	return a
}

func (a *acmeServer) issuer() Issuer { return Issuer{Directory: a.URL + "/dir", CAFile: a.CAFile} }

// Placed is how many orders there were for a host.
func (a *acmeServer) Placed(host string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.placed[host]
}

func (a *acmeServer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", a.newNonce())
	switch part := strings.Split(r.URL.Path, "/"); {
	case part[1] == "dir":
		a.directory(w)
	case part[1] == "nonce":
	case part[1] == "account" && a.Registering != nil:
		a.Registering()
		w.WriteHeader(http.StatusServiceUnavailable)
	case part[1] == "ari":
		a.renewal(w, part[2])
	case r.Method != http.MethodPost:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		a.post(w, r, part[1], part[len(part)-1])
	}
}

func (a *acmeServer) newNonce() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	nonce := rand.Text()
	a.nonces[nonce] = true
	return nonce
}

func (a *acmeServer) directory(w http.ResponseWriter) {
	dir := map[string]any{
		"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/neworder",
		"revokeCert": a.URL + "/revoke", "keyChange": a.URL + "/keychange",
		"meta": map[string]any{"externalAccountRequired": a.EAB != nil, "termsOfService": "https://example.test/terms"},
	}
	if a.Renewal != nil {
		dir["renewalInfo"] = a.URL + "/ari"
	}
	answerJSON(w, http.StatusOK, dir)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if p, ok := v.(*acmeProblem); ok {
		w.Header().Set("Content-Type", "application/problem+json")
		status = p.Status
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (a *acmeServer) renewal(w http.ResponseWriter, id string) {
	start, end := a.Renewal(id)
	w.Header().Set("Retry-After", "21600")
	answerJSON(w, http.StatusOK, map[string]any{"suggestedWindow": map[string]any{"start": start, "end": end}})
}

// jws is a flattened JSON web signature (RFC 7515) as ACME uses it.
type jws struct {
	Protected, Payload, Signature string
}

type jwsHead struct {
	Alg, Nonce, URL, Kid string
	JWK                  *struct{ Crv, Kty, X, Y string }
}

func decode64(s string) []byte {
	b, _ := base64.RawURLEncoding.DecodeString(s)
	return b
}

func (a *acmeServer) post(w http.ResponseWriter, r *http.Request, what, id string) {
	var msg jws
	var head jwsHead
	json.NewDecoder(r.Body).Decode(&msg)
	json.Unmarshal(decode64(msg.Protected), &head)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	if !a.nonces[head.Nonce] || a.BadNonce > 0 && a.requests%a.BadNonce == 0 {
		answerJSON(w, 0, problemOf("badNonce", "no such nonce"))
		return
	}
	delete(a.nonces, head.Nonce)
	account, err := a.signer(&msg, &head, r)
	if err != nil {
		answerJSON(w, 0, problemOf("malformed", err.Error()))
		return
	}
	a.answer(w, what, id, account, decode64(msg.Payload))
}

func (a *acmeServer) signer(msg *jws, head *jwsHead, r *http.Request) (*acmeAccount, error) {
	account := a.accounts[head.Kid]
	if head.JWK != nil {
		x, y := decode64(head.JWK.X), decode64(head.JWK.Y)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, head.JWK.X, head.JWK.Y))
		account = &acmeAccount{key, base64.RawURLEncoding.EncodeToString(sum[:])}
	}
	if account == nil || head.Alg != "ES256" || head.URL != a.URL+r.URL.Path {
		return nil, fmt.Errorf("no account %q, or not the URL %q", head.Kid, head.URL)
	}
	sum, sig := sha256.Sum256([]byte(msg.Protected+"."+msg.Payload)), decode64(msg.Signature)
	if len(sig) != 64 || !ecdsa.Verify(account.key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, errors.New("bad signature")
	}
	return account, nil
}

func (a *acmeServer) answer(w http.ResponseWriter, what, id string, account *acmeAccount, payload []byte) {
	order := a.orders[id]
	switch what {
	case "account":
		a.newAccount(w, account, payload)
	case "neworder":
		a.newOrder(w, account, payload)
	case "order":
		a.answerOrder(w, http.StatusOK, id, order)
	case "authz":
		if bytes.Contains(payload, []byte("deactivated")) {
			order.authz = "deactivated"
		}
		if a.Hold != nil && a.Hold(order.host) {
			w.Header().Set("Retry-After", "60")
		}
		answerJSON(w, http.StatusOK, a.authz(id, order))
	case "http-01", "tls-alpn-01":
		order.kind = what
		a.busy.Go(func() { a.validate(order) })
		answerJSON(w, http.StatusOK, map[string]any{"type": what, "status": "processing", "url": a.URL + "/" + what + "/" + id, "token": order.token})
	case "finalize":
		a.finalize(w, id, order, payload)
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(order.chain)
	default:
		answerJSON(w, 0, problemOf("malformed", "no such resource "+what))
	}
}

func (a *acmeServer) newAccount(w http.ResponseWriter, account *acmeAccount, payload []byte) {
	var req struct {
		Contact                []string
		TermsOfServiceAgreed   bool
		ExternalAccountBinding *jws
	}
	json.Unmarshal(payload, &req)
	if !req.TermsOfServiceAgreed {
		answerJSON(w, 0, problemOf("userActionRequired", "terms not agreed to"))
		return
	}
	if a.EAB != nil && !a.validBinding(req.ExternalAccountBinding) {
		answerJSON(w, 0, problemOf("externalAccountRequired", "no valid external account"))
		return
	}
	kid := fmt.Sprintf("%s/acct/%d", a.URL, len(a.accounts))
	a.accounts[kid] = account
	a.contacts = append(a.contacts, strings.Join(req.Contact, ","))
	w.Header().Set("Location", kid)
	answerJSON(w, http.StatusCreated, map[string]any{"status": "valid", "contact": req.Contact})
}

func (a *acmeServer) validBinding(b *jws) bool {
	if b == nil {
		return false
	}
	var head jwsHead
	json.Unmarshal(decode64(b.Protected), &head)
	mac := hmac.New(sha256.New, decode64(a.EAB[head.Kid]))
	io.WriteString(mac, b.Protected+"."+b.Payload)
	return a.EAB[head.Kid] != "" && hmac.Equal(mac.Sum(nil), decode64(b.Signature))
}

func (a *acmeServer) newOrder(w http.ResponseWriter, account *acmeAccount, payload []byte) {
	var req struct {
		Identifiers []struct{ Value string }
		Replaces    string
	}
	json.Unmarshal(payload, &req)
	host := req.Identifiers[0].Value
	a.placed[host]++
	if req.Replaces != "" {
		a.replaced = append(a.replaced, host)
	}
	if a.Refuse != nil {
		if p := a.Refuse(host); p != nil {
			answerJSON(w, 0, p)
			return
		}
	}
	id := fmt.Sprint(len(a.orders))
	order := &acmeOrder{host: host, account: account, status: "pending", authz: "pending", token: rand.Text()}
	a.orders[id] = order
	w.Header().Set("Location", a.URL+"/order/"+id)
	a.answerOrder(w, http.StatusCreated, id, order)
}

func (a *acmeServer) identifier(o *acmeOrder) map[string]string {
	if net.ParseIP(o.host) != nil {
		return map[string]string{"type": "ip", "value": o.host}
	}
	return map[string]string{"type": "dns", "value": o.host}
}

func (a *acmeServer) answerOrder(w http.ResponseWriter, status int, id string, o *acmeOrder) {
	body := map[string]any{
		"status": o.status, "identifiers": []any{a.identifier(o)}, "expires": time.Now().Add(time.Hour),
		"authorizations": []string{a.URL + "/authz/" + id}, "finalize": a.URL + "/finalize/" + id,
	}
	if o.status == "valid" {
		body["certificate"] = a.URL + "/cert/" + id
	}
	answerJSON(w, status, body)
}

func (a *acmeServer) authz(id string, o *acmeOrder) any {
	var challenges []any
	for _, kind := range a.Types {
		c := map[string]any{"type": kind, "url": a.URL + "/" + kind + "/" + id, "token": o.token, "status": "pending"}
		if o.kind == kind && o.failure != nil {
			c["status"], c["error"] = "invalid", o.failure
		}
		challenges = append(challenges, c)
	}
	return map[string]any{"status": o.authz, "identifier": a.identifier(o), "challenges": challenges}
}

func (a *acmeServer) validate(o *acmeOrder) {
	if a.Hold != nil && a.Hold(o.host) {
		return
	}
	keyAuth := o.token + "." + o.account.thumb
	check := a.validateHTTP
	if o.kind == "tls-alpn-01" {
		check = a.validateTLS
	}
	err := check(o.host, o.token, keyAuth)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		o.authz, o.status, o.failure = "invalid", "invalid", problemOf("unauthorized", o.kind+": "+err.Error())
		return
	}
	o.authz, o.status = "valid", "ready"
}

func (a *acmeServer) validateHTTP(host, token, keyAuth string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.HTTPAddr+"/.well-known/acme-challenge/"+token, nil)
	r.Host = host
	transport := &http.Transport{DisableKeepAlives: true}
	got, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	if body, _ := io.ReadAll(got.Body); got.StatusCode != http.StatusOK || string(body) != keyAuth {
		return fmt.Errorf("answered %s", got.Status)
	}
	return nil
}

func (a *acmeServer) validateTLS(host, _, keyAuth string) error {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := cryptotls.DialWithDialer(dialer, "tcp", a.TLSAddr, &cryptotls.Config{
		ServerName: host, NextProtos: []string{alpnChallenge}, InsecureSkipVerify: true,
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	state, sum := conn.ConnectionState(), sha256.Sum256([]byte(keyAuth))
	leaf := state.PeerCertificates[0]
	if state.NegotiatedProtocol != alpnChallenge || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != host {
		return fmt.Errorf("protocol %q for %q", state.NegotiatedProtocol, leaf.DNSNames)
	}
	for _, e := range leaf.Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.31" && e.Critical && bytes.HasSuffix(e.Value, sum[:]) {
			return nil
		}
	}
	return errors.New("no key authorization in the certificate")
}

func (a *acmeServer) finalize(w http.ResponseWriter, id string, o *acmeOrder, payload []byte) {
	var req struct{ CSR string }
	json.Unmarshal(payload, &req)
	csr, err := x509.ParseCertificateRequest(decode64(req.CSR))
	if err != nil || o.status != "ready" || csr.CheckSignature() != nil {
		answerJSON(w, 0, problemOf("malformed", "order is not ready"))
		return
	}
	backdated, left := a.Lifetime(o.host)
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: time.Now().Add(-backdated), NotAfter: time.Now().Add(left),
		DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, csr.PublicKey, a.key)
	if err != nil {
		answerJSON(w, 0, problemOf("malformed", err.Error()))
		return
	}
	o.chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	o.status = "valid"
	w.Header().Set("Location", a.URL+"/order/"+id)
	a.answerOrder(w, http.StatusOK, id, o)
}
