package proxy

import (
	"bytes"
	"fmt"
	"html"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"usher/proxy/message"
	"usher/router"
)

// answer sends a response of usher's own.
func (p *Proxy) answer(ex *message.Exchange, status int, contentType string, body []byte) {
	r := &ex.Response
	r.Status, r.Length = status, int64(len(body))
	r.Header.AddString("Content-Type", contentType)
	r.Header.AddString("Cache-Control", "no-store")
	p.send(ex, body)
}

// send writes ex.Response with a body that is in hand.
func (p *Proxy) send(ex *message.Exchange, body []byte) {
	ex.Trace.Status, ex.Trace.Head = ex.Response.Status, time.Since(ex.Trace.Start)
	err := ex.Stream.WriteHead(&ex.Response)
	if err == nil && len(body) > 0 && string(ex.Request.Method) != "HEAD" {
		var n int
		n, err = ex.Stream.Write(body)
		ex.Trace.Sent = int64(n)
	}
	if err == nil {
		err = ex.Stream.CloseWrite(nil)
	}
	if err != nil {
		p.broken(ex, err)
	}
}

// refuse answers a request that reaches no VM and closes the connection where
// its framing or its client is in doubt. site is nil unless it is known.
func (p *Proxy) refuse(site *Site, ex *message.Exchange, status int, reason string) {
	ex.Trace.Side, ex.Trace.Reason = message.ClientSide, reason
	if reason == "" {
		ex.Trace.Reason = strings.ToLower(http.StatusText(status))
	}
	ex.Response.Close = status == 400 || status == 403 || status == 421
	p.answerError(site, ex, status)
}

// answerError answers with the page of a status.
func (p *Proxy) answerError(site *Site, ex *message.Exchange, status int) {
	p.answerFailure(site, ex, &message.Error{Status: status})
}

// answerFailure sends a small page, as HTML or JSON by Accept, with the request
// id, or the page that the site has for it. It replaces whatever ex.Response
// held.
func (p *Proxy) answerFailure(site *Site, ex *message.Exchange, e *message.Error) {
	r, status := &ex.Response, e.Status
	r.Header.Reset()
	*r = message.Response{Header: r.Header, Trailer: r.Trailer, Close: r.Close || status == 408 || status == 413}
	after := e.RetryAfter
	if status == 503 && after == 0 {
		after = 10 * time.Second
	}
	seconds := strconv.Itoa(int((after + time.Second - 1) / time.Second))
	if after > 0 {
		r.Header.AddString("Retry-After", seconds)
	}
	id, text := string(ex.Trace.RequestID), http.StatusText(status)
	switch own := site.page(status); {
	case wantsJSON(ex):
		p.answer(ex, status, "application/json", fmt.Appendf(nil, "{\"status\":%d,\"error\":%q,\"request_id\":%q}\n", status, text, id))
	case e.Starting:
		r.Header.AddString("Refresh", seconds)
		p.answer(ex, status, htmlType, fmt.Appendf(nil, waitingPage, seconds, html.EscapeString(id)))
	case own != nil:
		p.answer(ex, status, htmlType, own)
	default:
		p.answer(ex, status, htmlType, fmt.Appendf(nil, errorPage, status, text, status, text, explainStatus(status), html.EscapeString(id)))
	}
}

// page is what a site has to show for a status, or nil: its error page, else
// its maintenance page while no VM answers. The site may be nil.
func (s *Site) page(status int) []byte {
	if s == nil {
		return nil
	}
	if page := s.ErrorPages[status]; page != nil {
		return page
	}
	if status >= 502 && status <= 504 {
		return s.Maintenance
	}
	return nil
}

const htmlType = "text/html; charset=utf-8"

const errorPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>%d %s</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color:#222}h1{font-size:1.4rem}small{color:#666}</style>
</head><body><h1>%d %s</h1><p>%s</p><p><small>Request %s</small></p></body></html>
`

// waitingPage asks again by itself, as the Refresh field that it comes with
// does.
const waitingPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="%s">
<title>Starting</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color:#222}h1{font-size:1.4rem}small{color:#666}</style>
</head><body><h1>Starting</h1><p>The server behind this site was asleep and is starting. This page will show the site as soon as it answers.</p><p><small>Request %s</small></p></body></html>
`

func explainStatus(status int) string {
	switch status {
	case 400, 408:
		return "The request could not be understood."
	case 403:
		return "This site is not served without encryption."
	case 404:
		return "There is no such site here."
	case 421:
		return "This connection is not meant for that site. A new one will be."
	case 502:
		return "The server behind this site could not be reached. Please try again in a moment."
	case 503:
		return "This site is not available right now. Please try again in a moment."
	case 504:
		return "The server behind this site took too long to answer. Please try again in a moment."
	case 508:
		return "The server behind this site leads back here."
	}
	return "The request could not be answered."
}

// wantsJSON reports whether an API client asks: JSON is accepted and HTML is
// not.
func wantsJSON(ex *message.Exchange) bool {
	accept, _ := ex.Request.Header.Get(message.Accept)
	return bytes.Contains(accept, []byte("json")) && !bytes.Contains(accept, []byte("text/html"))
}

// redirect sends the client to the same path on https.
func (p *Proxy) redirect(ex *message.Exchange, host string, port uint16) {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != 443 {
		host = host + ":" + strconv.Itoa(int(port))
	}
	p.redirectURL(ex, host)
}

// redirectTo follows a redirect:// backend. A site of our own gets the public
// port; any other host is left as written.
func (p *Proxy) redirectTo(snap *Snapshot, ex *message.Exchange, target string) {
	if _, _, err := net.SplitHostPort(target); err != nil && snap.PublicHTTPSPort != 443 && snap.serves(target) {
		target += ":" + strconv.Itoa(int(snap.PublicHTTPSPort))
	}
	p.redirectURL(ex, target)
}

// serves reports whether a host has a site here; that "*" takes every name says
// nothing of this one.
func (s *Snapshot) serves(host string) bool {
	key, err := router.Canonical(nil, []byte(host))
	if err != nil {
		return false
	}
	site, ok := s.Sites.Lookup(key)
	return ok && site.Host != "*"
}

func (p *Proxy) redirectURL(ex *message.Exchange, authority string) {
	path := ex.Request.Path
	if len(path) == 0 || path[0] != '/' {
		path = []byte{'/'}
	}
	r := &ex.Response
	r.Status = http.StatusPermanentRedirect
	r.Header.AddString("Location", "https://"+authority+string(path))
	p.send(ex, nil)
}

// whoami shows what a VM would see.
func (p *Proxy) whoami(snap *Snapshot, ex *message.Exchange) {
	p.rewriteRequest(snap, ex)
	var b bytes.Buffer
	q := &ex.Request
	fmt.Fprintf(&b, "%s %s HTTP/1.1\nHost: %s\n", q.Method, q.Path, q.Authority)
	for _, f := range q.Header.All() {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	fmt.Fprintf(&b, "\nclient: %s\nprotocol: %s\n", ex.From, ex.Client.Proto)
	if ex.Client.TLS {
		fmt.Fprintf(&b, "server name: %s\n", ex.Client.ServerName)
	}
	p.answer(ex, 200, "text/plain; charset=utf-8", b.Bytes())
}
