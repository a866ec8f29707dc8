package upstream

import (
	"bytes"
	"math"
	"net/netip"

	"usher/proxy/message"
)

// Affinity sends related work to the same backend: equal values prefer the
// same one among those that work. Zero has no preference.
type Affinity uint64

// hash gives each backend a number for this affinity. Each value has an order
// of its own (rendezvous hashing), so that it moves only when its own backend
// fails or returns, not with every change of the others.
func (a Affinity) hash(b *Backend) uint64 {
	h := uint64(a)
	for i := range len(b.text) {
		h = (h ^ uint64(b.text[i])) * fnvPrime
	}
	return mix(h)
}

const (
	fnvBasis = 0xcbf29ce484222325
	fnvPrime = 0x100000001b3
)

// mix is the finaliser of splitmix64: FNV leaves similar texts in a fixed
// order.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// best is the backend that the affinity prefers, each as often as its weight
// says.
func (a Affinity) best(fit []*Backend) *Backend {
	var best *Backend
	top := math.Inf(-1)
	for _, b := range fit {
		// The largest of -w/ln(u) falls on each backend in proportion to w.
		u := (float64(a.hash(b)>>11) + .5) / (1 << 53)
		if score := -b.weight / math.Log(u); score > top {
			best, top = b, score
		}
	}
	return best
}

// affinityOf hashes what identifies a client. The result is the same in every
// process.
func affinityOf(id []byte) Affinity {
	h := uint64(fnvBasis)
	for _, c := range id {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return Affinity(mix(h) | 1)
}

// Key is the affinity of an exchange by the method of the pool: of the
// client's address, of a header field or of a cookie. It is zero for other
// methods and for requests that do not have what is hashed.
func (p *Pool) Key(ex *message.Exchange) Affinity {
	switch b := &p.spec.Balance; b.Method {
	case IPHash:
		return affinityOfAddr(ex.From)
	case HeaderHash:
		if v, ok := ex.Request.Header.Lookup(b.Name); ok {
			return affinityOf(v)
		}
	case CookieHash:
		if v, ok := cookieOf(&ex.Request.Header, b.Name); ok {
			return affinityOf(v)
		}
	}
	return 0
}

// keyOf is the affinity of a tunnel.
func (p *Pool) keyOf(c *message.Client) Affinity {
	if p.spec.Balance.Method == IPHash {
		return affinityOfAddr(c.Addr.Addr())
	}
	return 0
}

func affinityOfAddr(a netip.Addr) Affinity {
	b := a.As16()
	return affinityOf(b[:])
}

// cookieOf finds a cookie in a request (RFC 6265 section 4.2.1).
func cookieOf(h *message.Header, name string) ([]byte, bool) {
	for _, f := range h.All() {
		if f.ID != message.Cookie {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte{';'})
			k, v, ok := bytes.Cut(bytes.TrimLeft(pair, " \t"), []byte{'='})
			if ok && string(k) == name {
				return bytes.TrimRight(v, " \t"), true
			}
		}
	}
	return nil, false
}
