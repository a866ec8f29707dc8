package config

import (
	"strings"
	"time"
)

// The methods of Balance.
const (
	BalanceRandom2    = "random2"     // the better of two at random; the default
	BalanceRoundRobin = "round_robin" // in turn
	BalanceLeastConn  = "least_conn"  // the one with the fewest connections
	BalanceIPHash     = "ip_hash"     // by the client's address
	BalanceHeader     = "header"      // by the value of a request header
	BalanceCookie     = "cookie"      // by the value of a cookie
)

// Balance is how a backend is chosen.
type Balance struct {
	Method string
	Name   string // of the header or cookie
}

// Sticky keeps a client at the backend that it was sent to first.
type Sticky struct {
	Cookie string
	TTL    time.Duration // 0: until the browser is closed
}

// balance reads "METHOD", { header = "NAME" } or { cookie = "NAME" }.
func (b *builder) balance(t *table, target *Balance) {
	switch v := t.values["balance"].(type) {
	case nil:
	case string:
		if v == BalanceHeader || v == BalanceCookie {
			t.fault("balance", "%q needs a name: { %s = \"…\" }", v, v)
		} else if v, ok := t.choice("balance", BalanceRandom2, BalanceRoundRobin, BalanceLeastConn, BalanceIPHash); ok {
			*target = Balance{Method: v}
		}
	case map[string]any:
		sub, _ := t.sub("balance")
		sub.known(inBalance)
		if len(v) != 1 {
			t.fault("balance", "must name one header or one cookie")
			return
		}
		for _, method := range []string{BalanceHeader, BalanceCookie} {
			if name, ok := sub.token(method); ok {
				*target = Balance{method, name}
			}
		}
	default:
		t.fault("balance", `must be a method such as "ip_hash", { header = "…" } or { cookie = "…" }, not %s`, kindOf(v))
	}
}

const addressedMethods = `"random2", "least_conn" and "ip_hash"`

// addressed reports whether a method needs nothing of a request.
func (b Balance) addressed() bool {
	return b.Method == BalanceRandom2 || b.Method == BalanceLeastConn || b.Method == BalanceIPHash
}

// sticky reads true, false or { cookie = "NAME", ttl = "TIME" }.
func (b *builder) sticky(s *Site, t *table) {
	switch v := t.values["sticky"].(type) {
	case nil:
	case bool:
		if s.Sticky = nil; v {
			s.Sticky = intern(b.shared.sticky, Sticky{Cookie: stickyCookie})
		}
	case map[string]any:
		sub, _ := t.sub("sticky")
		sub.known(inSticky)
		one := Sticky{Cookie: stickyCookie}
		if name, ok := sub.token("cookie"); ok {
			one.Cookie = name
		}
		if text, _ := v["ttl"].(string); text != "0s" {
			sub.between("ttl", &one.TTL, time.Second, 400*24*time.Hour)
		}
		s.Sticky = intern(b.shared.sticky, one)
	default:
		t.fault("sticky", `must be true, false or a table such as { ttl = "1h" }, not %s`, kindOf(v))
	}
}

// stickyCookie is the name of the cookie when the file does not say.
const stickyCookie = "usher_sticky"

// token reads a name of a header or cookie, RFC 9110 section 5.6.2.
func (t *table) token(key string) (string, bool) {
	s, ok := t.required(key)
	if ok && strings.ContainsFunc(s, notInToken) {
		t.fault(key, "%q is not a name: letters, digits and any of %s", s, tokenMarks)
		return "", false
	}
	return s, ok
}

const tokenMarks = "!#$%&'*+-.^_`|~"

func notInToken(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(tokenMarks, r))
}

// finishBalance passes over what a passthrough site cannot do.
func (b *builder) finishBalance(s *Site, t *table) {
	if s.Passthrough() && !s.Balance.addressed() {
		if t.has("balance") {
			t.fault("balance", "%q cannot be used with passthrough://: %s can", s.Balance.Method, addressedMethods)
		}
		s.Balance = Balance{Method: BalanceRandom2}
	}
	if s.Sticky != nil && s.Balance == (Balance{BalanceCookie, s.Sticky.Cookie}) {
		key := "sticky"
		if !t.has(key) {
			key = "balance"
		}
		b.faultAt(s, t, key, "%s: the cookie %q cannot be that of sticky and of balance", key, s.Sticky.Cookie)
	}
}
