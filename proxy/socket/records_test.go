package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// TestRecordsHandsOutOneAtATime sends records of random lengths in random
// pieces and reads with buffers of random lengths.
func TestRecordsHandsOutOneAtATime(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var sent []byte
	var ends []int
	for range 300 {
		n := []int{0, 1, 30, 500, 16384 + 256}[rng.IntN(5)]
		sent = append(sent, 23, 3, 3, byte(n>>8), byte(n))
		for range n {
			sent = append(sent, byte(rng.Uint32()))
		}
		ends = append(ends, len(sent))
	}
	s, c := pair(t)
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(40_000))
			c.Write(rest[:n])
			rest = rest[n:]
		}
		c.CloseWrite()
	}()
	r := NewRecords(s)
	local := rand.New(rand.NewPCG(5, 6))
	var got []byte
	for at := 0; ; {
		buf := make([]byte, []int{1, 5, 600, 20_000, 100_000}[local.IntN(5)])
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > ends[at] {
			t.Fatalf("read %d bytes over the end of record %d", len(got)-ends[at], at)
		}
		whole := len(got) == ends[at]
		if r.Empty() && !whole {
			t.Fatal("empty within a record")
		}
		if whole {
			at++
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, or others", len(got), len(sent))
	}
}

func TestRecordsTryFill(t *testing.T) {
	s, c := pair(t)
	r := NewRecords(s)
	if err := r.TryFill(); err != ErrWait || !r.Empty() {
		t.Fatalf("%v, empty %v", err, r.Empty())
	}
	send(t, c, "\x17\x03\x03\x00\x01x\x17\x03")
	eventually(t, "filled", func() bool { return r.TryFill() == nil })
	if r.Empty() || r.TryFill() != nil {
		t.Error("empty after a fill")
	}
	b := make([]byte, 100)
	if n, err := r.Read(b); n != 6 || err != nil || r.Empty() {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := r.Read(b); n != 2 || err != nil || r.Empty() {
		t.Errorf("%d, %v: half a header is not empty", n, err)
	}
	if r.buf != nil {
		t.Error("it keeps its buffer")
	}
	c.SetLinger(0)
	c.Close()
	eventually(t, "the end", func() bool { return r.TryFill() == nil })
	if _, err := r.Read(b); err == nil || errors.Is(err, ErrWait) {
		t.Errorf("err = %v", err)
	}
}
