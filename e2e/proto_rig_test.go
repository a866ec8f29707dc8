package e2e

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// edge is an usher in the hands of a client of one protocol.
type edge struct {
	*rig.Usher
	protopeer.Proto
	t *testing.T
}

// each runs a test of behaviour in every protocol, as subtests.
func each(t *testing.T, u *rig.Usher, f func(*testing.T, edge)) {
	t.Helper()
	for _, p := range protopeer.All() {
		t.Run(string(p), func(t *testing.T) { f(t, edge{u.For(t), p, t}) })
	}
}

// multiplexed is each without HTTP/1.1: for frames and streams.
func multiplexed(t *testing.T, u *rig.Usher, f func(*testing.T, edge)) {
	t.Helper()
	for _, p := range []protopeer.Proto{protopeer.H2, protopeer.H3} {
		t.Run(string(p), func(t *testing.T) { f(t, edge{u.For(t), p, t}) })
	}
}

// conf is a client's configuration for a host whose certificate is there.
func (e edge) conf(host string) *tls.Config {
	e.t.Helper()
	e.TLS(host).Close()
	return &tls.Config{ServerName: host, RootCAs: e.Roots()}
}

// raw opens a connection for a host.
func (e edge) raw(host string) protopeer.Conn {
	e.t.Helper()
	return e.rawWith(e.conf(host))
}

func (e edge) rawWith(conf *tls.Config) protopeer.Conn {
	e.t.Helper()
	c, err := protopeer.Dial(e.Proto, e.HTTPS, conf)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	return c
}

// client is a library's client for some hosts.
func (e edge) client(hosts ...string) *http.Client {
	e.t.Helper()
	for _, host := range hosts {
		e.TLS(host).Close()
	}
	tr, err := protopeer.NewTransport(e.Proto, e.HTTPS, &tls.Config{RootCAs: e.Roots()})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if c, ok := tr.(io.Closer); ok {
			c.Close()
		}
		tr.CloseIdleConnections()
	})
	return &http.Client{Transport: tr, Timeout: 2 * peer.Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// open sends the head of a request.
func (e edge) open(c protopeer.Conn, r protopeer.Request, end bool) protopeer.Stream {
	e.t.Helper()
	s, err := c.Open(r, end)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// ask sends a whole request on a connection and wants a whole answer.
func (e edge) ask(c protopeer.Conn, r protopeer.Request, body string) protopeer.Answer {
	e.t.Helper()
	a, err := protopeer.Ask(c, r, body)
	if err != nil {
		e.t.Fatalf("%s %s%s: %v after %+v", r.Method, r.Authority, r.Path, err, a.Head)
	}
	return a
}

// get asks for a path of aaaa.test on a connection of its own.
func (e edge) get(path string, fields ...protopeer.Field) protopeer.Answer {
	e.t.Helper()
	c := e.raw("aaaa.test")
	defer c.Close()
	return e.ask(c, protopeer.Request{Authority: "aaaa.test", Path: path, Fields: fields}, "")
}

// head waits for a final head.
func (e edge) head(s protopeer.Stream) protopeer.Head {
	e.t.Helper()
	h, err := s.Head()
	if err != nil {
		e.t.Fatal(err)
	}
	return h
}

// want reads exactly the bytes.
func (e edge) want(s io.Reader, want string) {
	e.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s, got); err != nil || string(got) != want {
		e.t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// send writes bytes.
func (e edge) send(s io.Writer, b string) {
	e.t.Helper()
	if _, err := io.WriteString(s, b); err != nil {
		e.t.Fatal(err)
	}
}

// terminated is an usher that terminates aaaa.test for a VM.
func terminated(t *testing.T, vm *peer.VM) *rig.Usher {
	t.Helper()
	return start(t, `[sites]
"aaaa.test" = "http://%s"`, vm.Addr)
}

// newest is the request that came last.
func newest(vm *peer.VM) *strict.Request {
	q := vm.Requests()
	return q[len(q)-1]
}
