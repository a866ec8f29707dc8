package health

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

const (
	maxHead   = 64 << 10 // of an answer
	maxBody   = 64 << 10 // of an answer that is looked at
	maxInform = 10       // 1xx answers before the real one
	userAgent = "usher-health"
)

// prepare makes what all checks over HTTP have in common.
func (m *maker) prepare() (err error) {
	if m.check.Kind == GRPC {
		m.request, err = grpcRequest(m.check)
	} else {
		m.request, err = request(m.check)
	}
	if err != nil {
		return failure("the request cannot be sent: " + err.Error())
	}
	if m.check.HTTP2 {
		m.transport = m.newTransport()
	}
	if m.check.Kind == GRPC {
		return nil
	}
	if m.statuses, err = parseStatus(m.check.Status); err != nil || m.check.HTTP2 {
		return err
	}
	m.request.Close = true
	var wire bytes.Buffer
	if err := m.request.Write(&wire); err != nil {
		return failure("the request cannot be sent: " + err.Error())
	}
	m.wire = wire.Bytes()
	return nil
}

func request(c Check) (*http.Request, error) {
	scheme := "http"
	if c.Secure {
		scheme = "https"
	}
	r, err := http.NewRequest(c.Method, scheme+"://vm"+c.Path, nil)
	if err != nil {
		return nil, err
	}
	r.Host = c.Host
	r.Header.Set("User-Agent", userAgent)
	return r, nil
}

// newTransport makes HTTP/2 connections out of those of connect, which has
// made the TLS handshake if there is one.
func (m *maker) newTransport() *http.Transport {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return m.connect(ctx) },
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// makeHTTP2 makes a check over a connection of its own.
func (m *maker) makeHTTP2(ctx context.Context) error {
	c, err := m.transport.NewClientConn(ctx, "http", "vm:80")
	if err != nil {
		return err
	}
	defer c.Close()
	request := m.request.WithContext(ctx)
	if m.request.GetBody != nil {
		request.Body, _ = m.request.GetBody()
	}
	response, err := c.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if m.check.Kind == GRPC {
		return at("gRPC", judgeGRPC(response, m.check.Service))
	}
	return m.judge(response)
}

// readers are for the heads of answers.
type readers struct{ sync.Pool }

func (p *readers) get(from io.Reader) *bufio.Reader {
	if r, ok := p.Get().(*bufio.Reader); ok {
		r.Reset(from)
		return r
	}
	return bufio.NewReader(from)
}

func (p *readers) put(r *bufio.Reader) {
	r.Reset(nil)
	p.Put(r)
}

// makeHTTP1 makes a check over a connection that ends afterwards.
func (m *maker) makeHTTP1(c *conn) error {
	if _, err := c.Write(m.wire); err != nil {
		return err
	}
	limit := &io.LimitedReader{R: c, N: maxHead}
	r := m.readers.get(limit)
	defer m.readers.put(r)
	response, err := m.readHead(r)
	if err != nil {
		if limit.N <= 0 {
			return failure(fmt.Sprintf("the head of the answer is longer than %d KiB", maxHead>>10))
		}
		return err
	}
	limit.N = 2 * maxBody // chunks have heads too
	return m.judge(response)
}

// readHead reads the first answer that is final.
func (m *maker) readHead(r *bufio.Reader) (*http.Response, error) {
	for range maxInform + 1 {
		response, err := http.ReadResponse(r, m.request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, failure(fmt.Sprintf("more than %d informational answers", maxInform))
}

// judge looks at the status and, if it matters, at the body.
func (m *maker) judge(r *http.Response) error {
	if !wanted(m.statuses, r.StatusCode) {
		return failure(fmt.Sprintf("status %d, want %s", r.StatusCode, m.check.Status))
	}
	if m.check.Body == "" {
		return nil
	}
	found, err := holds(r.Body, m.check.Body)
	if err == nil && !found {
		return failure(fmt.Sprintf("status %d, but the body does not hold %q", r.StatusCode, m.check.Body))
	}
	return at("body", err)
}

// holds reads no further than it must to find a text.
func holds(body io.Reader, text string) (bool, error) {
	var have []byte
	part := make([]byte, 4<<10)
	body = io.LimitReader(body, maxBody)
	for {
		n, err := body.Read(part)
		from := max(len(have)-len(text)+1, 0)
		have = append(have, part[:n]...)
		if bytes.Contains(have[from:], []byte(text)) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
