package socket

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestWriteTimeoutChangesDuringAWrite: the reader of a TLS connection writes
// too, so that nobody knows when there is no Write.
func TestWriteTimeoutChangesDuringAWrite(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	s.SetWriteTimeout(time.Minute)
	written := make(chan error)
	go func() {
		_, err := s.Write(make([]byte, 16<<20))
		written <- err
	}()
	buf := make([]byte, 64<<10)
	for n := 0; n < 16<<20; {
		s.SetWriteTimeout(time.Minute + time.Duration(n))
		m, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// TestReadUntil: the limit ends a Read that has to wait, not the next one, which
// has another.
func TestReadUntil(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	b := make([]byte, 1)
	for _, limit := range []time.Duration{20 * time.Millisecond, -time.Second} {
		start := time.Now()
		s.ReadUntil(start.Add(limit))
		if n, err := s.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		if took := time.Since(start); took < limit {
			t.Errorf("%v, of %v", took, limit)
		}
		s.ReadUntil(time.Now().Add(time.Minute))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Read(b); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}
