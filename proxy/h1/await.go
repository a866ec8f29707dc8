package h1

import (
	"errors"
	"io"
	"os"
	"time"

	"usher/proxy/message"
)

// await waits for the first byte of a request, without a buffer where that
// costs nothing, and reports whether there is one: if so c.x holds it. No
// error means that the client has left, or was idle for too long. After
// ErrParked the connection is somebody else's.
func (c *Conn) await() (arrived bool, err error) {
	if c.x != nil {
		c.x.ex.Trace.Start = time.Now()
		return true, nil // pipelined
	}
	if err = c.waitFirst(); err == ErrParked {
		return false, err
	}
	c.wake()
	if err == nil {
		c.history = used
		return true, nil
	}
	if c.x != nil {
		c.drop()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return false, err
}

func (c *Conn) waitFirst() error {
	if c.owner != nil {
		if err := c.park(); err != errStay {
			return err
		}
	}
	c.rest(c.idleLimit())
	if c.bare == nil {
		if err := c.awaitByte(); err != nil {
			return err
		}
	} else if c.history == used {
		if err := c.bare.WaitReadable(time.Time{}); err != nil {
			return err
		}
	}
	// On a new connection the request is often there already.
	return c.firstRead()
}

// firstRead reads into a fresh exchange.
func (c *Conn) firstRead() error {
	if c.x == nil {
		c.x = takeExchange(c)
		n, _, err := c.x.in.fill()
		if n == 0 {
			return err
		}
	}
	c.x.ex.Trace.Start = time.Now()
	return nil
}

// awaitByte waits with a buffer of one byte: TLS cannot be asked whether it
// holds decrypted bytes, but reading them in two pieces costs no system call.
func (c *Conn) awaitByte() error {
	first := make([]byte, 1)
	if _, err := readSome(c.rw, first); err != nil {
		return err
	}
	c.x = takeExchange(c)
	c.x.in.buf = append(take(smallBuffer), first...)
	return nil
}

// idleLimit is how long the client may take to begin a request; 0 is for ever.
func (c *Conn) idleLimit() time.Duration {
	if c.history == used {
		return c.config.KeepAlive
	}
	return c.config.RequestHead
}

// rest sets the deadline of an idle connection.
func (c *Conn) rest(limit time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var until time.Time
	if grace := c.config.DrainGrace; c.draining.Load() && (limit == 0 || grace < limit) {
		until = time.Now().Add(grace)
	} else if limit > 0 {
		until = time.Now().Add(limit)
	}
	c.idle = true
	c.wire.SetReadDeadline(until)
}

// wake is the end of rest.
func (c *Conn) wake() {
	c.mu.Lock()
	c.idle = false
	c.mu.Unlock()
}

// readHead reads the rest of the head. If it reports false the connection was
// answered and closed.
func (c *Conn) readHead(x *exchange) (ok bool, err error) {
	c.identify()
	x.begin()
	limited := false
	for {
		done, size, bad := x.head.parse(x.in.unread(), &x.ex.Request)
		if bad != nil {
			return false, c.refuse(x, bad)
		}
		if done {
			x.in.at += size
			x.in.pinned()
			x.describe()
			return true, nil
		}
		if !limited {
			limited = true
			c.limitHead(x)
		}
		moved, err := x.in.fillLine(maxSection)
		if err != nil {
			return false, c.cutHead(x, err)
		}
		if moved {
			x.head.reset()
			x.ex.Request.Header.Reset()
		}
	}
}

func (c *Conn) limitHead(x *exchange) {
	var until time.Time
	if d := c.config.RequestHead; d > 0 {
		until = x.ex.Trace.Start.Add(d)
	}
	c.wire.SetReadDeadline(until)
}

// cutHead ends a connection whose head did not arrive completely.
func (c *Conn) cutHead(x *exchange, err error) error {
	nothing := string(x.in.unread()) == "\r\n"
	switch {
	case nothing:
		c.drop()
		c.close()
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.refuse(x, refuse(408, errSlowHead))
	}
	bad := refuse(400, errCutHead)
	x.describe()
	c.handler.Malformed(&x.ex, bad)
	c.drop()
	c.close()
	return bad
}

// refuse answers a malformed request, tells the handler, and closes.
func (c *Conn) refuse(x *exchange, bad *message.Error) error {
	x.describe()
	x.ex.Trace.Status, x.ex.Trace.Side, x.ex.Trace.Reason = bad.Status, bad.Side, bad.Err.Error()
	c.answer(x, bad.Status, extraFields(bad))
	c.handler.Malformed(&x.ex, bad)
	c.drop()
	c.linger()
	return bad
}

// extraFields are those that a status has to come with.
func extraFields(bad *message.Error) string {
	switch bad.Status {
	case 405:
		return "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
	case 426:
		return "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
	}
	return ""
}

// answer writes an answer of our own, after which the connection is closed.
func (c *Conn) answer(x *exchange, status int, fields string) {
	text := reason(status)
	c.wire.SetWriteTimeout(c.config.Timeouts.ResponseWrite)
	x.stream.drop()
	b := appendDate(appendStatus(take(smallBuffer), status))
	b = append(append(b, fields...), "Content-Type: text/plain; charset=utf-8\r\n"...)
	b = appendLength(b, int64(len(text)+1))
	b = append(b, "Connection: close\r\n\r\n"...)
	if string(x.ex.Request.Method) != "HEAD" {
		b = append(append(b, text...), '\n')
	}
	c.rw.Write(b)
	give(b)
}
