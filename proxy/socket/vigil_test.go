package socket

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestVigil is what decides whether one is kept, and for what.
func TestVigil(t *testing.T) {
	noLeak(t)
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	s, c := pair(t)
	s.UseLoop(l)
	if err := s.join(); err != nil {
		t.Fatal(err)
	}
	v := &l.vigil
	if v.awaited.Store(1); v.keep(l.epoll, 1) || v.vain != 0 {
		t.Error("kept for an answer that was awaited before")
	}
	for vain := 1; vain <= vigilVain+1; vain++ { // nothing comes
		want := min(vain, vigilVain)
		if v.keep(l.epoll, 0) || v.vain != want {
			t.Fatalf("%d in vain, want %d", v.vain, want)
		}
		for chances := 1<<want - 1; chances > 0; chances-- {
			if v.skip != chances || v.keep(l.epoll, 0) || v.vain != want {
				t.Fatalf("%d to be left out, want %d", v.skip, chances)
			}
		}
	}
	send(t, c, "answer")
	eventually(t, "it is there", s.look)
	if !v.keep(l.epoll, 0) || v.vain != 0 || v.skip != 0 {
		t.Error("the event was not seen")
	}
	v.slept = now()
	if v.wanted() {
		t.Error("wanted without sleep")
	}
	if v.slept = now() - int64(vigilAfter); !v.wanted() {
		t.Error("not wanted after sleep")
	}
}

// restless has more to tell each time, and somebody who waits for an answer.
type restless struct {
	loop *Loop
	fd   int
	told int
}

func (r *restless) Stopped() {}
func (r *restless) Ready(uint32) {
	r.told++
	r.loop.vigil.awaited.Add(1)
	unix.Write(r.fd, []byte("more"))
}

// TestOneVigilForEachSleep: events that never end are no reason to stay awake.
func TestOneVigilForEachSleep(t *testing.T) {
	noLeak(t)
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	r := &restless{loop: l, fd: p[0]}
	if _, err := l.Add(p[1], inward, r); err != nil {
		t.Fatal(err)
	}
	unix.Write(p[0], []byte("first"))
	l.vigil.slept = now() - int64(vigilAfter)
	if l.turn() || r.told != 2 {
		t.Errorf("told %d times before it slept, want twice: awake, and after a vigil", r.told)
	}
}

// TestWaitAnswer: the loop knows for how long an answer is awaited.
func TestWaitAnswer(t *testing.T) {
	noLeak(t)
	l := running(t)
	s, c := pair(t)
	s.UseLoop(l)
	if err := s.join(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TryRead(make([]byte, 1)); err != ErrWait {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 3 {
		go func() { done <- s.WaitAnswer() }()
		blocked(t, s)
		if n := l.vigil.awaited.Load(); n != 1 {
			t.Errorf("%d answers are awaited", n)
		}
		send(t, c, "answer")
		if err := <-done; err != nil || l.vigil.awaited.Load() != 0 {
			t.Error(err, l.vigil.awaited.Load(), "awaited after it came")
		}
		if err := s.WaitAnswer(); err != nil {
			t.Error(err)
		}
		if n, err := s.Read(make([]byte, 100)); n != len("answer") {
			t.Error(n, err)
		}
	}
	go func() { done <- s.WaitAnswer() }()
	blocked(t, s)
	s.Close()
	if err := <-done; err == nil || l.vigil.awaited.Load() != 0 {
		t.Error(err, "after it was closed")
	}
}
