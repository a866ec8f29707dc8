package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bound is generous, for a busy machine; a change takes a second at most.
const bound = 20 * time.Second

// world is a directory with a watcher on its "config.toml", further files and
// "sites.d".
type world struct {
	t       *testing.T
	dir     string
	changes chan string // content of config.toml at each change
	extra   atomic.Pointer[[]string]
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// await reads changes until one showed the text.
func (w *world) await(text string) {
	w.t.Helper()
	deadline := time.After(bound)
	for {
		select {
		case got := <-w.changes:
			if got == text {
				return
			}
		case <-deadline:
			w.t.Fatalf("no change that shows %q", text)
		}
	}
}

func (w *world) any() {
	w.t.Helper()
	select {
	case <-w.changes:
	case <-time.After(bound):
		w.t.Fatal("no change")
	}
}

func (w *world) files() (files, dirs []string) {
	files = []string{w.path("config.toml")}
	if extra := w.extra.Load(); extra != nil {
		files = append(files, *extra...)
	}
	return files, []string{w.path("sites.d")}
}

// start prepares a directory with set and runs a watcher on it.
func start(t *testing.T, o Options, set func(*world)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), changes: make(chan string, 1000)}
	set(w)
	watcher := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- watcher.Run(ctx, w.files, func() {
			text, _ := os.ReadFile(w.path("config.toml"))
			w.changes <- string(text)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// both runs a test with notification (and a poll that comes too late to help)
// and with polling alone.
func both(t *testing.T, run func(t *testing.T, o Options)) {
	t.Run("notice", func(t *testing.T) {
		t.Parallel()
		run(t, Options{Poll: time.Hour, Fault: func(err error) { t.Error(err) }})
	})
	t.Run("poll", func(t *testing.T) {
		t.Parallel()
		run(t, Options{Poll: 50 * time.Millisecond, PollOnly: true})
	})
}

func plainFile(w *world) {
	w.write("config.toml", "one")
	w.must(os.Mkdir(w.path("sites.d"), 0o700))
}

func TestWrittenInPlace(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		w.write("config.toml", "two")
		w.await("two")
		w.write("config.toml", "six") // the same size
		w.await("six")
	})
}

func TestRenamedOver(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		for _, text := range []string{"two", "six"} {
			w.write(".config.toml.tmp", text)
			w.must(os.Rename(w.path(".config.toml.tmp"), w.path("config.toml")))
			w.await(text)
		}
	})
}

func TestRemovedAndBack(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		w.must(os.Remove(w.path("config.toml")))
		w.await("")
		w.write("config.toml", "back")
		w.await("back")
	})
}

func TestMovedToBackupAndWritten(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		w.must(os.Rename(w.path("config.toml"), w.path("config.toml~")))
		w.write("config.toml", "two")
		w.await("two")
		w.write("config.toml", "three")
		w.await("three")
	})
}

// TestDataLinkSwapped replaces files as Kubernetes mounts do it.
func TestDataLinkSwapped(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, func(w *world) {
			w.must(os.Mkdir(w.path("v1"), 0o700))
			w.write("v1/config.toml", "one")
			w.must(os.Symlink("v1", w.path("..data")))
			w.must(os.Symlink("..data/config.toml", w.path("config.toml")))
		})
		for _, v := range []string{"v2", "v3"} {
			w.must(os.Mkdir(w.path(v), 0o700))
			w.write(v+"/config.toml", v)
			w.must(os.Symlink(v, w.path("..data_tmp")))
			w.must(os.Rename(w.path("..data_tmp"), w.path("..data")))
			w.await(v)
		}
	})
}

func TestTargetOfLinkElsewhere(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, func(w *world) {
			w.must(os.MkdirAll(w.path("a/b"), 0o700))
			w.write("a/b/real.toml", "one")
			w.must(os.Symlink(w.path("a/b/../b/real.toml"), w.path("config.toml")))
		})
		w.write("a/b/real.toml", "two")
		w.await("two")
	})
}

func TestIncludeDirectory(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		w.write("sites.d/a.toml", "a")
		w.any()
		w.must(os.Remove(w.path("sites.d/a.toml")))
		w.any()
	})
}

func TestIncludeDirectoryAppears(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, func(w *world) { w.write("config.toml", "one") })
		w.must(os.Mkdir(w.path("sites.d"), 0o700))
		w.any()
		w.write("sites.d/a.toml", "a")
		w.any()
	})
}

func TestNewFileIsWatchedAfterReload(t *testing.T) {
	both(t, func(t *testing.T, o Options) {
		w := start(t, o, plainFile)
		w.extra.Store(&[]string{w.path("more.toml")})
		w.write("more.toml", "x")
		w.write("config.toml", "two")
		w.await("two")
		for len(w.changes) > 0 {
			<-w.changes
		}
		w.write("more.toml", "y")
		w.await("two")
	})
}

// polled runs a watcher on one file under fake time.
func polled(t *testing.T, files []string, changed func()) {
	w := New(Options{PollOnly: true})
	w.clock = func() time.Time { return time.Now().AddDate(100, 0, 0) } // file times are real
	w.loaded = w.clock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, func() ([]string, []string) { return files, nil }, changed)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestToldOnceAndOnlyWhenStable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		started := time.Now()
		polled(t, []string{file}, func() { at = append(at, time.Since(started)) })
		for i := range 30 { // written bit by bit for three seconds
			if err := os.WriteFile(file, slices.Repeat([]byte("x"), i), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		last := time.Since(started)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if len(at) != 1 || at[0] < last+50*time.Millisecond || at[0] > last+2*time.Second {
			t.Errorf("told at %v, last written at %v", at, last)
		}
	})
}

func TestChangeTakenBackIsNotTold(t *testing.T) {
	dir := t.TempDir()
	file, away := filepath.Join(dir, "config.toml"), filepath.Join(dir, "away")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		times := 0
		polled(t, []string{filepath.Join(dir, "link", "config.toml"), file}, func() { times++ })
		synctest.Wait()
		if err := os.Symlink("nowhere", away); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if times != 0 {
			t.Errorf("told %d times of nothing", times)
		}
	})
}

// TestChangedBeforeTheFirstLook: a file that changed after New, perhaps after
// it was read, is told.
func TestChangedBeforeTheFirstLook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	w := New(Options{PollOnly: true, Poll: time.Hour})
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	told := false
	if err := w.Run(ctx, func() ([]string, []string) { return []string{file}, nil }, func() { told = true; cancel() }); err != nil || !told {
		t.Errorf("told %v, %v", told, err)
	}
}

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"a": "b", "b": "../" + filepath.Base(dir) + "/c", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	final, links := resolve(filepath.Join(dir, "a", "x"))
	if final != filepath.Join(dir, "c", "x") || len(links) != 2 {
		t.Errorf("%q over %q", final, links)
	}
	if _, links := resolve(filepath.Join(dir, "loop")); len(links) != maxLinks {
		t.Errorf("%d links", len(links))
	}
}
