package proxy

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strconv"

	"usher/proxy/message"
)

// rewriteRequest makes the request the one that the VM gets: forwarding fields
// of untrusted peers are dropped in every spelling, then ours are added.
func (p *Proxy) rewriteRequest(snap *Snapshot, ex *message.Exchange) {
	believed := len(snap.TrustedProxies) > 0 && trusted(snap.TrustedProxies, ex.Client.Addr.Addr())
	chain := forwardedChain(ex, believed)
	h := &ex.Request.Header
	h.DeleteFunc(func(f *message.Field) bool {
		switch f.ID {
		case message.XForwardedFor, message.XRealIP, message.XRequestID:
			return true
		}
		return f.ID.Forwarding() && (!believed || bytes.IndexByte(f.Name, '_') >= 0)
	})
	h.AddField(message.XForwardedFor, xForwardedFor, chain)
	addMissing(h, message.XForwardedProto, xForwardedProto, scheme(ex))
	addMissing(h, message.XForwardedHost, xForwardedHost, ex.Request.Authority)
	addMissing(h, message.XForwardedPort, xForwardedPort, snap.port(ex))
	client := chain
	if believed {
		client = appendAddr(ex.Scratch(addrLen), ex.From)
	}
	h.AddField(message.XRealIP, xRealIP, client)
	h.AddField(message.XRequestID, xRequestID, ex.Trace.RequestID)
	h.AddField(message.Via, via, p.via)
	if believed {
		extendForwarded(ex)
	}
}

// The names of our fields, never changed.
var (
	xForwardedFor   = []byte("X-Forwarded-For")
	xForwardedProto = []byte("X-Forwarded-Proto")
	xForwardedHost  = []byte("X-Forwarded-Host")
	xForwardedPort  = []byte("X-Forwarded-Port")
	xRealIP         = []byte("X-Real-IP")
	xRequestID      = []byte("X-Request-Id")
	via             = []byte("Via")
	protoHTTP       = []byte("http")
	protoHTTPS      = []byte("https")
)

const addrLen = 48 // of an IP address as text, zone included

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() { // a client on a Unix socket
		return append(b, "unknown"...)
	}
	return a.AppendTo(b)
}

// addMissing adds a field unless a trusted proxy has said it already.
func addMissing(h *message.Header, id message.ID, name, value []byte) {
	if _, ok := h.Get(id); !ok {
		h.AddField(id, name, value)
	}
}

func scheme(ex *message.Exchange) []byte {
	if ex.Client.TLS {
		return protoHTTPS
	}
	return protoHTTP
}

// port is what X-Forwarded-Port says: the public port on TLS, else the local
// one.
func (s *Snapshot) port(ex *message.Exchange) []byte {
	n := ex.Client.Local.Port()
	if ex.Client.TLS {
		n = s.PublicHTTPSPort
	}
	return strconv.AppendUint(ex.Scratch(5), uint64(n), 10)
}

// forwardedChain is the value of X-Forwarded-For: what trusted proxies said,
// then the peer.
func forwardedChain(ex *message.Exchange, believed bool) []byte {
	size := addrLen
	if believed {
		for _, f := range ex.Request.Header.All() {
			if f.ID == message.XForwardedFor {
				size += len(f.Value) + 2
			}
		}
	}
	b := ex.Scratch(size)
	if believed {
		for _, f := range ex.Request.Header.All() {
			if f.ID == message.XForwardedFor && len(f.Value) > 0 && bytes.IndexByte(f.Name, '_') < 0 {
				b = append(append(b, f.Value...), ", "...)
			}
		}
	}
	return appendAddr(b, ex.Client.Addr.Addr())
}

// extendForwarded appends our element to a Forwarded field (RFC 7239) that a
// trusted proxy sent.
func extendForwarded(ex *message.Exchange) {
	fields := ex.Request.Header.All()
	for i := len(fields) - 1; i >= 0; i-- {
		if f := &fields[i]; f.ID == message.Forwarded {
			addr := ex.Client.Addr.Addr()
			b := append(ex.Scratch(len(f.Value)+addrLen+16), f.Value...)
			if addr.Is6() {
				b = append(addr.AppendTo(append(b, `, for="[`...)), `]"`...)
			} else {
				b = appendAddr(append(b, ", for="...), addr)
			}
			f.Value = b
			return
		}
	}
}

// viaProtocol is before our token in Via.
const viaProtocol = "1.1 "

// viaUs reports whether this process has seen the request before.
func (p *Proxy) viaUs(ex *message.Exchange) bool {
	fields := ex.Request.Header.All()
	for i := range fields {
		if f := &fields[i]; f.ID == message.Via && bytes.Contains(f.Value, p.via[len(viaProtocol):]) {
			return true
		}
	}
	return false
}

// requestID is the one a trusted proxy gave, or a new one of 26 letters and
// digits.
func (s *Snapshot) requestID(ex *message.Exchange) []byte {
	if len(s.TrustedProxies) > 0 && trusted(s.TrustedProxies, ex.Client.Addr.Addr()) {
		if id, ok := ex.Request.Header.Get(message.XRequestID); ok && isID(id) {
			return id
		}
	}
	const half = 13 // letters for 64 bits
	id := ex.Scratch(2 * half)[:2*half]
	a, b := rand.Uint64(), rand.Uint64() // ChaCha8, seeded by the kernel
	for i := range half {
		id[i], id[half+i] = idLetters[a%32], idLetters[b%32]
		a, b = a/32, b/32
	}
	return id
}

// idLetters are digits and the letters that nobody takes for another.
const idLetters = "0123456789abcdefghjkmnpqrstvwxyz"

// isID reports whether an id can stand in logs and pages as it is.
func isID(id []byte) bool {
	for _, c := range id {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(id) > 0 && len(id) <= 128
}

// rewriteResponse makes the response the one that the client gets.
func rewriteResponse(snap *Snapshot, site *Site, ex *message.Exchange) {
	h := &ex.Response.Header
	// A client that thinks its protocol was changed must not go on in ours.
	ex.Response.Close = ex.Request.Upgrade != nil && ex.Response.Status != 101
	h.DeleteFunc(func(f *message.Field) bool {
		return f.ID == message.AltSvc || f.ID == message.StrictTransportSecurity && site.HSTS
	})
	advertise(snap, site, ex)
}

// advertise tells a client how to come next time: by TLS (RFC 6797) where the
// site has hsts, and by HTTP/3 (RFC 7838). Neither is said on plain
// connections, where anybody could have said it.
func advertise(snap *Snapshot, site *Site, ex *message.Exchange) {
	if !ex.Client.TLS {
		return
	}
	h := &ex.Response.Header
	if site.HSTS {
		h.AddField(message.StrictTransportSecurity, hstsName, hstsValue)
	}
	if snap.AltSvc != nil && ex.Client.Proto != message.HTTP3 {
		h.AddField(message.AltSvc, altSvcName, snap.AltSvc)
	}
}

var (
	hstsName   = []byte("Strict-Transport-Security")
	hstsValue  = []byte("max-age=31536000")
	altSvcName = []byte("Alt-Svc")
)
