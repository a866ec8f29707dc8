package load

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/share"
)

// timeout is far beyond what any proxy takes on loopback.
const timeout = 20 * time.Second

// shared is what the clients of one plan have in common.
type shared struct {
	tls     *tls.Config
	hello   []byte
	count   *share.Counters
	streams []client // one for each connection
}

func newShared(p Plan, count *share.Counters) (*shared, error) {
	s := &shared{tls: ClientTLS(p.Kind == "tls-resumed"), count: count}
	if p.Hello != "" {
		var err error
		if s.hello, err = os.ReadFile(p.Hello); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ClientTLS is what every TLS client of the bench speaks: TLS 1.3 with X25519,
// which all proxies have; the versions of the peers in Debian have no
// post-quantum group, so that offering one would burden usher and Caddy alone.
func ClientTLS(resume bool) *tls.Config {
	c := &tls.Config{ServerName: Name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"http/1.1"}}
	if resume {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return c
}

// httpClient is a kept connection.
type httpClient struct {
	conn    net.Conn
	request []byte
	buffer  []byte
}

// dial connects without keep-alive probes of our own.
func dial(addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: -1}
	return d.Dial("tcp", addr.String())
}

func dialHTTP(p Plan, config *tls.Config) (*httpClient, error) {
	conn, err := dial(p.Addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	return &httpClient{conn: conn, request: p.request(), buffer: make([]byte, min(64<<10, 4<<10+p.Size))}, nil
}

func (c *httpClient) Do() error {
	c.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	return c.response()
}

func (c *httpClient) response() error {
	body, err := c.head()
	for err == nil && body > 0 {
		var n int
		n, err = c.conn.Read(c.buffer[:min(body, int64(len(c.buffer)))])
		body -= int64(n)
	}
	return err
}

// head reads a head and returns how much of the body is still to come.
func (c *httpClient) head() (int64, error) {
	n := 0
	for {
		m, err := c.conn.Read(c.buffer[n:])
		if n += m; m == 0 && err != nil {
			return 0, err
		}
		end := bytes.Index(c.buffer[:n], []byte("\r\n\r\n"))
		if end < 0 {
			if n == len(c.buffer) {
				return 0, errors.New("a head without end")
			}
			continue
		}
		size, ok := contentLength(c.buffer[:end+2])
		if !bytes.HasPrefix(c.buffer, []byte("HTTP/1.1 200")) || !ok {
			return 0, fmt.Errorf("unexpected answer %.40q", c.buffer[:end])
		}
		return size - int64(n-end-4), nil
	}
}

// upload posts a body of zeros out of a file, without copying it.
type upload struct {
	httpClient
	body *os.File
	size int64
}

const bodyFile = 4 << 20

func dialUpload(p Plan, _ *shared) (*upload, error) {
	p.Kind = "post"
	size := p.Size
	c, err := dialHTTP(p, nil)
	if err != nil {
		return nil, err
	}
	c.request = c.request[:len(c.request)-int(size)]
	fd, err := unix.MemfdCreate("body", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	body := os.NewFile(uintptr(fd), "body")
	if err := body.Truncate(bodyFile); err != nil {
		return nil, err
	}
	return &upload{*c, body, size}, nil
}

func (u *upload) Do() error {
	u.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := u.conn.Write(u.request); err != nil {
		return err
	}
	for left := u.size; left > 0; left -= min(left, bodyFile) {
		if _, err := u.body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := u.conn.(*net.TCPConn).ReadFrom(io.LimitReader(u.body, left)); err != nil {
			return err
		}
	}
	return u.response()
}

// discard takes n bytes out of a connection without copying them.
func discard(conn syscall.Conn, n int64) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for n > 0 {
			got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, 0, uintptr(min(n, 8<<20)), unix.MSG_TRUNC, 0, 0)
			switch {
			case errno == unix.EAGAIN:
				return false
			case errno != 0:
				failed = errno
				return true
			case got == 0:
				failed = io.ErrUnexpectedEOF
				return true
			}
			n -= int64(got)
		}
		return true
	})
	return errors.Join(err, failed)
}
