package upstream

import (
	"bytes"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Lease is one connection to a backend in use.
type Lease struct {
	pool    *Pool
	backend *Backend
	conn    *conn
	client  *message.Client
	known   bool // the visitor has the backend's cookie
}

// Backend is who answers.
func (l *Lease) Backend() *Backend { return l.backend }

// Release ends an exchange: the connection is pooled if it is in a clean
// state, else closed. It returns after the upload has ended, and says when that
// was.
func (l *Lease) Release() (ended time.Time) {
	c := l.conn
	defer l.backend.leave()
	c.early.end()
	reusable := c.vm.Finish()
	ended = c.began.Add(time.Since(c.began))
	switch {
	case c.h1 == nil: // the stream has ended, the connection is shared
	case !reusable || l.pool.retired.Load():
		c.vm.Close()
	case l.pool.private.Load():
		c.reused = true
		l.client.Attach(l.backend, c)
	default:
		c.reused = true
		l.backend.put(c, ended)
	}
	return ended
}

// Fail ends an exchange whose connection must not be used again.
func (l *Lease) Fail() {
	l.conn.end()
	l.backend.leave()
}

// Duplex takes the connection out of an exchange after a 101. Done must be
// called when the tunnel has ended.
func (l *Lease) Duplex() message.Duplex { return l.conn.vm.Duplex() }

// Socket is the connection of a tunnel, which the caller closes; Done must be
// called when it has ended.
func (l *Lease) Socket() *socket.Socket { return l.conn.sock }

// Done ends the accounting of a tunnel.
func (l *Lease) Done() { l.backend.leave() }

// noteIdentity makes the pool private when a VM authenticates connections
// instead of requests (NTLM and Negotiate, RFC 4559 section 6).
func (p *Pool) noteIdentity(r *message.Response) {
	if r.Status != 401 || p.spec.HTTP2 || p.private.Load() {
		return
	}
	for _, f := range r.Header.All() {
		if f.ID == message.WWWAuthenticate && identifies(f.Value) {
			p.private.Store(true)
		}
	}
}

// identifies reports whether one of a list of challenges (RFC 9110 section
// 11.6.1) is of a scheme that authenticates the connection.
func identifies(challenges []byte) bool {
	for len(challenges) > 0 {
		var element []byte
		element, challenges = cutElement(challenges)
		scheme, _, _ := bytes.Cut(bytes.TrimLeft(element, " \t"), []byte{' '})
		if scheme = bytes.TrimRight(scheme, "\t"); message.EqualFold(scheme, "negotiate") || message.EqualFold(scheme, "ntlm") {
			return true
		}
	}
	return false
}

// cutElement takes the first element of a list; commas in quotes do not count.
func cutElement(list []byte) (element, rest []byte) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, nil
}
