// Package backend is the machine behind the proxies: one thread that answers
// HTTP/1.1 and the far ends of passthrough tunnels for less than any proxy
// spends on them.
//
// HTTP: GET /b/N answers with a body of N bytes, POST with 128 bytes once the
// body has arrived. Tunnels begin with a TLS record, a ClientHello, that is
// read and not understood; then "once" answers with Tiny and closes, and "ask"
// sends as many bytes as each 8 byte big-endian number asks for.
package backend

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"usher/bench/epoll"
	"usher/bench/share"
)

// Tiny is the answer of a tunnel that ends after it: 32 bytes.
const Tiny = "0123456789abcdef0123456789abcdef"

// Addresses are where the backend listens.
type Addresses struct {
	HTTP, Once, Ask netip.AddrPort
}

var tiny = []byte(Tiny)

type mode uint8

const (
	unused mode = iota
	http
	once
	ask
	listenHTTP
	listenOnce
	listenAsk
	control // standard input
)

// conn is one socket, found by its descriptor.
type conn struct {
	mode  mode
	hello bool   // of a tunnel: read
	close bool   // after what is pending
	in    []byte // an incomplete head, number or record
	body  int64  // of a request, still to come; chunked below zero
	tail  []byte // the last bytes of a chunked body
	out   []byte // to be written
	file  int64  // then as many bytes out of the file
}

type server struct {
	loop      *epoll.Loop
	count     *share.Counters
	conns     []conn
	buffer    []byte
	responses map[int64][]byte
	file      int // zeros, sent without copying
	newFlood  func(plan []byte, loop *epoll.Loop) (Flood, error)
	flood     Flood  // if one is running
	commands  []byte // an incomplete one
}

const (
	fileSize = 4 << 20
	inMemory = 1 << 20 // larger bodies come out of the file
)

// Run serves until its standard input ends. There it takes commands, a line
// each: the plan of a flood, of which one runs at a time; "batch" for a flood
// from elsewhere; "stop" after either.
func Run(at Addresses, count *share.Counters, newFlood func(plan []byte, loop *epoll.Loop) (Flood, error)) error {
	runtime.LockOSThread()
	debug.SetGCPercent(400)
	loop, err := epoll.New()
	if err != nil {
		return err
	}
	file, err := unix.MemfdCreate("body", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	if _, err := os.NewFile(uintptr(file), "body").Write(make([]byte, fileSize)); err != nil {
		return err
	}
	s := &server{loop: loop, count: count, conns: make([]conn, 1<<16), buffer: make([]byte, 256<<10), responses: map[int64][]byte{}, file: file, newFlood: newFlood}
	for addr, m := range map[netip.AddrPort]mode{at.HTTP: listenHTTP, at.Once: listenOnce, at.Ask: listenAsk} {
		fd, err := epoll.Listen(addr)
		if err != nil {
			return err
		}
		if m == listenOnce {
			epoll.DeferAccept(fd)
		}
		s.conns[fd].mode = m
		if err := loop.AddReader(fd); err != nil {
			return err
		}
	}
	if err := unix.SetNonblock(0, true); err != nil {
		return err
	}
	if s.conns[0].mode = control; loop.AddReader(0) != nil {
		return errors.New("standard input is no pipe")
	}
	for s.conns[0].mode == control {
		if err := loop.Wait(-1, s.ready); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) ready(fd int, events uint32) {
	if s.flood != nil && s.flood.Owns(fd) {
		s.flood.Ready(fd, events)
		return
	}
	c := &s.conns[fd]
	switch c.mode {
	case control:
		s.command()
		return
	case unused:
		return
	case listenHTTP:
		s.accept(fd, http)
		return
	case listenOnce:
		s.accept(fd, once)
		return
	case listenAsk:
		s.accept(fd, ask)
		return
	}
	if len(c.out) > 0 || c.file > 0 {
		if !s.flush(fd, c) {
			return
		}
	}
	if events&^uint32(epoll.Out) != 0 {
		s.read(fd, c)
	}
}

func (s *server) accept(listener int, m mode) {
	for {
		fd := epoll.Accept(listener)
		if fd < 0 || fd >= len(s.conns) {
			return
		}
		in := s.conns[fd].in[:0]
		s.conns[fd] = conn{mode: m, in: in}
		// What a proxy dials for a tunnel carries the hello at once.
		if m == once && s.read(fd, &s.conns[fd]) {
			continue
		}
		if s.loop.Add(fd) != nil {
			s.end(fd, &s.conns[fd])
		}
	}
}

// read takes what has arrived and reports whether the connection is over.
func (s *server) read(fd int, c *conn) bool {
	for {
		var n int
		if c.body > int64(len(s.buffer)) {
			n = epoll.Discard(fd, int(min(c.body-1, 4<<20))) // the last byte is for requests
		} else {
			n = epoll.Read(fd, s.buffer)
		}
		switch {
		case n == epoll.Again:
			return false
		case n <= 0:
			return s.end(fd, c)
		}
		s.count.In.Add(uint64(n))
		full := n == len(s.buffer) || c.body > int64(len(s.buffer))
		if c.body > int64(len(s.buffer)) {
			c.body -= int64(n)
			continue
		}
		if !s.take(c, s.buffer[:n]) || (len(c.out) > 0 || c.file > 0) && !s.flush(fd, c) {
			return s.end(fd, c)
		}
		if c.mode == unused {
			return true
		}
		if !full && c.body <= int64(len(s.buffer)) {
			return false
		}
	}
}

// take reports false for what no client of ours sends.
func (s *server) take(c *conn, p []byte) bool {
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	var rest []byte
	ok := true
	switch c.mode {
	case http:
		rest, ok = s.requests(c, p)
	case once, ask:
		rest = s.tunnel(c, p)
	}
	c.in = append(c.in[:0], rest...)
	return ok
}

// flush writes what is pending and reports false if the connection is over.
func (s *server) flush(fd int, c *conn) bool {
	for len(c.out) > 0 {
		n := epoll.Write(fd, c.out)
		switch {
		case n == epoll.Again:
			return true
		case n < 0:
			s.end(fd, c)
			return false
		}
		s.count.Out.Add(uint64(n))
		c.out = c.out[n:]
	}
	for c.file > 0 {
		n := epoll.SendFile(fd, s.file, 0, int(min(c.file, fileSize)))
		switch {
		case n == epoll.Again:
			return true
		case n <= 0:
			s.end(fd, c)
			return false
		}
		s.count.Out.Add(uint64(n))
		c.file -= int64(n)
	}
	if c.close {
		s.end(fd, c)
	}
	return true
}

// end closes a connection; it returns true for its callers' convenience.
func (s *server) end(fd int, c *conn) bool {
	if c.mode != unused {
		c.mode = unused
		epoll.Close(fd)
	}
	return true
}
