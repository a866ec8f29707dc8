package socket

import (
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
