package telemetry

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Options are what Open leaves at its defaults when zero.
type Options struct {
	Query   bool           // log query strings as well
	Size    int            // bytes queued at most; 4 MiB by default
	Stdout  io.Writer      // what "stdout" and "stderr" mean; the process's own by default
	Stderr  io.Writer      //
	Program zerolog.Logger // is told when the destination fails and when it recovers
}

// Timing of the writer.
const (
	batchTime = 50 * time.Millisecond // a line waits at most this long for company
	endTime   = 2 * time.Second       // a destination that hangs gets this long at the end
)

// Log is the access log.
type Log struct {
	options Options
	queue   *queue
	lines   sync.Pool // of *line
	ciphers map[uint16]string
	samples [causes]sample
	off     atomic.Bool
	query   atomic.Bool

	mu   sync.Mutex
	dest string
	next *sink // to be switched to by the writer

	sink  *sink // owned by Run
	batch []*chunk
}

// Open makes an access log that goes to "stdout", "stderr", a file that is
// appended to, or nowhere ("off"). Nothing is written before Run.
func Open(dest string, o Options) (*Log, error) {
	if o.Size == 0 {
		o.Size = 4 << 20
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	s, err := openSink(dest, &o)
	if err != nil {
		return nil, err
	}
	l := &Log{options: o, queue: newQueue(o.Size), ciphers: cipherNames(), dest: dest, sink: s}
	l.off.Store(dest == "off")
	l.query.Store(o.Query)
	return l, nil
}

// Enabled reports whether lines go anywhere, for callers that would spend time
// on filling one in.
func (l *Log) Enabled() bool { return !l.off.Load() }

// Dropped is how many lines were lost because the destination was too slow or
// failed.
func (l *Log) Dropped() uint64 { return l.queue.drops.Load() }

// Configure changes the destination and whether queries are logged, as a
// reload does. Lines that are queued still go to the old destination. After an
// error the log goes on as it was.
func (l *Log) Configure(dest string, query bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if dest != l.dest {
		if err := l.open(dest); err != nil {
			return err
		}
	}
	l.dest = dest
	l.query.Store(query)
	l.off.Store(dest == "off")
	return nil
}

// Reopen opens the file of the log anew, after it was moved away.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.dest {
	case "stdout", "stderr", "off":
		return nil
	}
	return l.open(l.dest)
}

// open prepares the sink that the writer switches to; l.mu is held.
func (l *Log) open(dest string) error {
	s, err := openSink(dest, &l.options)
	if err != nil {
		return err
	}
	if l.next != nil {
		l.next.close()
	}
	l.next = s
	signal(l.queue.urgent)
	return nil
}

// Run writes out what is logged until ctx ends, then what is still queued; end
// it after everything that logs. A destination that hangs is given up after
// two seconds, with an error. Call it once.
func (l *Log) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.write(ctx)
	}()
	<-ctx.Done()
	select {
	case <-done:
		return nil
	case <-time.After(endTime):
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("access log: %q hangs, its last lines are lost", l.dest)
	}
}

func (l *Log) write(ctx context.Context) {
	for l.wait(ctx) {
		l.flush()
	}
	l.queue.close()
	l.flush()
	l.sink.close()
}

// wait returns when there is something to do, and false at the end. A first
// line waits for more, so that many lines share one system call; an idle log
// runs no timer.
func (l *Log) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.queue.urgent:
		return true
	case <-l.queue.wake:
	}
	timer := time.NewTimer(batchTime)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-l.queue.urgent:
	case <-timer.C:
	}
	return true
}

// flush writes what is queued and then switches to a new destination.
func (l *Log) flush() {
	l.mu.Lock()
	next := l.next
	l.next = nil
	l.mu.Unlock()
	l.batch = l.queue.take(l.batch[:0])
	for i, c := range l.batch {
		l.put(c)
		l.queue.recycle(c)
		l.batch[i] = nil
	}
	if next != nil {
		l.sink.close()
		l.sink = next
	}
}

// put writes one chunk and tells the program's log when the destination starts
// or stops to fail.
func (l *Log) put(c *chunk) {
	err := l.sink.write(c.buf)
	if err != nil {
		l.queue.drops.Add(c.lines)
	}
	if (err != nil) == l.sink.failing {
		return
	}
	l.sink.failing = err != nil
	if err != nil {
		l.options.Program.Error().Err(err).Str("destination", l.sink.name).Msg("access log: lines are being lost")
		return
	}
	l.options.Program.Info().Str("destination", l.sink.name).Msg("access log: written again")
}
