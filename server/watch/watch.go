package watch

import (
	"context"
	"maps"
	"time"
)

// Options may be left zero.
type Options struct {
	Poll     time.Duration // between looks without any notification; 1 s by default
	Settle   time.Duration // how long nothing may change before it is told; 200 ms by default
	PollOnly bool          // do without notification
	Fault    func(error)   // is told, once, why there is no notification; may be nil
}

// Watcher watches the files of a configuration.
type Watcher struct {
	options Options
	clock   func() time.Time // what file times are compared with
	loaded  time.Time        // when the files began to be read last
	told    map[string]mark
	files   func() (files, dirs []string)
	notices notices
}

// New prepares a watcher. Call it before the files are read for the first time:
// what changes from now on is a change.
func New(o Options) *Watcher {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Settle == 0 {
		o.Settle = 200 * time.Millisecond
	}
	if o.Fault == nil {
		o.Fault = func(error) {}
	}
	return &Watcher{options: o, clock: time.Now, loaded: time.Now()}
}

// Run calls changed, from its own goroutine, after any of the files, or the
// entries of any of the dirs, changed and were stable for the settle time.
// files is asked again after every call of changed; paths may lead to nothing
// yet. A call without a change of content is possible. Run returns nil when
// ctx ends.
func (w *Watcher) Run(ctx context.Context, files func() (files, dirs []string), changed func()) error {
	w.files = files
	w.notices.open(w.options)
	defer w.notices.close()
	if w.learn() {
		w.tell(changed)
	}
	for {
		switch {
		case w.unchanged():
			if !w.notices.wait(ctx, w.options.Poll) {
				return nil
			}
		case !w.settle(ctx):
			return nil
		case !w.unchanged():
			w.tell(changed)
		}
	}
}

// tell has the files read anew, and once more if that brought a file that may
// have changed after it was read.
func (w *Watcher) tell(changed func()) {
	again := true
	for rounds := 0; again && rounds < 3; rounds++ {
		w.told = w.look()
		w.loaded = w.clock()
		changed()
		again = w.learn()
	}
}

// clockGrain is how much older than the truth the kernel's file times may be.
const clockGrain = 10 * time.Millisecond

// learn takes the marks of paths that are watched from now on, and reports
// whether one of them changed after it was, perhaps, read.
func (w *Watcher) learn() (late bool) {
	files, dirs := w.files()
	told := make(map[string]mark, len(files)+len(dirs))
	add := func(path string) {
		m, known := w.told[path]
		if !known {
			m = stat(path)
			late = late || m.ctime > w.loaded.Add(-clockGrain).UnixNano()
		}
		told[path] = m
	}
	for _, path := range files {
		add(path)
	}
	for _, path := range dirs {
		add(path)
	}
	w.told = told
	w.notices.watch(files, dirs)
	return late
}

// look takes the marks of everything that is watched.
func (w *Watcher) look() map[string]mark {
	now := make(map[string]mark, len(w.told))
	for path := range w.told {
		now[path] = stat(path)
	}
	return now
}

func (w *Watcher) unchanged() bool {
	for path, known := range w.told {
		if stat(path) != known {
			return false
		}
	}
	return true
}

// settle returns once nothing has changed for the settle time, false when ctx
// ended before.
func (w *Watcher) settle(ctx context.Context) bool {
	before, since := w.look(), time.Now()
	for time.Since(since) < w.options.Settle {
		if !sleep(ctx, w.options.Settle/4) {
			return false
		}
		if now := w.look(); !maps.Equal(now, before) {
			before, since = now, time.Now()
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
