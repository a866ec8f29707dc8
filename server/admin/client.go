package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client asks a running process. Its errors are for people to read.
type Client struct {
	addr string
	host string
	http *http.Client
}

// Timing of the client.
const (
	dialTime  = 5 * time.Second
	replyTime = 2 * time.Minute
)

// maxReply bounds a reply: 100,000 sites take some 30 MB.
const maxReply = 256 << 20

// Dial prepares a client for "unix:PATH" or "IP:PORT". Nothing is dialed before
// the first question. Close frees its connections.
func Dial(addr string) *Client {
	c := &Client{addr: addr, host: addr}
	network, target := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, target, c.host = "unix", path, "localhost"
	}
	dialer := net.Dialer{Timeout: dialTime}
	c.http = &http.Client{
		Timeout: replyTime,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, target)
			},
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Close frees the client's connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks what the process knows of itself.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "/v1/status", &s)
}

// Sites asks for all sites.
func (c *Client) Sites(ctx context.Context) (s []Site, err error) {
	return s, c.ask(ctx, http.MethodGet, "/v1/sites", &s)
}

// VMs asks for all backend addresses.
func (c *Client) VMs(ctx context.Context) (v []VM, err error) {
	return v, c.ask(ctx, http.MethodGet, "/v1/vms", &v)
}

// Certs asks for all certificates.
func (c *Client) Certs(ctx context.Context) (v Certs, err error) {
	return v, c.ask(ctx, http.MethodGet, "/v1/certs", &v)
}

// Reload has the configuration read again and waits for the outcome. A refused
// configuration is a result, not an error.
func (c *Client) Reload(ctx context.Context, force bool) (r ReloadResult, err error) {
	path := "/v1/reload"
	if force {
		path += "?force=1"
	}
	return r, c.ask(ctx, http.MethodPost, path, &r)
}

// Drain keeps new work from a VM, by its name in [vms] or its address, or gives
// it some again.
func (c *Client) Drain(ctx context.Context, vm string, drained bool) (d Drained, err error) {
	verb := "/drain"
	if !drained {
		verb = "/undrain"
	}
	return d, c.ask(ctx, http.MethodPost, "/v1/vms/"+url.PathEscape(vm)+verb, &d)
}

func (c *Client) ask(ctx context.Context, method, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	r.Host = c.host
	w, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(err)
	}
	defer w.Body.Close()
	body := io.LimitReader(w.Body, maxReply)
	if w.StatusCode != http.StatusOK && w.StatusCode != http.StatusConflict {
		return c.refused(w.Status, body)
	}
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("what answers on %s is not usher: %w", c.addr, err)
	}
	return nil
}

func (c *Client) unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the URL, which is not what was dialed
	}
	return fmt.Errorf("no usher answers on %s (is it running?): %w", c.addr, err)
}

func (c *Client) refused(status string, body io.Reader) error {
	var f fault
	if json.NewDecoder(body).Decode(&f) != nil || f.Error == "" {
		return fmt.Errorf("what answers on %s is not usher: %s", c.addr, status)
	}
	return fmt.Errorf("usher on %s refused: %s", c.addr, f.Error)
}
