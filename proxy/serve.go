package proxy

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"usher/proxy/message"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
)

// Serve answers one exchange of any protocol. The snapshot is loaded once: a
// reload never splits a request.
func (p *Proxy) Serve(ctx context.Context, ex *message.Exchange) {
	snap := p.Snapshot()
	t := &ex.Trace
	t.Method, t.Host, t.Path = ex.Request.Method, ex.Request.Authority, ex.Request.Path
	ex.From = snap.from(ex)
	t.RequestID = snap.requestID(ex)
	site, known := snap.site(ex)
	if known {
		t.Site = site.Host
		ex.Timeouts = site.Timeouts.Timeouts
	}
	defer p.panicked(snap, site, ex)
	p.dispatch(ctx, snap, site, known, ex)
	p.finish(snap, site, ex)
}

// Malformed logs a request that a codec refused.
func (p *Proxy) Malformed(ex *message.Exchange, err *message.Error) {
	snap := p.Snapshot()
	ex.From = snap.from(ex)
	t := &ex.Trace
	cause := telemetry.Malformed
	if err.Status == 408 {
		cause = telemetry.SlowHead
	}
	p.Metrics.Refused(cause)
	p.Access.Refusal(&telemetry.Refusal{
		Time: t.Start, Client: ex.From, Port: ex.Client.Addr.Port(), Listener: kind(ex.Client.TLS), Cause: cause,
		SNI: ex.Client.ServerName, Method: t.Method, Host: t.Host, Path: t.Path, Status: err.Status, Reason: err.Err.Error(),
	})
}

func kind(tls bool) telemetry.Kind {
	if tls {
		return telemetry.HTTPS
	}
	return telemetry.HTTP
}

// panicked logs an exchange that failed on a fault of usher's own and passes the
// panic on: the codec answers 500 or aborts, and knows what it must not use
// again.
func (p *Proxy) panicked(snap *Snapshot, site *Site, ex *message.Exchange) {
	r := recover()
	if r == nil {
		return
	}
	p.Log.Error().Str("panic", fmt.Sprint(r)).Bytes("stack", debug.Stack()).Msg("an exchange failed on a fault of usher's own")
	t := &ex.Trace
	if t.Side, t.Reason = message.UsherSide, "panic"; t.Head == 0 {
		t.Status = 500
	}
	p.finish(snap, site, ex)
	panic(r)
}

// dispatch decides what a request gets, in the order of the contract.
func (p *Proxy) dispatch(ctx context.Context, snap *Snapshot, site *Site, known bool, ex *message.Exchange) {
	switch status := misdirected(ex, site, known); {
	case ex.Host == nil:
		p.refuse(nil, ex, 400, "the Host is not a hostname")
	case isChallenge(ex.Request.Path) && snap.Challenges[string(ex.Host)] && p.ownChallenge(ex):
	case status != 0:
		p.refuse(nil, ex, status, "")
	case p.viaUs(ex):
		p.refuse(site, ex, 508, "the request went through this edge before")
	case site.Fault != "":
		ex.Trace.Side, ex.Trace.Reason = message.UsherSide, site.Fault
		p.answerError(site, ex, 503)
	case isChallenge(ex.Request.Path):
		p.httpChallenge(ctx, snap, site, ex)
	case site.OwnsChallenges && disguised(ex.Request.Path):
		p.refuse(site, ex, 400, "the path is an ACME challenge after normalising it")
	case !ex.Client.TLS:
		p.plain(ctx, snap, site, ex)
	default:
		p.serveSite(ctx, snap, site, ex)
	}
}

// misdirected is 404 for a host that has no site, and 421 (RFC 9110 section
// 15.5.20) for one that this TLS connection is not meant for.
func misdirected(ex *message.Exchange, site *Site, known bool) int {
	switch {
	case !known:
		return 404
	case !ex.Client.TLS || string(ex.Host) == ex.Client.ServerName && !site.Passthrough:
		return 0
	case site.Passthrough || !ex.Client.Covers(string(ex.Host)):
		return 421
	}
	return 0
}

// plain is port 80.
func (p *Proxy) plain(ctx context.Context, snap *Snapshot, site *Site, ex *message.Exchange) {
	switch {
	case site.PlainHTTP == RefusePlain:
		p.refuse(site, ex, 403, "")
	case site.PlainHTTP == ForwardPlain && site.Passthrough:
		p.forward(ctx, snap, site, site.Plain, 0, ex)
	case site.PlainHTTP == ForwardPlain || site.Rest != nil && site.Rest.Redirect != "" && site.Paths == nil:
		p.serveSite(ctx, snap, site, ex)
	default:
		p.redirect(ex, string(ex.Host), snap.PublicHTTPSPort)
	}
}

// serveSite answers a request of a terminated site.
func (p *Proxy) serveSite(ctx context.Context, snap *Snapshot, site *Site, ex *message.Exchange) {
	route, ok := site.route(ex.Request.Path)
	switch {
	case !ok:
		p.refuse(site, ex, 400, "the path is ambiguous")
	case route.Redirect != "":
		advertise(snap, site, ex)
		p.redirectTo(snap, ex, route.Redirect)
	case route.Whoami:
		advertise(snap, site, ex)
		p.whoami(snap, ex)
	default:
		p.forward(ctx, snap, site, route.Pool, 0, ex)
	}
}

const challengePrefix = "/.well-known/acme-challenge/"

func isChallenge(path []byte) bool {
	return len(path) >= len(challengePrefix) && string(path[:len(challengePrefix)]) == challengePrefix
}

// disguised reports whether a VM that normalises paths would see a challenge.
func disguised(path []byte) bool {
	if bytes.IndexByte(path, '%') < 0 && !bytes.Contains(path, []byte("/.")) {
		return false
	}
	path, _, _ = bytes.Cut(path, []byte{'?'})
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	return isChallenge(router.Normalize(nil, path))
}

// httpChallenge gives an HTTP-01 path (RFC 8555 section 8.3) to whoever owns
// the challenges of the name. A token that is not ours never reaches a VM:
// whoever serves the challenge of a name gets its certificate.
func (p *Proxy) httpChallenge(ctx context.Context, snap *Snapshot, site *Site, ex *message.Exchange) {
	switch {
	case site.OwnsChallenges:
		if !p.ownChallenge(ex) {
			p.refuse(site, ex, 404, "no such challenge")
		}
	case site.Passthrough:
		p.forward(ctx, snap, site, site.Plain, affinity(ex.Host), ex)
	default:
		p.serveSite(ctx, snap, site, ex)
	}
}

// ownChallenge answers a challenge if its token is one of ours for this host.
func (p *Proxy) ownChallenge(ex *message.Exchange) bool {
	token, _, _ := bytes.Cut(ex.Request.Path[len(challengePrefix):], []byte{'?'})
	key, ok := p.Certificates.HTTPChallenge(string(ex.Host), string(token))
	if ok {
		p.answer(ex, 200, "text/plain; charset=utf-8", []byte(key))
	}
	return ok
}

// affinitySeed is not mutable state: it only has to be the same for the life
// of the process.
var affinitySeed = maphash.MakeSeed()

// affinity sends all challenges of a name to the same backend.
func affinity(host []byte) upstream.Affinity {
	return upstream.Affinity(maphash.Bytes(affinitySeed, host) | 1)
}

// forward sends the exchange to a pool and relays what comes back.
func (p *Proxy) forward(ctx context.Context, snap *Snapshot, site *Site, pool *upstream.Pool, want upstream.Affinity, ex *message.Exchange) {
	p.rewriteRequest(snap, ex)
	lease, err := pool.RoundTrip(ctx, ex, want)
	if err != nil {
		p.fail(site, ex, err)
		return
	}
	given := false
	defer func() {
		if !given { // a panic
			lease.Fail()
		}
	}()
	rewriteResponse(snap, site, ex)
	if cookie := lease.Cookie(ex.Client.TLS); cookie != nil {
		ex.Response.Header.AddField(message.SetCookie, setCookieName, cookie)
	}
	if ex.Response.Status == 101 {
		p.upgrade(site, lease, ex)
	} else {
		p.relay(site, lease, ex)
	}
	given = true
}

var setCookieName = []byte("Set-Cookie")

// finish counts and logs an exchange; the one place that does.
func (p *Proxy) finish(snap *Snapshot, site *Site, ex *message.Exchange) {
	if ex.Trace.Total == 0 {
		ex.Trace.Total = time.Since(ex.Trace.Start)
	}
	p.count(site, ex)
	p.logExchange(snap, ex)
}

// from is the client of an exchange: the rightmost address of the chain that
// is not a trusted proxy.
func (s *Snapshot) from(ex *message.Exchange) netip.Addr {
	at := ex.Client.Addr.Addr()
	if len(s.TrustedProxies) == 0 || !trusted(s.TrustedProxies, at) {
		return at
	}
	fields := ex.Request.Header.All()
	for i := len(fields) - 1; i >= 0; i-- {
		f := &fields[i]
		if f.ID != message.XForwardedFor || bytes.IndexByte(f.Name, '_') >= 0 {
			continue
		}
		for rest := f.Value; ; {
			cut := bytes.LastIndexByte(rest, ',')
			if element := bytes.TrimSpace(rest[cut+1:]); len(element) > 0 {
				addr, ok := forwardedAddr(string(element))
				if !ok {
					return at
				}
				if at = addr; !trusted(s.TrustedProxies, at) {
					return at
				}
			}
			if cut < 0 {
				break
			}
			rest = rest[:cut]
		}
	}
	return at
}

// forwardedAddr reads an element of X-Forwarded-For: an address, which some
// proxies put in brackets or give a port.
func forwardedAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		var with netip.AddrPort
		with, err = netip.ParseAddrPort(s)
		addr = with.Addr()
	}
	return addr.Unmap().WithZone(""), err == nil
}
