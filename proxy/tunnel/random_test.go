package tunnel

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"usher/proxy/message"
)

// FuzzSchedule plays a schedule of writes, reads, half-closes and resets on
// both sides of a tunnel against a model: what comes out of one side is a
// prefix of what went into the other, all of it unless something was reset or
// aborted, and the tunnel always ends.
func FuzzSchedule(f *testing.F) {
	for seed := range byte(24) {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		s := make([]byte, 8+r.IntN(60))
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		f.Add(s)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, schedule []byte) {
		for name, mode := range modes {
			play(t, name, newRig(t, mode), schedule[:min(len(schedule), 100)])
		}
	})
}

// player is one side of a tunnel in a schedule.
type player struct {
	conn   *net.TCPConn
	sent   []byte // what was accepted by the kernel
	got    []byte
	end    error // of reading; nil is a FIN
	closed bool  // it sends no more
	broke  bool  // it was reset, or failed as it wrote
}

// play runs each byte of the schedule as one step: the side, the kind, and the
// size.
func play(t *testing.T, name string, r *rig, schedule []byte) {
	x := r.start(time.Minute)
	sides := [2]*player{{conn: x.client}, {conn: x.vm}}
	var readers sync.WaitGroup
	pause := make([]chan struct{}, 2)
	for i, p := range sides {
		pause[i] = make(chan struct{}, len(schedule))
		readers.Go(func() { p.read(pause[i]) })
	}
	aborted := false
	for at, b := range schedule {
		p := sides[b&1]
		switch kind := b >> 1 & 15; {
		case kind < 9:
			p.write(at, 1<<(kind*2+b>>5&1+2))
		case kind < 12:
			pause[b&1] <- struct{}{} // the reader rests for a while
		case kind == 12 && b >= 128:
			p.closed = true
			p.conn.CloseWrite()
		case kind == 13 && b >= 224:
			p.broke, p.closed = true, true
			p.conn.SetLinger(0)
			p.conn.Close()
		case kind == 14 && b >= 240:
			aborted = true
			x.Abort("schedule")
		}
	}
	for _, p := range sides {
		p.conn.CloseWrite()
	}
	readers.Wait()
	for _, p := range sides {
		p.conn.Close()
	}
	res := <-r.results
	check(t, name, sides, res, aborted)
}

// write sends n bytes that tell where they belong, without waiting for ever
// when nobody reads.
func (p *player) write(at, n int) {
	if p.closed {
		return
	}
	b := bytes.Repeat(fmt.Appendf(nil, "%d,", at), n/2+1)[:n]
	p.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	m, err := p.conn.Write(b)
	p.sent = append(p.sent, b[:m]...)
	if ne, ok := err.(net.Error); err != nil && !(ok && ne.Timeout()) {
		p.broke, p.closed = true, true
	}
}

func (p *player) read(pause chan struct{}) {
	b := make([]byte, 30<<10)
	for {
		select {
		case <-pause:
			time.Sleep(2 * time.Millisecond)
		default:
		}
		p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := p.conn.Read(b)
		p.got = append(p.got, b[:n]...)
		if err != nil {
			if p.end = err; err == io.EOF {
				p.end = nil
			}
			return
		}
	}
}

func check(t *testing.T, name string, sides [2]*player, res Result, aborted bool) {
	t.Helper()
	clean := !aborted && !sides[0].broke && !sides[1].broke
	for i, p := range sides {
		from := sides[1-i]
		if !bytes.HasPrefix(from.sent, p.got) {
			t.Fatalf("%s: side %d got %d bytes that are none of the %d sent", name, i, len(p.got), len(from.sent))
		}
		if clean && (len(p.got) != len(from.sent) || p.end != nil) {
			t.Fatalf("%s: side %d got %d of %d bytes, then %v", name, i, len(p.got), len(from.sent), p.end)
		}
		// A write that fails takes the reset with it: the next read just ends.
		if p.end == nil && len(p.got) < len(from.sent) && !p.broke && !from.broke {
			t.Fatalf("%s: side %d got %d of %d bytes and a clean end", name, i, len(p.got), len(from.sent))
		}
	}
	switch {
	case clean && (res.Reason != "closed" || res.Up != int64(len(sides[0].sent)) || res.Down != int64(len(sides[1].sent))):
		t.Fatalf("%s: %+v after %d up, %d down", name, res, len(sides[0].sent), len(sides[1].sent))
	case res.Side == message.Nobody || res.Reason == "":
		t.Fatalf("%s: %+v", name, res)
	}
}
