package tls

import (
	"context"
	cryptotls "crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// certmagic throttles orders of the whole process; the throttle that is tested
// is the one of jobs.
func TestMain(m *testing.M) {
	certmagic.RateLimitEvents = 100_000
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"))
}

// edge is what stands around Certificates in the program: a plain and a TLS
// listener that answer validations and show certificates.
type edge struct {
	*Certificates
	t           *testing.T
	options     Options
	log         *logLines
	plain       *net.TCPListener
	secure      *net.TCPListener
	stop        func()
	served      sync.WaitGroup
	connections sync.Map
}

type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func listenTCP(t *testing.T, addr string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func addrOf(l *net.TCPListener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// newEdge makes an edge in front of the ACME servers. It runs after start.
func newEdge(t *testing.T, dir string, servers ...*acmeServer) *edge {
	t.Helper()
	e := &edge{t: t, log: &logLines{}, plain: listenTCP(t, "127.0.0.1:0"), secure: listenTCP(t, "127.0.0.1:0")}
	e.options = Options{
		StateDir: dir, Email: "ops@example.test", Log: zerolog.New(e.log).Level(zerolog.DebugLevel),
		HTTPAddrs: []netip.AddrPort{addrOf(e.plain)}, TLSAddrs: []netip.AddrPort{addrOf(e.secure)},
	}
	for _, a := range servers {
		a.HTTPAddr, a.TLSAddr = e.plain.Addr().String(), e.secure.Addr().String()
		e.options.Issuers = append(e.options.Issuers, a.issuer())
	}
	certs, err := New(e.options)
	if err != nil {
		t.Fatal(err)
	}
	e.Certificates = certs
	e.fast()
	plain := &http.Server{Handler: http.HandlerFunc(e.servePlain)}
	e.served.Go(func() { plain.Serve(e.plain) })
	e.served.Go(e.serveSecure)
	t.Cleanup(func() {
		plain.Close()
		e.secure.Close()
		e.connections.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		e.served.Wait()
	})
	return e
}

// fast takes the waits out that are there for the sake of real CAs.
func (e *edge) fast() {
	e.jobs.lanes[placeOrder].rate = window{}
	e.jobs.lanes[askRenewal].rate = window{}
	e.pace.settle = 0
}

func (e *edge) start() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(e.stop)
}

func (e *edge) apply(wants ...Want) {
	e.t.Helper()
	if err := e.Apply(e.options, wants); err != nil {
		e.t.Fatal(err)
	}
}

func (e *edge) servePlain(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if token, ok := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/"); ok {
		if auth, ok := e.HTTPChallenge(host, token); ok {
			w.Write([]byte(auth))
			return
		}
	}
	http.NotFound(w, r)
}

func (e *edge) serveSecure() {
	cfg := &cryptotls.Config{GetConfigForClient: func(h *cryptotls.ClientHelloInfo) (*cryptotls.Config, error) {
		if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == alpnChallenge {
			return e.ChallengeConfig(), nil
		}
		return e.ServerConfig(), nil
	}}
	for {
		conn, err := e.secure.Accept()
		if err != nil {
			return
		}
		e.connections.Store(conn, nil)
		e.served.Go(func() {
			defer e.connections.Delete(conn)
			defer conn.Close()
			secure := cryptotls.Server(conn, cfg)
			if secure.Handshake() == nil {
				fmt.Fprint(secure, "hello")
				secure.CloseWrite()
				secure.Read(make([]byte, 1))
			}
		})
	}
}

// dial makes a handshake with the edge and reads what it says.
func (e *edge) dial(cfg *cryptotls.Config) (cryptotls.ConnectionState, error) {
	conn, err := cryptotls.Dial("tcp", e.secure.Addr().String(), cfg)
	if err != nil {
		return cryptotls.ConnectionState{}, err
	}
	defer conn.Close()
	n, err := conn.Read(make([]byte, 16)) // takes the session tickets in, too
	if n > 0 {
		err = nil
	}
	return conn.ConnectionState(), err
}

// shownFor is the leaf that a client with this SNI sees, or nil.
func (e *edge) shownFor(name string) *x509.Certificate {
	state, err := e.dial(&cryptotls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	return state.PeerCertificates[0]
}

func (e *edge) statusOf(host string) Status {
	if s := e.find(host); s != nil {
		return e.status(s)
	}
	return Status{}
}

// eventually polls until what is waited for has happened.
func (e *edge) eventually(what string, happened func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			states, log := e.Status(), e.log.String()
			e.t.Fatalf("never happened: %s\nstatus: %+v\nlog: %s", what, states[:min(5, len(states))], log[max(0, len(log)-3000):])
		}
	}
}

func (e *edge) waitValid(hosts ...string) {
	e.t.Helper()
	for _, host := range hosts {
		e.eventually(host+" is valid", func() bool { return e.statusOf(host).State == Valid })
	}
}

func acmeWant(host string) Want  { return Want{Host: host, Kind: KindACME} }
func localWant(host string) Want { return Want{Host: host, Kind: KindLocal} }
