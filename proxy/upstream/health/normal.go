package health

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// What a Check says by saying nothing.
const (
	defaultInterval = 2 * time.Second
	defaultTimeout  = 2 * time.Second
	defaultRise     = 2
	defaultFall     = 3
	defaultStatus   = "200-399"
)

// normal is the key that is equal for checks that would do the same: defaults
// filled in, the port in the address, and nothing that does not matter.
func normal(c Check, address string) key {
	if host, _, err := net.SplitHostPort(address); c.Port != 0 && err == nil && !strings.HasPrefix(address, "unix:") {
		address = net.JoinHostPort(host, strconv.Itoa(int(c.Port)))
	}
	n := Check{Kind: c.Kind, Interval: c.Interval, Timeout: c.Timeout, Rise: max(c.Rise, 0), Fall: max(c.Fall, 0), Proxy: c.Proxy}
	defaults(&n)
	switch c.Kind {
	case TCP:
		if !strings.HasPrefix(address, "unix:") {
			n.Proxy = "" // nobody would read it, see socket.Probe
		}
	case TLS:
		n.Host = c.Host
	case HTTP:
		n.Method, n.Path, n.Host, n.Status, n.Body, n.HTTP2 = or(c.Method, "GET"), or(c.Path, "/"), or(c.Host, authority(address)), or(c.Status, defaultStatus), c.Body, c.HTTP2
	case GRPC:
		n.Host, n.Service, n.HTTP2 = or(c.Host, authority(address)), c.Service, true
	}
	if c.Secure && (c.Kind == HTTP || c.Kind == GRPC) {
		n.Secure, n.ServerName, n.RootsPEM, n.Insecure = true, or(c.ServerName, hostname(n.Host)), c.RootsPEM, c.Insecure
	}
	return key{n, address}
}

func defaults(c *Check) {
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Rise == 0 {
		c.Rise = defaultRise
	}
	if c.Fall == 0 {
		c.Fall = defaultFall
	}
}

func or(s, absent string) string {
	if s == "" {
		return absent
	}
	return s
}

// authority is the Host of who has said none.
func authority(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return "localhost"
	}
	return address
}

// hostname is a host without its port.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

// describe says for people what is checked.
func describe(k key) string {
	c := k.check
	scheme := [...]string{"tcp", "tls", "http", "grpc"}[c.Kind]
	if c.Secure {
		scheme += "s"
	}
	what := scheme + " " + k.address
	switch c.Kind {
	case TLS:
		if c.Host != "" {
			what += " as " + c.Host
		}
	case HTTP:
		what = fmt.Sprintf("%s %s %s %s", scheme, k.address, c.Method, c.Path)
	case GRPC:
		what += " " + or(c.Service, "(server)")
	}
	return fmt.Sprintf("%s every %v", what, c.Interval)
}
