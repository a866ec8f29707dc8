package socket

import (
	"net"
	"sync"
	"testing"
	"time"
)

// TestQuiesceLosesNoConnection stops a listener in the middle of a stream of
// new connections: each that was established is accepted and answered.
func TestQuiesceLosesNoConnection(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				var b [1]byte
				s.Read(b[:])
				s.Write(b[:])
				s.Close()
			})
		}
	})
	stop := make(chan struct{})
	address := l.Addr().String()
	for range 4 {
		group.Go(func() { knock(t, address, stop) })
	}
	time.AfterFunc(50*time.Millisecond, func() {
		l.Quiesce()
		l.Close()
		close(stop)
	})
	group.Wait()
}

// knock connects again and again; only connecting itself may fail.
func knock(t *testing.T, address string, stop chan struct{}) {
	for n := 0; ; n++ {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			if n == 0 {
				t.Errorf("never connected: %v", err)
			}
			return
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		b := []byte{'x'}
		if _, err = c.Write(b); err == nil {
			_, err = c.Read(b)
		}
		c.Close()
		if err != nil {
			t.Errorf("connection %d was lost: %v", n, err)
			return
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}
