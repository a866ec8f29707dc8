package h1

import (
	"context"
	"crypto/tls"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// parking is a connection whose owner lets it be parked. Each exchange is
// answered with "ok".
type parking struct {
	t      *testing.T
	conn   *Conn
	client io.ReadWriteCloser
	parks  atomic.Int32 // how often Serve came back with ErrParked
	ended  chan error   // what Serve ended with
}

func newParking(t *testing.T, config *Config, secure bool) *parking {
	client := &message.Client{Proto: message.HTTP1, TLS: secure}
	return startParking(t, config, secure, client, handlerFunc(func(ex *message.Exchange) { answer(ex, "ok") }))
}

func startParking(t *testing.T, config *Config, secure bool, client *message.Client, h message.Handler) *parking {
	t.Helper()
	loop, err := socket.NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	looped := make(chan error)
	go func() { looped <- loop.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-looped })
	ours, peer := pair(t)
	ours.UseLoop(loop)
	p := &parking{t: t, client: peer, ended: make(chan error, 1)}
	var rw io.ReadWriter = ours
	var records *socket.Records
	if secure {
		records = socket.NewRecords(ours)
		front := tls.Server(records, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
		back := tls.Client(peer, &tls.Config{InsecureSkipVerify: true, ServerName: "x"})
		handshake(t, front, back)
		rw, p.client = front, back
	}
	p.conn = NewConn(config, rw, ours, client, h)
	p.conn.Parked(records, p)
	go p.serve()
	t.Cleanup(func() { p.client.Close(); <-p.ended })
	return p
}

func (p *parking) Again() { p.serve() }

func (p *parking) serve() {
	if err := p.conn.Serve(context.Background()); err == ErrParked {
		p.parks.Add(1)
	} else {
		p.ended <- err
		close(p.ended)
	}
}

func (p *parking) parked(times int32) {
	p.t.Helper()
	for end := time.Now().Add(10 * time.Second); p.parks.Load() < times; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("parked %d times, want %d", p.parks.Load(), times)
		}
	}
}

const parkedGet = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func (p *parking) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.client, text); err != nil {
		p.t.Fatal(err)
	}
}

// read wants n answers and returns the last head.
func (p *parking) read(n int) (head string) {
	p.t.Helper()
	for range n {
		head = ""
		one := make([]byte, 1)
		for len(head) < 4 || head[len(head)-4:] != "\r\n\r\n" {
			if _, err := io.ReadFull(p.client, one); err != nil {
				p.t.Fatalf("%q: %v", head, err)
			}
			head += string(one)
		}
		if body := make([]byte, 2); readFull(p.client, body) != nil || string(body) != "ok" {
			p.t.Fatalf("got %q", body)
		}
	}
	return head
}

func readFull(r io.Reader, b []byte) error { _, err := io.ReadFull(r, b); return err }

// over wants the connection to end in order.
func (p *parking) over() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.client); len(rest) > 0 || err != nil {
		p.t.Errorf("got %q, %v", rest, err)
	}
	if err := <-p.ended; err != nil {
		p.t.Errorf("Serve: %v", err)
	}
}

func plainAndTLS(t *testing.T, config *Config, f func(p *parking)) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) { f(newParking(t, config, secure)) })
	}
}

func TestIdleConnectionIsParked(t *testing.T) {
	plainAndTLS(t, &defaults, func(p *parking) {
		for i := range 5 {
			p.parked(int32(i + 1)) // the first time before any request
			p.send(parkedGet)
			p.read(1)
		}
		p.parked(6)
		p.client.Close()
		if err := <-p.ended; err != nil {
			p.t.Error(err)
		}
	})
}

// TestRequestInPieces arrives while the connection is parked, byte by byte.
func TestRequestInPieces(t *testing.T) {
	plainAndTLS(t, &defaults, func(p *parking) {
		p.parked(1)
		for i := range len(parkedGet) {
			p.send(parkedGet[i : i+1])
			runtime.Gosched()
		}
		p.read(1)
		p.parked(2)
	})
}

// TestLentClient has connections that know their addresses alone.
func TestLentClient(t *testing.T) {
	seen := make(chan *message.Client, 1)
	p := startParking(t, &defaults, false, nil, handlerFunc(func(ex *message.Exchange) {
		seen <- &message.Client{Addr: ex.Client.Addr, Local: ex.Client.Local, Proto: ex.Client.Proto}
		answer(ex, "ok")
	}))
	remote, local := p.conn.bare.Remote(), p.conn.bare.Local()
	for i := range int32(3) {
		p.parked(i + 1)
		p.send(parkedGet)
		p.read(1)
		if c := <-seen; c.Addr != remote || c.Local != local || c.Proto != message.HTTP1 {
			t.Errorf("the client is %+v", c)
		}
	}
	if p.parked(4); p.conn.client != nil {
		t.Error("a parked connection keeps its Client")
	}
}

// TestLentClientIsKept has a VM's connection attached to a lent Client.
func TestLentClientIsKept(t *testing.T) {
	vm := &attachment{closed: make(chan struct{})}
	found := make(chan bool, 1)
	p := startParking(t, &defaults, false, nil, handlerFunc(func(ex *message.Exchange) {
		found <- ex.Client.Detach("vm") == vm
		ex.Client.Attach("vm", vm)
		answer(ex, "ok")
	}))
	for i := range int32(3) {
		p.parked(i + 1)
		p.send(parkedGet)
		p.read(1)
		if <-found != (i > 0) {
			t.Errorf("request %d: found %v", i, i == 0)
		}
	}
	p.client.Close()
	<-vm.closed
}

type attachment struct{ closed chan struct{} }

func (c *attachment) Close() error { close(c.closed); return nil }

// TestPipelinedIsNotParked has requests that were read ahead: nobody would be
// told of them.
func TestPipelinedIsNotParked(t *testing.T) {
	plainAndTLS(t, &defaults, func(p *parking) {
		p.parked(1)
		p.send(parkedGet + parkedGet + parkedGet + parkedGet[:9])
		p.read(3)
		p.send(parkedGet[9:])
		p.read(1)
		p.parked(2)
	})
}

// TestSeveralRecordsAtOnce sends requests in records of their own, which reach
// the socket together: those that TLS has not returned yet are not forgotten.
func TestSeveralRecordsAtOnce(t *testing.T) {
	p := newParking(t, &defaults, true)
	for range 20 {
		for range 8 {
			p.send(parkedGet)
		}
		p.read(8)
	}
}

// TestRecordThatFillsTheBuffer has a request as long as what is read at once.
func TestRecordThatFillsTheBuffer(t *testing.T) {
	p := newParking(t, &defaults, true)
	p.parked(1)
	start := "GET / HTTP/1.1\r\nHost: x\r\nX: "
	request := start + strings.Repeat("x", smallBuffer-len(start)-4) + "\r\n\r\n"
	p.send(request + parkedGet)
	p.read(2)
	p.parked(2)
	p.send(request)
	p.read(1)
	p.send(parkedGet)
	p.read(1)
}

func TestParkedKeepAliveEnds(t *testing.T) {
	config := defaults
	config.KeepAlive, config.RequestHead = 500*time.Millisecond, time.Minute
	plainAndTLS(t, &config, func(p *parking) {
		p.send(parkedGet)
		p.read(1)
		start := time.Now()
		p.over()
		if took := time.Since(start); took < 500*time.Millisecond || took > 3*time.Second {
			p.t.Errorf("after %v", took)
		}
	})
}

func TestParkedNewConnectionEnds(t *testing.T) {
	config := defaults
	config.RequestHead = 500 * time.Millisecond
	plainAndTLS(t, &config, func(p *parking) { p.over() })
}

func TestParkedDrain(t *testing.T) {
	config := defaults
	config.DrainGrace = 100 * time.Millisecond
	plainAndTLS(t, &config, func(p *parking) {
		p.send(parkedGet)
		p.read(1)
		p.parked(1)
		p.conn.Drain()
		p.over()
	})
	config.DrainGrace = time.Minute
	plainAndTLS(t, &config, func(p *parking) { // one more request
		p.send(parkedGet)
		p.read(1)
		p.parked(1)
		p.conn.Drain()
		p.send(parkedGet)
		if head := p.read(1); !strings.Contains(head, "Connection: close\r\n") {
			p.t.Errorf("got %q", head)
		}
		p.over()
	})
}

// TestDrainMeetsParking drains while the connection is about to be parked.
func TestDrainMeetsParking(t *testing.T) {
	config := defaults
	config.DrainGrace = time.Millisecond
	for range 8 {
		p := newParking(t, &config, false)
		p.send(parkedGet)
		p.read(1)
		p.conn.Drain()
		p.over()
	}
}

// TestHalfCloseWhileParked is an orderly end, also right behind a request.
func TestHalfCloseWhileParked(t *testing.T) {
	plainAndTLS(t, &defaults, func(p *parking) {
		p.parked(1)
		p.client.(interface{ CloseWrite() error }).CloseWrite()
		p.over()
	})
	plainAndTLS(t, &defaults, func(p *parking) {
		p.parked(1)
		p.send(parkedGet)
		p.client.(interface{ CloseWrite() error }).CloseWrite()
		p.read(1)
		p.over()
	})
}

// TestManyRequestsAndParks has bytes arrive at every moment of the parking.
func TestManyRequestsAndParks(t *testing.T) {
	plainAndTLS(t, &defaults, func(p *parking) {
		for i := range 300 {
			p.send(parkedGet)
			p.read(1)
			if i%3 == 0 {
				runtime.Gosched()
			}
		}
	})
}

// TestParkedNeedsNoAllocation has the whole round: woken, served, parked.
func TestParkedNeedsNoAllocation(t *testing.T) {
	head, body := &message.Response{Status: 200, Length: 2}, []byte("ok")
	p := startParking(t, &defaults, false, nil, handlerFunc(func(ex *message.Exchange) {
		ex.Stream.WriteHead(head)
		ex.Stream.Write(body)
		ex.Stream.CloseWrite(nil)
	}))
	request, buf := []byte(parkedGet), make([]byte, 4096)
	once := func() {
		p.client.Write(request)
		p.client.Read(buf)
	}
	for range 20 {
		once()
	}
	if n := testing.AllocsPerRun(500, once); !raceEnabled && n > 0.1 {
		t.Errorf("%v allocations", n)
	}
}
