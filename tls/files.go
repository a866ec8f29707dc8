package tls

import (
	"context"
	cryptotls "crypto/tls"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// filePoll is how often certificate files are looked at.
const filePoll = 2 * time.Second

// filePair names the two files of a KindFile certificate.
type filePair struct{ cert, key string }

// files are the certificates that somebody else puts on disk. Sites with the
// same two files share a pair.
type files struct {
	log  zerolog.Logger
	wake chan struct{}

	mu    sync.Mutex
	pairs map[filePair]*pair
}

// pair is one certificate on disk, and the last good form of it.
type pair struct {
	name filePair
	log  zerolog.Logger
	last atomic.Pointer[shown]

	mu     sync.Mutex
	tried  bool
	seen   [2]stamp
	reason error // why the files as they are now cannot be used
}

// stamp changes when a file is written or another one takes its place.
type stamp struct {
	inode, size uint64
	modified    int64
}

func newFiles(log zerolog.Logger) *files {
	return &files{log: log, wake: make(chan struct{}, 1), pairs: map[filePair]*pair{}}
}

// plan makes the pairs of wants the ones that are watched.
func (f *files) plan(wants []Want) map[filePair]*pair {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := make(map[filePair]*pair)
	for i := range wants {
		if wants[i].Kind != KindFile {
			continue
		}
		name := filePair{wants[i].CertFile, wants[i].KeyFile}
		if next[name] == nil {
			if next[name] = f.pairs[name]; next[name] == nil {
				next[name] = &pair{name: name, log: f.log}
			}
		}
	}
	f.pairs = next
	return next
}

// check has the files looked at now.
func (f *files) check() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// poll looks at the files again and again until ctx ends.
func (f *files) poll(ctx context.Context) {
	tick := time.NewTicker(filePoll)
	defer tick.Stop()
	for {
		for _, p := range f.watched() {
			p.refresh()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-f.wake:
		}
	}
}

func (f *files) watched() []*pair {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*pair, 0, len(f.pairs))
	for _, p := range f.pairs {
		all = append(all, p)
	}
	return all
}

// show is the last good form; the first client may find the files unread. An
// expired one is shown all the same: it is what the operator put there.
func (p *pair) show() (*shown, error) {
	if now := p.last.Load(); now != nil {
		return now, nil
	}
	p.refresh()
	if now := p.last.Load(); now != nil {
		return now, nil
	}
	return nil, p.trouble()
}

func (p *pair) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason
}

// refresh reads the files if they changed since they were last read. What
// cannot be used is logged once and changes nothing.
func (p *pair) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := [2]stamp{stampOf(p.name.cert), stampOf(p.name.key)}
	if p.tried && seen == p.seen {
		return
	}
	p.tried, p.seen = true, seen
	cert, err := cryptotls.LoadX509KeyPair(p.name.cert, p.name.key)
	if err != nil {
		p.reason = fmt.Errorf("certificate files %q and %q: %w", p.name.cert, p.name.key, err)
		p.log.Error().Err(p.reason).Bool("old_one_kept", p.last.Load() != nil).Msg("certificate file cannot be used")
		return
	}
	p.reason = nil
	p.last.Store(newShown(&cert))
	p.log.Info().Str("file", p.name.cert).Strs("names", cert.Leaf.DNSNames).Time("not_after", cert.Leaf.NotAfter).Msg("certificate file read")
}

// stampOf a file that is not there is the zero stamp.
func stampOf(path string) stamp {
	at, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	s := stamp{size: uint64(at.Size()), modified: at.ModTime().UnixNano()}
	if sys, ok := at.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}
