package h1

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// maxInterim is how many 1xx may come before a final response.
const maxInterim = 64

// receive reads heads up to the final one.
func (v *VM) receive() error {
	for range maxInterim + 1 {
		if err := v.readHead(); err != nil {
			return err
		}
		switch r := &v.ex.Response; {
		case r.Status >= 200:
			v.open()
			return nil
		case r.Status == 101:
			return v.switched()
		default:
			if err := v.interim(r); err != nil {
				return err
			}
		}
	}
	return broken(502, errInterim)
}

// interim passes a 1xx on. A VM that sends one is not silent.
func (v *VM) interim(r *message.Response) error {
	v.mu.Lock()
	v.up.ended = time.Now()
	v.mu.Unlock()
	return v.ex.Stream.WriteHead(r)
}

// readHead reads one head into the Response.
func (v *VM) readHead() error {
	resp := &v.ex.Response
	resp.Header.Reset()
	v.head.reset()
	if err := v.await(); err != nil {
		return err
	}
	for {
		if len(v.in.unread()) > 0 {
			done, size, err := v.head.parse(v.in.unread(), resp)
			if err != nil {
				return broken(502, err)
			}
			if done {
				v.in.at += size
				return nil
			}
		}
		moved, err := v.in.fillLine(maxSection)
		v.answered = v.answered || len(v.in.unread()) > 0
		if err != nil {
			return v.failure(err)
		}
		if moved {
			v.head.reset()
			resp.Header.Reset()
		}
	}
}

// open readies the body of the final response.
func (v *VM) open() {
	resp := &v.ex.Response
	mode, length := v.head.bodyOf(v.ex.Request.Method)
	v.in.pinned()
	v.body.start(&v.in, mode, length, &v.head.facts, &resp.Trailer)
	resp.Length, resp.Body = length, nil
	if mode != noBody {
		resp.Body = &v.body
	}
	if v.up.alone && !v.watching {
		v.final = true
		return
	}
	v.mu.Lock()
	v.final = true
	if v.watching && !v.gone {
		v.wire.SetReadDeadline(time.Time{})
	}
	v.mu.Unlock()
}

// switched checks that a 101 switches to what was asked for: anything else
// would let requests through a tunnel that the VM does not see as one.
func (v *VM) switched() error {
	asked, got := v.ex.Request.Upgrade, v.ex.Response.Upgrade
	if asked == nil || !equalFold(asked, got) {
		return broken(502, errSwitched)
	}
	v.in.pinned()
	v.ex.Response.Length, v.ex.Response.Body = 0, nil
	v.mu.Lock()
	v.final = true
	v.mu.Unlock()
	return nil
}

// vmReader is the VM as the reader under its input. A Read that waits for long
// has the client watched, and while there is no final head it ends when the
// VM has been silent for too long.
type vmReader VM

func (r *vmReader) Read(p []byte) (int, error) {
	v := (*VM)(r)
	for {
		n, err := readSome(v.rw, p)
		if n > 0 {
			return n, nil
		}
		if err := v.lapsed(err); err != nil {
			return 0, err
		}
	}
}

// wait waits for bytes of the bare connection without a buffer.
func (v *VM) wait() error {
	for {
		err := v.bare.WaitAnswer()
		if err == nil {
			return nil
		}
		if err := v.lapsed(err); err != nil {
			return err
		}
	}
}

// await waits for a response without a buffer: that of the one that came last
// is still in the processor's cache.
func (v *VM) await() error {
	if v.bare == nil || v.in.buf != nil {
		return nil
	}
	if err := v.wait(); err != nil {
		return v.failure(err)
	}
	return nil
}

// lapsed is why waiting has to end, nil if it has not.
func (v *VM) lapsed(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return v.cause(err)
	}
	v.watch()
	return v.expired()
}

// cause prefers what happened before the connection broke.
func (v *VM) cause(err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if why := v.interrupted(); why != nil {
		return why
	}
	return err
}

// interrupted is why reading has to end, nil if it has not. The caller holds
// mu.
func (v *VM) interrupted() error {
	switch {
	case v.stopped != nil:
		return stopped{v.stopped}
	case v.gone:
		return clientGone()
	case !v.final && v.up.err != nil && v.up.fatal:
		return v.up.err
	}
	return nil
}

// expired looks why a deadline passed and sets the next one.
func (v *VM) expired() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if why := v.interrupted(); why != nil {
		return why
	}
	var until time.Time
	if !v.final && v.silent > 0 {
		now := time.Now()
		until = now.Add(v.silent)
		if v.up.atVM() {
			until = v.up.ended.Add(v.silent)
		}
		if !until.After(now) {
			return broken(504, errSilent)
		}
	}
	v.wire.SetReadDeadline(until)
	return nil
}

// watch begins to watch the client, once for each exchange.
func (v *VM) watch() {
	if v.watching {
		return
	}
	v.watching = true
	v.mu.Lock()
	number := v.exchange
	v.mu.Unlock()
	leave := func() { v.left(number) }
	v.unwatch = context.AfterFunc(v.ctx, leave)
	v.ex.Stream.Watch(leave)
}

// left is told that the client of an exchange has gone.
func (v *VM) left(exchange uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.exchange == exchange {
		v.gone = true
		v.wire.SetReadDeadline(past())
	}
}

// responseBody is the body of a VM's response; it implements message.Body.
type responseBody struct {
	framed
	v   *VM
	err error
}

// Read returns io.EOF together with the last bytes where it can.
func (b *responseBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err = b.framed.read(p)
	if err != nil && err != io.EOF {
		err = vmFault(err)
	}
	b.err = err
	return n, err
}

// TryRead is Read that fails with socket.ErrWait where Read would wait.
func (b *responseBody) TryRead(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	b.in.hold = true
	n, err = b.framed.read(p)
	b.in.hold = false
	switch {
	case err == errWait && n == 0:
		return 0, socket.ErrWait
	case err == errWait:
		return n, nil
	case err != nil && err != io.EOF:
		err = vmFault(err)
	}
	b.err = err
	return n, err
}

// leastSpliced is how much has to be left of a body for pipes to cost less than
// copying.
const leastSpliced = 32 << 10

// SpliceTo moves what is left of a body to the client through the kernel, where
// both connections are bare and nothing has to be written between its pieces.
// It returns how much it moved, and io.EOF at the end; without an error the
// caller copies the rest.
func (b *responseBody) SpliceTo(client message.Stream) (n int64, err error) {
	to, ok := client.(*stream)
	if !ok || b.v.bare == nil || b.err != nil || b.mode != byLength || !to.splices(b.left) {
		return 0, nil
	}
	if p := b.in.unread(); len(p) > 0 {
		p = p[:min(int64(len(p)), b.left)]
		if err := to.begin(p); err != nil {
			return 0, err
		}
		n, b.left = int64(len(p)), b.left-int64(len(p))
		b.in.at += len(p)
	}
	for b.left > 0 {
		pipe, err := b.fill(to)
		if pipe == nil {
			if n > 0 {
				to.push() // the next bytes may be long in coming, or never come
			}
			return n, err
		}
		taken := int64(pipe.Held())
		b.left -= taken
		err = to.writePipe(pipe)
		n += taken - int64(pipe.Held())
		b.v.bare.ReturnPipe(pipe)
		if err != nil {
			return n, err
		}
		if b.left > 0 {
			runtime.Gosched() // others have their turn: what is under way stays in the processor's cache
		}
	}
	b.ended, b.err = true, io.EOF
	return n, io.EOF
}

// fill waits for bytes, for which what the client waits for is flushed, and
// puts them into a pipe.
func (b *responseBody) fill(to *stream) (pipe *socket.Pipe, err error) {
	for {
		pipe, err = b.v.bare.ReadPipe(int(min(b.left, socket.PipeSize)))
		switch err {
		case nil:
			return pipe, nil
		case socket.ErrWait:
			if err := to.push(); err != nil {
				return nil, err
			}
			err = b.v.wait()
		default:
			err = b.v.lapsed(err)
		}
		if err != nil {
			if err == io.EOF {
				err = errCutBody
			}
			b.err = vmFault(err)
			return nil, b.err
		}
	}
}

// Whole returns a body of known length if all of it has arrived and none was
// read, else nil. It is read then, and valid until Finish.
func (b *responseBody) Whole() []byte {
	p := b.in.unread()
	if b.err != nil || b.ended || b.mode != byLength || b.left > int64(len(p)) {
		return nil
	}
	p = p[:b.left]
	b.in.at += len(p)
	b.left, b.ended, b.err = 0, true, io.EOF
	return p
}

// vmFault is the error of a response body that could not be read.
func vmFault(err error) error {
	var known *message.Error
	switch {
	case plain(err) != err:
		return plain(err)
	case errors.As(err, &known):
		return known
	}
	return broken(502, err)
}

// Stop makes a Read, also one that waits, fail with err. The connection is not
// used again then, unless the body had ended.
func (b *responseBody) Stop(err error) {
	if err == nil {
		err = errFinished
	}
	b.v.mu.Lock()
	defer b.v.mu.Unlock()
	if b.v.stopped == nil {
		b.v.stopped = err
		b.v.wire.SetReadDeadline(past())
	}
}

// Ready reports whether Read has something to return without waiting.
func (b *responseBody) Ready() bool { return b.err != nil || b.ended || b.buffered() > 0 }

// Buffered is how many bytes of it are in memory.
func (b *responseBody) Buffered() int { return b.buffered() }
