package names

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zone is a DNS server without a network.
type zone struct {
	mu      sync.Mutex
	records map[string][]string // mu; "name. A" to the texts of RRs
	rcodes  map[string]int      // mu; instead
	silent  map[string]bool     // mu; no answer at all: by "name. A" or by server
	asked   []string            // mu; "name. A"
	servers []string            // mu; whom asked
	times   []time.Time         // mu; when
	now     int                 // mu; queries under way
	most    int                 // mu; of them
	takes   time.Duration       // each answer
	broken  error               // mu; the network
}

func newZone(records ...string) *zone {
	z := &zone{records: map[string][]string{}, rcodes: map[string]int{}, silent: map[string]bool{}}
	z.add(records...)
	return z
}

func (z *zone) add(records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		h := rr.Header()
		q := h.Name + " " + dns.TypeToString[h.Rrtype]
		z.records[q] = append(z.records[q], text)
	}
}

// replace is add after everything of the same names and kinds is gone.
func (z *zone) replace(records ...string) {
	z.mu.Lock()
	for _, text := range records {
		rr, _ := dns.NewRR(text)
		delete(z.records, rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype])
	}
	z.mu.Unlock()
	z.add(records...)
}

func (z *zone) set(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *zone) count(question string) (n int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, q := range z.asked {
		if q == question {
			n++
		}
	}
	return n
}

func (z *zone) exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	q := m.Question[0].Name + " " + dns.TypeToString[m.Question[0].Qtype]
	z.mu.Lock()
	z.asked, z.servers, z.times = append(z.asked, q), append(z.servers, server), append(z.times, time.Now())
	z.now++
	z.most = max(z.most, z.now)
	silent, broken := z.silent[q] || z.silent[server], z.broken
	z.mu.Unlock()
	defer z.set(func() { z.now-- })
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if broken != nil {
		return nil, broken
	}
	time.Sleep(z.takes)
	return z.answer(m), nil
}

// answer follows CNAMEs as a recursive server does.
func (z *zone) answer(m *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(dns.Msg).SetReply(m)
	reply.RecursionAvailable = true
	name, kind := strings.ToLower(m.Question[0].Name), dns.TypeToString[m.Question[0].Qtype]
	if code, ok := z.rcodes[name+" "+kind]; ok {
		reply.Rcode = code
		return reply
	}
	exists := false
	for range 8 {
		list := z.records[name+" "+kind]
		for _, text := range list {
			rr, _ := dns.NewRR(text)
			reply.Answer = append(reply.Answer, rr)
		}
		alias := z.records[name+" CNAME"]
		for k := range z.records {
			exists = exists || strings.HasPrefix(k, name+" ")
		}
		if len(list) > 0 || len(alias) == 0 {
			break
		}
		rr, _ := dns.NewRR(alias[0])
		reply.Answer = append(reply.Answer, rr)
		name = rr.(*dns.CNAME).Target
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	return reply
}

// rig is a Resolver that runs, in a bubble of fake time, on a zone.
type rig struct {
	*Resolver
	zone  *zone
	dir   string
	mu    sync.Mutex
	log   []string // mu
	begun time.Time
}

func (r *rig) logged() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// fake runs a test in fake time. The resolver's files are in r.dir.
func fake(t *testing.T, z *zone, resolvConf string, test func(t *testing.T, r *rig)) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), resolvConf)
	write(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost\n")
	synctest.Test(t, func(t *testing.T) {
		r := &rig{zone: z, dir: dir, begun: time.Now()}
		r.Resolver = New(Options{
			ResolvConf: filepath.Join(dir, "resolv.conf"),
			Hosts:      filepath.Join(dir, "hosts"),
			Log: func(host string, a *Answer) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.log = append(r.log, strings.TrimSpace(host+" "+show(a)))
			},
		})
		r.exchange = z.exchange
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- r.Run(ctx) }()
		test(t, r)
		cancel()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// show is an answer on one line: "10.0.0.1 fd00::1 !reason".
func show(a *Answer) string {
	if a == nil {
		return "nothing"
	}
	var words []string
	for _, e := range a.Endpoints {
		word := e.Addr.String()
		if e.Port != 0 {
			word = netip.AddrPortFrom(e.Addr, e.Port).String()
		}
		if e.Weight != 0 {
			word += "*" + strconv.Itoa(int(e.Weight))
		}
		if e.Backup {
			word += "~"
		}
		words = append(words, word)
	}
	if a.Err != nil {
		words = append(words, "!"+a.Err.Error())
	}
	return strings.Join(words, " ")
}

// after lets fake time pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func want(t *testing.T, f *Feed, text string) {
	t.Helper()
	if got := show(f.Answer()); got != text {
		t.Errorf("got  %s\nwant %s", got, text)
	}
}
