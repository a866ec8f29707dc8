package upstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"usher/proxy/message"
)

// cookie is what keeps visitors on a backend. Its value is the signed hash of
// the address, so that it is the same after a restart and says nothing of the
// network behind.
type cookie struct {
	value         string
	plain, secure []byte // values of Set-Cookie
}

const cookieBytes = 18 // of the signature: 24 letters

func newCookie(s *Sticky, address string) *cookie {
	mac := hmac.New(sha256.New, s.Key)
	mac.Write([]byte("sticky backend " + address))
	c := &cookie{value: base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:cookieBytes])}
	c.plain = fmt.Appendf(nil, "%s=%s; Path=/; HttpOnly; SameSite=Lax", s.Cookie, c.value)
	if s.TTL > 0 {
		c.plain = fmt.Appendf(c.plain, "; Max-Age=%d", int64(s.TTL.Seconds()))
	}
	c.secure = append(c.plain[:len(c.plain):len(c.plain)], "; Secure"...)
	return c
}

// visitor is the backend whose cookie a request has; nil when it has none, or
// one that was not made here or for a backend that has gone.
func (p *Pool) visitor(ex *message.Exchange) *Backend {
	v, ok := cookieOf(&ex.Request.Header, p.spec.Sticky.Cookie)
	if !ok {
		return nil
	}
	for _, b := range p.Backends() {
		if b.cookie != nil && len(v) == len(b.cookie.value) && subtle.ConstantTimeCompare(v, []byte(b.cookie.value)) == 1 {
			return b
		}
	}
	return nil
}

// Cookie is the value of the Set-Cookie field that keeps the visitor on the
// backend that answers, for a connection with or without TLS; nil when there
// is nothing to set.
func (l *Lease) Cookie(secure bool) []byte {
	c := l.backend.cookie
	switch {
	case c == nil || l.known:
		return nil
	case secure:
		return c.secure
	}
	return c.plain
}
