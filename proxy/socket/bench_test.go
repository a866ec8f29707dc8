package socket

import (
	"context"
	"testing"
	"time"
)

// BenchmarkConnection dials, accepts and closes.
func BenchmarkConnection(b *testing.B) {
	l := listener(b)
	addr := l.Addr().String()
	b.ReportAllocs()
	for b.Loop() {
		c, err := Dial(context.Background(), "tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Abort() // leaves no TIME_WAIT behind
		s.Close()
	}
}

// BenchmarkPark parks a socket and wakes it.
func BenchmarkPark(b *testing.B) {
	s, c := pair(b)
	s.UseLoop(running(b))
	over := make(chan bool)
	var then Resumer = resumer(func(r bool) { over <- r })
	p := make([]byte, 10)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Park(time.Hour, then); err != nil {
			b.Fatal(err)
		}
		c.Write(p)
		<-over
		s.Read(p)
	}
}

// BenchmarkEcho waits for each of its bytes.
func BenchmarkEcho(b *testing.B) {
	s, c := pair(b)
	go func() {
		p := make([]byte, 100)
		for {
			n, err := c.Read(p)
			if err != nil {
				return
			}
			c.Write(p[:n])
		}
	}()
	p := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		s.SetReadDeadline(time.Now().Add(time.Minute))
		s.Write(p)
		if _, err := s.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatch arms and disarms, as an exchange does that has to wait.
func BenchmarkWatch(b *testing.B) {
	s, _ := pair(b)
	s.UseLoop(running(b))
	gone := func() {}
	b.ReportAllocs()
	for b.Loop() {
		s.Watch(gone)
		s.Watch(nil)
	}
}
