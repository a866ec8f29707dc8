package load

import (
	"errors"
	"io"
	"time"

	"usher/bench/epoll"
	"usher/bench/share"
	"usher/bench/tls13"
)

// tlsFlood is HTTP/1.1 over TLS, on kept connections or on a new one each time.
type tlsFlood struct {
	count    *share.Counters
	template *tls13.Template
	request  []byte
	once     bool // one request for each connection, which the proxy closes
	buffer   []byte
}

// tlsState is one connection.
type tlsState struct {
	conn     *tls13.Conn
	response response
	got      bool   // a whole response
	out      []byte // the room for requests
}

func newTLSFlood(p Plan, count *share.Counters) (*tlsFlood, error) {
	template, err := tls13.New(Name)
	if err != nil {
		return nil, err
	}
	f := &tlsFlood{count: count, template: template, request: p.request(), once: p.Kind != "tls", buffer: make([]byte, 32<<10)}
	if p.Kind == "tls-resumed" {
		session, err := f.session(p)
		if err != nil {
			return nil, err
		}
		f.template = template.Resume(Name, session)
	}
	return f, nil
}

// session makes a connection to get a session from the proxy.
func (f *tlsFlood) session(p Plan) (*tls13.Session, error) {
	conn, err := dial(p.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	c := f.template.Conn(true)
	if _, err := conn.Write(c.Hello()); err != nil {
		return nil, err
	}
	for c.Session == nil {
		n, err := conn.Read(f.buffer)
		if err == io.EOF {
			return nil, errors.New("the proxy gives no session to resume")
		}
		if err != nil {
			return nil, err
		}
		reply, err := c.Receive(f.buffer[:n], func([]byte) {})
		if err != nil {
			return nil, err
		}
		if reply != nil {
			if _, err := conn.Write(c.Seal(reply, f.request)); err != nil {
				return nil, err
			}
		}
	}
	return c.Session, nil
}

func (f *tlsFlood) open() ([]byte, any, error) {
	s := &tlsState{conn: f.template.Conn(false)}
	return s.conn.Hello(), s, nil
}

func (f *tlsFlood) read(fd int, s *slot, ended bool) (next []byte, over bool) {
	t := s.state.(*tlsState)
	for {
		n := epoll.Read(fd, f.buffer)
		if n == epoll.Again {
			return next, false
		}
		if n <= 0 {
			// A new connection each time: done when it was closed in order.
			if n == 0 && f.once && t.got && t.conn.Closed {
				f.count.Done.Add(1)
			} else {
				f.count.Failed.Add(1)
			}
			return nil, true
		}
		ok := true
		reply, err := t.conn.Receive(f.buffer[:n], func(data []byte) { ok = ok && t.take(data) })
		if err != nil || !ok {
			f.count.Failed.Add(1)
			return nil, true
		}
		if reply != nil {
			next = t.conn.Seal(reply, f.request)
		}
		if t.got && !f.once {
			f.count.Done.Add(1)
			t.got = false
			t.out = t.conn.Seal(t.out[:0], f.request)
			return t.out, false
		}
		if n < len(f.buffer) && !ended {
			return next, false
		}
	}
}

// take reads decrypted bytes of a response.
func (t *tlsState) take(p []byte) bool {
	if r := &t.response; r.body > 0 {
		r.body -= int64(len(p))
	} else if !r.head(p) {
		return false
	}
	t.got = t.response.body == 0 && len(t.response.in) == 0
	return t.response.body >= 0
}
