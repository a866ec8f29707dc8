package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// handshakes opens a TLS connection for each request, and waits until the
// proxy has closed it.
type handshakes struct {
	plan   Plan
	config *tls.Config
	client httpClient
	primed bool // there is a session to resume
}

func (h *handshakes) Do() error {
	raw, err := dial(h.plan.Addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(timeout))
	conn := tls.Client(raw, h.config)
	c := &h.client
	if c.conn = conn; c.buffer == nil {
		c.buffer = make([]byte, 16<<10)
		c.request = fmt.Appendf(nil, "GET /b/%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: close\r\n\r\n", h.plan.Size, Name)
	}
	if err := c.Do(); err != nil {
		return err
	}
	if _, err := conn.Read(c.buffer); err != io.EOF {
		return fmt.Errorf("not closed after Connection: close: %v", err)
	}
	if resumed := conn.ConnectionState().DidResume; resumed != (h.plan.Kind == "tls-resumed") && h.primed {
		return fmt.Errorf("resumed: %v", resumed)
	}
	h.primed = true
	return nil
}

// tlsBulk downloads over a kept TLS connection. At a rate it decrypts; in a
// flood it looks at the head and discards the records as they come, so that
// the load costs next to nothing. bench checks the content beforehand.
type tlsBulk struct {
	httpClient
	raw   *net.TCPConn
	flood bool
}

func dialTLSBulk(p Plan, s *shared) (client, error) {
	if p.Rate == 0 {
		p.Size = Endless
	}
	p.Kind = "h1"
	c, err := dialHTTP(p, s.tls)
	if err != nil {
		return nil, err
	}
	return &tlsBulk{*c, c.conn.(*tls.Conn).NetConn().(*net.TCPConn), p.Rate == 0}, nil
}

func (b *tlsBulk) Do() error {
	if !b.flood {
		return b.httpClient.Do()
	}
	if _, err := b.conn.Write(b.request); err != nil {
		return err
	}
	if _, err := b.head(); err != nil {
		return err
	}
	if err := discard(b.raw, Endless); err != nil {
		return err
	}
	return errors.New("an endless download ended")
}
