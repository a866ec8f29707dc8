package h1

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"usher/proxy/message"
)

// upload sends the body of a request, from a goroutine unless send could do it
// at once.
type upload struct {
	v       *VM
	left    int64 // of the body, Unknown when it goes in chunks
	alone   bool  // there is no goroutine, and no need of VM.mu; owned by who calls RoundTrip
	start   func()
	waiting sync.WaitGroup

	// Guarded by VM.mu.
	running  bool
	moved    bool      // the goroutine has written something
	last     bool      // the last bytes are being written
	complete bool      // the whole request was written
	err      error     // why not
	fatal    bool      // err ends the exchange while there is no final head
	ended    time.Time // when the goroutine ended or, without one, the head was written
}

func (u *upload) reset(now time.Time) {
	u.left, u.alone, u.running, u.moved, u.last, u.complete, u.err, u.fatal = 0, true, false, false, false, false, nil, false
	u.ended = now
}

// bodyFault is the error of a request body that failed: the client's, unless
// it says otherwise.
func bodyFault(err error) error {
	var known *message.Error
	if errors.As(err, &known) {
		return known
	}
	return &message.Error{Side: message.ClientSide, Status: 400, Err: message.ErrClientGone}
}

// begin starts the goroutine.
func (u *upload) begin() {
	u.alone, u.running = false, true
	u.waiting.Add(1)
	go u.start()
}

// run is the goroutine.
func (u *upload) run() {
	defer u.waiting.Done()
	buf := take(mediumBuffer)
	var err error
	if u.left == message.Unknown {
		buf, err = u.chunks(buf)
	} else {
		buf, err = u.plain(buf)
	}
	give(buf)
	u.end(err)
}

// end records how the upload went and wakes a Read that waits for a response
// that cannot come any more. A VM that stopped reading may have answered, so
// that is left to the Read.
func (u *upload) end(err error) {
	v := u.v
	v.mu.Lock()
	defer v.mu.Unlock()
	u.running, u.complete, u.err, u.ended = false, err == nil, err, time.Now()
	var e *message.Error
	u.fatal = errors.As(err, &e) && (e.Side != message.VMSide || e.Status == 504)
	if u.fatal && !v.final {
		v.wire.SetReadDeadline(past())
	}
}

// plain sends a body of known length.
func (u *upload) plain(buf []byte) ([]byte, error) {
	body := u.v.ex.Request.Body
	for u.left > 0 {
		if piped, err := u.pipe(body); err != nil {
			return buf, err
		} else if piped {
			runtime.Gosched() // others have their turn: what is under way stays in the processor's cache
			continue
		}
		n, err := body.Read(buf[:min(int64(cap(buf)), u.left)])
		u.left -= int64(n)
		if e := u.write(buf[:n], u.left == 0); e != nil {
			return buf, e
		}
		if err != nil && u.left > 0 {
			return buf, bodyFault(err)
		}
		buf = larger(buf, n)
	}
	return buf, nil
}

// pipe moves one piece through the kernel, if both connections are bare and it
// is worth it.
func (u *upload) pipe(body message.Body) (piped bool, err error) {
	b, ok := body.(*requestBody)
	if !ok || u.v.bare == nil {
		return false, nil
	}
	p, from, err := b.ReadPipe()
	if p == nil {
		if err != nil {
			err = bodyFault(err)
		}
		return false, err
	}
	defer from.ReturnPipe(p)
	u.left -= int64(p.Held())
	u.begins(u.left == 0)
	if e := u.wrote(u.v.bare.WritePipe(p)); e != nil {
		return true, e
	}
	if err != nil && u.left > 0 {
		return true, bodyFault(err)
	}
	return true, nil
}

// larger exchanges a buffer that was filled for a larger one.
func larger(buf []byte, n int) []byte {
	if n < cap(buf) || n >= hugeBuffer {
		return buf
	}
	next := min(4*cap(buf), hugeBuffer)
	give(buf)
	return take(next)
}

// chunkTail is the room for what follows the last data.
const chunkTail = len("\r\n0\r\n\r\n")

// chunks sends a body of unknown length, framed in place.
func (u *upload) chunks(buf []byte) ([]byte, error) {
	r := &u.v.ex.Request
	for {
		room := buf[chunkHead : cap(buf)-chunkTail]
		n, err := r.Body.Read(room)
		out := frameChunk(buf[:cap(buf)], n)
		if err == io.EOF {
			out = appendLastChunk(out, &r.Trailer)
		}
		if e := u.write(out, err == io.EOF); e != nil || err == io.EOF {
			return buf, e
		}
		if err != nil {
			return buf, bodyFault(err)
		}
		if n == len(room) {
			buf = larger(buf, cap(buf))
		}
	}
}

// frameChunk puts the framing around the n bytes of data at chunkHead.
func frameChunk(buf []byte, n int) []byte {
	if n == 0 {
		return buf[:0]
	}
	var size [chunkHead]byte
	line := appendChunkSize(size[:0], n)
	from := chunkHead - len(line)
	copy(buf[from:], line)
	return append(buf[from:chunkHead+n], "\r\n"...)
}

// write sends p to the VM.
func (u *upload) write(p []byte, last bool) error {
	if len(p) == 0 {
		return nil
	}
	u.begins(last)
	_, err := u.v.rw.Write(p)
	return u.wrote(err)
}

// begins notes that bytes are being written.
func (u *upload) begins(last bool) {
	u.v.mu.Lock()
	u.moved, u.last = true, last
	u.v.mu.Unlock()
}

// wrote is the error of a write to the VM. Nothing is said of a VM that does
// not read while the response is on its way: then only Finish ends it.
func (u *upload) wrote(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return broken(504, errSilent)
	}
	return broken(502, err)
}

// lastWrite is how long Finish waits for the last bytes of a request whose
// response has come: the goroutine may only be about to notice that it is
// done.
const lastWrite = time.Second

// atVM reports whether it is the VM's turn: it has the whole request, or is
// asked whether it wants the body. The caller holds VM.mu.
func (u *upload) atVM() bool { return !u.running || u.v.ex.Request.ExpectContinue && !u.moved }

// finish ends the upload and reports whether the whole request was sent.
func (u *upload) finish() bool {
	if u.alone {
		return u.complete
	}
	v := u.v
	v.mu.Lock()
	running, last := u.running, u.last
	v.mu.Unlock()
	if running {
		u.stop(last)
	}
	u.waiting.Wait()
	return u.complete
}

func (u *upload) stop(last bool) {
	if last {
		t := time.AfterFunc(lastWrite, func() { u.v.wire.Close() })
		u.waiting.Wait()
		t.Stop()
		return
	}
	u.v.wire.Close()
	u.v.ex.Request.Body.Stop(errFinished)
}
