package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize    = 1232             // DNS Flag Day 2020: fits every path
	maxChain   = 16               // CNAMEs behind one another
	silentTime = 30 * time.Second // how long a server that gave no answer is asked last
)

// errSilent: no server answered at all.
var errSilent = errors.New("no answer")

// servers remembers which servers do not answer.
type servers struct {
	mu     sync.Mutex
	silent map[string]time.Time // mu; until when
}

// order is the list with silent servers last.
func (s *servers) order(list []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var answering, silent []string
	for _, server := range list {
		if now.Before(s.silent[server]) {
			silent = append(silent, server)
		} else {
			answering = append(answering, server)
		}
	}
	return append(answering, silent...)
}

// note keeps whether a server answered.
func (s *servers) note(server string, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered {
		delete(s.silent, server)
		return
	}
	s.silent[server] = time.Now().Add(silentTime)
}

// ask gets the records of a kind that a name has, behind CNAMEs if need be,
// and the least TTL on the way; none is ErrNotFound.
func (r *Resolver) ask(ctx context.Context, fqdn string, kind uint16) ([]dns.RR, time.Duration, error) {
	w := r.files.present()
	err := fmt.Errorf("%w: resolv.conf names no server", errSilent)
	answered := false
	for range w.config.Attempts {
		for _, server := range r.servers.order(w.servers) {
			reply, e := r.askServer(ctx, w, server, fqdn, kind)
			if e == nil {
				return records(reply, fqdn, kind)
			}
			if ctx.Err() != nil {
				return nil, 0, e
			}
			answered = answered || !errors.Is(e, errSilent)
			if err = e; answered && errors.Is(e, errSilent) {
				err = fmt.Errorf("%s: no answer, and others fail", server)
			}
		}
	}
	return nil, 0, err
}

// askServer gets one server's answer: over TCP when it does not fit UDP,
// without EDNS when the server is too old for it.
func (r *Resolver) askServer(ctx context.Context, w *world, server, fqdn string, kind uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(fqdn, kind)
	query.SetEdns0(udpSize, false)
	reply, err := r.try(ctx, w, "udp", server, query)
	if err == nil && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented) {
		query = new(dns.Msg).SetQuestion(fqdn, kind)
		reply, err = r.try(ctx, w, "udp", server, query)
	}
	if err == nil && reply.Truncated {
		reply, err = r.try(ctx, w, "tcp", server, query)
	}
	if ctx.Err() == nil {
		r.servers.note(server, err == nil)
	}
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError || lame(reply) {
		return nil, fmt.Errorf("%s: %s", server, rcode(reply))
	}
	return reply, nil
}

// lame reports a server that knows nothing and will not ask others.
func lame(m *dns.Msg) bool {
	return m.Rcode == dns.RcodeSuccess && !m.Authoritative && !m.RecursionAvailable && len(m.Answer) == 0
}

func rcode(m *dns.Msg) string {
	if m.Rcode == dns.RcodeSuccess {
		return "does not resolve names for us"
	}
	if s := dns.RcodeToString[m.Rcode]; s != "" {
		return s
	}
	return fmt.Sprintf("RCODE %d", m.Rcode)
}

// try is one query, within its time and when it is its turn. It fails with an
// error that is errSilent.
func (r *Resolver) try(ctx context.Context, w *world, network, server string, query *dns.Msg) (*dns.Msg, error) {
	select {
	case r.queries <- struct{}{}:
		defer func() { <-r.queries }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many names wait", errSilent)
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(w.config.Timeout)*time.Second)
	defer cancel()
	reply, err := r.exchange(limited, network, server, query)
	if err == nil && !answers(reply, query) {
		err = errors.New("the answer is to another question")
	}
	if err != nil {
		return nil, fmt.Errorf("%w from %s%s", errSilent, server, because(err))
	}
	return reply, nil
}

// because says why there was no answer without what differs from try to try,
// such as our port; nothing says that the time was over.
func because(err error) string {
	var timeout net.Error
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return ""
	case errors.As(err, &errno):
		return ": " + errno.Error()
	}
	return ": " + err.Error()
}

// answers reports whether a reply belongs to a query.
func answers(reply, query *dns.Msg) bool {
	if !reply.Response || reply.Id != query.Id || len(reply.Question) > 1 {
		return false
	}
	if len(reply.Question) == 0 { // some leave it out with an error
		return reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError
	}
	got, want := reply.Question[0], query.Question[0]
	return dns.CanonicalName(got.Name) == dns.CanonicalName(want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}

// records are those of a kind at the end of the chain of CNAMEs that begins
// with a name. Others in the answer are nobody's business.
func records(m *dns.Msg, fqdn string, kind uint16) (found []dns.RR, ttl time.Duration, err error) {
	owner, least := dns.CanonicalName(fqdn), uint32(1<<31-1)
	for range maxChain {
		next := ""
		for _, record := range m.Answer {
			h := record.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != owner {
				continue
			}
			if alias, ok := record.(*dns.CNAME); ok {
				next, least = dns.CanonicalName(alias.Target), min(least, h.Ttl)
			} else if h.Rrtype == kind {
				found, least = append(found, record), min(least, h.Ttl)
			}
		}
		if len(found) > 0 {
			return found, time.Duration(least) * time.Second, nil
		}
		if next == "" {
			break
		}
		owner = next
	}
	return nil, 0, ErrNotFound
}

// exchange sends a query over a connection of its own, from a port that
// nobody can guess, and waits for the answer as long as ctx allows.
func exchange(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := dns.Client{Timeout: lookupLimit} // ctx is what counts
	reply, _, err := c.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return reply, err
}
