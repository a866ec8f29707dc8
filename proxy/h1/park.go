package h1

import (
	"io"
	"os"
	"time"

	"usher/proxy/socket"
)

// errStay says that a connection cannot be parked.
const errStay fault = "the connection holds more than its socket"

// park reads the first bytes of a request if they are there, and parks the
// connection if not. Afterwards, unless it returns ErrParked or an error, c.x
// holds them.
func (c *Conn) park() error {
	if c.history == silent {
		return os.ErrDeadlineExceeded
	}
	if c.bare == nil {
		return c.parkTLS()
	}
	if c.bare.Pending() {
		if err := c.tryFirst(); err != socket.ErrWait {
			return err
		}
	}
	return c.leave(c.bare)
}

// tryFirst reads into a fresh exchange unless it would have to wait.
func (c *Conn) tryFirst() error {
	c.x = takeExchange(c)
	n, err := c.x.in.try(c.bare)
	if n == 0 {
		c.drop()
		return err
	}
	c.x.ex.Trace.Start = time.Now()
	return nil
}

// parkTLS is park for a connection that has to be read through TLS.
func (c *Conn) parkTLS() error {
	records, ok := c.wire.(*socket.Records)
	if !ok || c.full {
		return errStay
	}
	if records.Empty() && !(records.Pending() && records.TryFill() == nil) {
		return c.leave(records.Socket)
	}
	c.rest(c.idleLimit())
	return c.firstRead()
}

// leave parks the connection. When that fails, it waits with a goroutine.
func (c *Conn) leave(s *socket.Socket) error {
	c.rest(0)
	if s.Park(c.idleLimit(), (*parkedConn)(c)) != nil {
		return errStay
	}
	return ErrParked
}

// parkedConn is a Conn as the one that its socket is parked for.
type parkedConn Conn

// Resume has the owner go on.
func (p *parkedConn) Resume(readable bool) {
	if !readable {
		p.history = silent
	}
	p.owner.Again()
}

// try is fill that does not wait.
func (in *input) try(s *socket.Socket) (int, error) {
	in.makeRoom()
	end := len(in.buf)
	n, err := s.TryRead(in.buf[end:cap(in.buf)])
	in.buf = in.buf[:end+n]
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}
