package h3

import (
	"errors"
	"io"
	"os"
	"time"

	"usher/proxy/fields"
	"usher/proxy/message"
)

const (
	maxEncoded = 128 << 10 // of a field section as it arrives
	// tailWait is how long the end of a request that has no body as a rule is
	// waited for when its head came without: a packet that was lost should not
	// make it a chunked one.
	tailWait = 100 * time.Millisecond
)

// head reads the request up to its body. A connError ends the connection, a
// *message.Error is to be answered or makes the request malformed, anything
// else means that the client has left.
func (e *exchange) head(start time.Time) error {
	if d := e.conn.config.RequestHead; d > 0 {
		e.str.SetReadDeadline(start.Add(d))
	}
	n, err := e.firstHeaders()
	if err != nil {
		return err
	}
	if n > maxEncoded {
		return fields.Refuse(431, fields.ErrTooLarge)
	}
	p, err := e.in.payload(int(n), e.grow)
	if err != nil {
		return err
	}
	if err := e.decode(p); err != nil {
		return err
	}
	if !e.conn.reserve(e.section.Size) {
		return errHeads
	}
	e.size += e.section.Size
	return e.request()
}

// firstHeaders reads up to the payload of the first HEADERS.
func (e *exchange) firstHeaders() (length uint64, err error) {
	for {
		kind, n, err := e.in.header()
		switch {
		case err == io.EOF:
			return 0, errCutHead
		case err != nil:
			return 0, err
		case kind == frameHeaders:
			return n, nil
		case kind == frameData || misplaced(kind):
			return 0, connError{codeUnexpected, errOrder}
		}
		if err := e.ignore(n); err != nil {
			return 0, err
		}
	}
}

// ignore skips a frame of an unknown type (RFC 9114 section 9), which is noise.
func (e *exchange) ignore(n uint64) error {
	if !e.conn.noise(weight(n)) {
		return connError{codeExcessive, errNoise}
	}
	e.pad = n
	return e.in.skip(&e.pad)
}

// weight is how much noise an ignored frame is: one for each KiB begun.
func weight(n uint64) int { return 1 + int(min(n>>10, 1<<20)) }

// grow asks for a larger buffer for a field section.
func (e *exchange) grow(size int) error {
	if !e.conn.reserve(size) {
		return errHeads
	}
	e.size += size
	return nil
}

// decode reads a field section (RFC 9204 section 4.5) into e.section.
func (e *exchange) decode(p []byte) error {
	next := e.decoder.Decode(p)
	for {
		f, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return connError{codeDecompression, errQPACK}
		}
		if !e.section.Add(f.Name, f.Value) {
			return nil // the rest concerns nobody: there is no table to keep
		}
	}
}

// request makes a request of the section.
func (e *exchange) request() error {
	var r fields.Request
	defer e.section.Reset()
	if err := r.Parse(&e.section, &e.ex); err != nil {
		r.Describe(&e.ex.Trace)
		return err
	}
	if r.Tunnel() {
		e.tunnel = true
		return e.ready()
	}
	e.rest = r.Length()
	end, err := e.bodyless()
	if err != nil {
		return err
	}
	req := &e.ex.Request
	if err := r.Framing(end, req); err != nil {
		r.Describe(&e.ex.Trace)
		return err
	}
	if req.Length == message.Unknown && e.in.end && int(e.left) == len(e.in.unread()) {
		req.Length = int64(e.left) // all of it is at hand
		e.rest = 0
	}
	if req.Length != 0 {
		req.Body = (*requestBody)(e)
		e.expects = req.ExpectContinue
	}
	e.ended = end
	return e.ready()
}

// ready ends the time limit of the head.
func (e *exchange) ready() error {
	e.begun = true
	e.str.SetReadDeadline(time.Time{})
	e.rank()
	return nil
}

// bodyless reports that the request ends with its head. It waits a little for
// methods that have no body as a rule.
func (e *exchange) bodyless() (bool, error) {
	if err := e.prime(); err != nil {
		return false, err
	}
	if e.left > 0 || len(e.in.unread()) > 0 {
		return false, nil
	}
	if e.in.end || e.rest != message.Unknown || !safe(e.ex.Request.Method) {
		return e.in.end, nil
	}
	e.str.SetReadDeadline(time.Now().Add(tailWait))
	err := e.in.fill()
	switch {
	case err == io.EOF:
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errSlowHead):
		return false, nil
	case err != nil:
		return false, err
	}
	err = e.prime()
	return e.in.end && e.left == 0 && len(e.in.unread()) == 0, err
}

// safe reports a method that may be served from early data (RFC 8470 section
// 4) and has no body as a rule.
func safe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// prime takes the header of a DATA frame, and unknown frames, that are in the
// buffer already, so that a small body can go with the head.
func (e *exchange) prime() error {
	for e.left == 0 {
		p := e.in.unread()
		kind, n := parseVarint(p)
		length, m := parseVarint(p[n:])
		switch {
		case n == 0 || m == 0 || kind == frameHeaders:
			return nil
		case misplaced(kind):
			return connError{codeUnexpected, errOrder}
		case kind != frameData && length > uint64(len(p)-n-m):
			return nil
		}
		e.in.r += n + m
		var err error
		if kind == frameData {
			err = e.data(length)
		} else {
			err = e.ignore(length)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
