package tls

import (
	"context"
	cryptotls "crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// Kinds of a Want.
const (
	KindACME  = "acme"
	KindLocal = "local"
	KindFile  = "file"
)

// Want is one terminated hostname of a generation. Host is canonical; it may
// be a wildcard or "*". CertFile and KeyFile belong to KindFile.
type Want struct {
	Host, Kind        string
	CertFile, KeyFile string
}

// Issuer is one ACME server. CAFile, when given, holds the only roots trusted
// for talking to it. The key of the external account is base64url.
type Issuer struct{ Directory, CAFile, EABKeyID, EABKey string }

// Options is what certificates need besides the wanted names.
type Options struct {
	StateDir string // fixed by New; later values are ignored
	Email    string // of the ACME accounts; may be empty
	Issuers  []Issuer

	// HTTPAddrs and TLSAddrs are the real addresses of listeners of ours that
	// are open for as long as these options are in force. Without any the
	// challenge type is not offered.
	HTTPAddrs, TLSAddrs []netip.AddrPort

	Log zerolog.Logger // fixed by New
}

// Certificates keeps the certificates of all terminated sites. All methods are
// safe for concurrent use, and all but Run work before, during and after it.
type Certificates struct {
	log       zerolog.Logger
	sites     atomic.Pointer[map[string]*site]
	authority *authority
	files     *files
	orders    *orders
	jobs      *jobs
	pace      pace
	tickets   *cryptotls.Config
	challenge *cryptotls.Config

	applying   sync.Mutex // guards what follows
	options    Options
	generation uint64
}

// New makes the state directory, with mode 0700, and starts nothing.
func New(o Options) (*Certificates, error) {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	c := &Certificates{log: o.Log, pace: usualPace(), options: o}
	c.sites.Store(&map[string]*site{})
	locks := &locks{dir: filepath.Join(o.StateDir, "locks")}
	c.authority = newAuthority(filepath.Join(o.StateDir, "local-ca"), locks, o.Log)
	c.files = newFiles(o.Log)
	c.jobs = newJobs(c.work)
	c.orders = newOrders(o.StateDir, locks, o.Log)
	c.tickets = c.serverConfig()
	c.challenge = c.challengeConfig()
	if err := c.orders.configure(o); err != nil {
		return nil, err
	}
	return c, nil
}

// Run gets, renews, staples and reloads certificates until ctx ends; then it
// cancels what is under way and returns after the last of its goroutines, with
// nil. It must be called once, and the listeners of Options must stay open
// until it has returned.
func (c *Certificates) Run(ctx context.Context) error {
	defer captureStandardLog(c.log)()
	c.orders.start()
	defer c.orders.stop()
	var running sync.WaitGroup
	running.Go(func() { c.files.poll(ctx) })
	running.Go(func() { c.stapleLoop(ctx) })
	c.jobs.run(ctx)
	running.Wait()
	return nil
}

// Apply makes wants the whole set of names, and the issuers, e-mail address and
// listeners of o those of every order from now on. Names that stay keep their
// certificate, their job and its next try; jobs of names that went are
// cancelled. When the issuers or listeners changed, every order under way is
// begun anew. An error (a CA file that cannot be read) has changed nothing.
// Apply waits for no network and reads no certificate.
func (c *Certificates) Apply(o Options, wants []Want) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	changed := !sameOrders(c.options, o)
	if changed {
		if err := c.orders.configure(o); err != nil {
			return err
		}
	}
	c.options = o
	c.generation++
	added, kept, gone := c.replace(wants)
	if changed {
		for _, s := range kept {
			s.forget()
		}
		added = append(added, kept...)
	}
	c.jobs.apply(c.generation, added, gone)
	c.openAuthority(wants)
	c.files.check()
	return nil
}

func sameOrders(a, b Options) bool {
	return a.Email == b.Email && reflect.DeepEqual(a.Issuers, b.Issuers) &&
		reflect.DeepEqual(a.HTTPAddrs, b.HTTPAddrs) && reflect.DeepEqual(a.TLSAddrs, b.TLSAddrs)
}

// replace publishes the sites of wants and says which ACME sites are new,
// which stayed and which went.
func (c *Certificates) replace(wants []Want) (added, kept, gone []*site) {
	// There may be very many, of which most are as they were.
	next := maps.Clone(*c.sites.Load())
	had, stayed := len(next), 0
	pairs := c.files.plan(wants)
	for _, w := range wants {
		s := next[w.Host]
		if s != nil {
			stayed++
		}
		if s != nil && s.want == w {
			if s.want.Kind == KindACME {
				kept = append(kept, s)
			}
			continue
		}
		if s != nil && s.want.Kind == KindACME {
			gone = append(gone, s)
		}
		s = newSite(w, pairs[filePair{w.CertFile, w.KeyFile}])
		if w.Kind == KindACME {
			added = append(added, s)
		}
		next[w.Host] = s
	}
	if stayed < had {
		gone = append(gone, remove(next, wants)...)
	}
	c.sites.Store(&next)
	return added, kept, gone
}

// remove takes the sites that are not wanted out, and returns those of ACME.
func remove(sites map[string]*site, wants []Want) (gone []*site) {
	wanted := make(map[string]bool, len(wants))
	for i := range wants {
		wanted[wants[i].Host] = true
	}
	for host, s := range sites {
		if wanted[host] {
			continue
		}
		if s.want.Kind == KindACME {
			gone = append(gone, s)
		}
		delete(sites, host)
	}
	return gone
}

// openAuthority makes the root at once when a site needs it, so that it can be
// handed to clients before the first handshake.
func (c *Certificates) openAuthority(wants []Want) {
	for i := range wants {
		if wants[i].Kind == KindLocal {
			if err := c.authority.open(); err != nil {
				c.log.Error().Err(err).Msg("no local CA: sites that use it have no certificate")
			}
			return
		}
	}
}
