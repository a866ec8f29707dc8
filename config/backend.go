package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"usher/router"
)

// maxUnixPath is the longest path of a unix socket on Linux, unix(7).
const maxUnixPath = 107

// String is the backend as the file would spell it, with its port.
func (b Backend) String() string {
	switch {
	case b.Unix != "":
		return "unix:" + b.Unix
	case b.Scheme == Whoami:
		return "whoami://"
	case b.Scheme == Redirect:
		return "redirect://" + b.Host
	case b.SRV:
		return string(b.Scheme) + "://" + b.Host
	}
	host := b.Host
	if b.VM != "" {
		host = b.VM
	}
	return string(b.Scheme) + "://" + net.JoinHostPort(host, strconv.Itoa(int(b.Port)))
}

// parseBackend reads [scheme://]host[:port] or unix:/path.
func parseBackend(text string, vms map[string]VM) (Backend, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return unixBackend(path)
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = string(HTTP), text
	}
	b := Backend{Scheme: knownScheme(scheme), Weight: 1}
	switch b.Scheme {
	case HTTP, H2C:
		b.Port = 80
	case HTTPS, Passthrough:
		b.Port = 443
	case Redirect:
		return redirectBackend(rest)
	case Whoami:
		if rest != "" {
			return b, errors.New("nothing may follow whoami://")
		}
		return b, nil
	default:
		return b, fmt.Errorf("unknown scheme %q%s", scheme, schemeHint(scheme))
	}
	return b, b.setAddress(rest, vms)
}

// knownScheme is one of our constants, so that no text of a file is kept.
func knownScheme(scheme string) Scheme {
	for _, s := range []Scheme{HTTP, HTTPS, H2C, Passthrough, Redirect, Whoami} {
		if string(s) == scheme {
			return s
		}
	}
	return ""
}

func schemeHint(scheme string) string {
	switch {
	case scheme == "unix" || strings.HasSuffix(scheme, "+unix"):
		return ` (a unix socket is "unix:/path")`
	case scheme == string(TCP) || scheme == string(UDP):
		return ": bytes that are not HTTP have a [[forward]]"
	}
	if hint := didYouMean(scheme, schemeNames()); hint != "" {
		return hint
	}
	return "; known are " + strings.Join(schemeNames(), ", ")
}

func schemeNames() []string {
	return []string{"http", "https", "h2c", "passthrough", "redirect", "whoami"}
}

func unixBackend(path string) (Backend, error) {
	b := Backend{Scheme: HTTP, Weight: 1, Unix: filepath.Clean(strings.Clone(path))}
	switch {
	case !filepath.IsAbs(path):
		return b, errors.New(`needs an absolute path, as in "unix:/run/app.sock"`)
	case len(path) > maxUnixPath:
		return b, fmt.Errorf("the path is longer than %d bytes", maxUnixPath)
	}
	return b, nil
}

// redirectBackend keeps the target as it was written.
func redirectBackend(target string) (Backend, error) {
	b := Backend{Scheme: Redirect, Weight: 1, Host: strings.Clone(target)}
	host, _, err := splitAddress(target)
	if err != nil {
		return b, err
	}
	key, err := canonical(host)
	if err != nil {
		return b, err
	}
	if !ascii(target) { // a Location field is ASCII
		b.Host = key + target[len(host):]
	}
	return b, nil
}

// setAddress reads host[:port] and looks the host up in [vms].
func (b *Backend) setAddress(text string, vms map[string]VM) error {
	host, port, err := splitAddress(text)
	if err != nil {
		return err
	}
	if port != 0 {
		b.Port = port
	}
	if vm, ok := vms[host]; ok {
		b.VM, b.Host = vm.Name, vm.Address
		if vm.Discover != nil {
			b.Host = vm.Name
		}
		return nil
	}
	if b.SRV = service(host); b.SRV {
		if b.Port = 0; port != 0 {
			return errors.New("SRV records say the port themselves: none may follow")
		}
	}
	b.Host, err = address(host)
	return err
}

// service reports whether a name is that of SRV records, RFC 2782: two labels
// that begin with "_", and a domain.
func service(host string) bool {
	first, rest, _ := strings.Cut(host, ".")
	second, domain, _ := strings.Cut(rest, ".")
	return len(first) > 1 && first[0] == '_' && len(second) > 1 && second[0] == '_' && strings.Trim(domain, ".") != ""
}

// splitAddress splits host[:port]; the port is 0 when there is none. Brackets
// stay on an IPv6 address.
func splitAddress(text string) (host string, port uint16, err error) {
	if i := strings.IndexAny(text, "/?#@"); i >= 0 {
		return "", 0, surplus(text[i])
	}
	host, rest := text, ""
	if end := strings.LastIndexByte(text, ']'); end >= 0 {
		host, rest = text[:end+1], text[end+1:]
	} else if strings.Count(text, ":") > 1 {
		return "", 0, errors.New("an IPv6 address stands in brackets, as in [fd00::1]:8080")
	} else if i := strings.IndexByte(text, ':'); i >= 0 {
		host, rest = text[:i], text[i:]
	}
	switch {
	case host == "" || host == "[]":
		return "", 0, errors.New("the host is missing")
	case rest == "":
		return host, 0, nil
	case rest[0] != ':':
		return "", 0, fmt.Errorf("%q is no port", rest)
	}
	n, err := strconv.ParseUint(rest[1:], 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is not a port between 1 and 65535", rest[1:])
	}
	return host, uint16(n), nil
}

func surplus(c byte) error {
	if c == '@' {
		return errors.New("a user name has no place here")
	}
	return errors.New("nothing may follow the port; the path and query are those of the request")
}

// address checks an IP address (IPv6 with or without brackets, a zone is
// allowed) or a DNS name, and gives its canonical form.
func address(host string) (string, error) {
	bare := host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		bare = host[1 : len(host)-1]
	}
	if strings.IndexByte(bare, ':') >= 0 {
		if ip, err := netip.ParseAddr(bare); err == nil {
			return ip.Unmap().String(), nil
		}
	}
	if bare != host {
		return "", fmt.Errorf("%q is not an IPv6 address", bare)
	}
	return canonical(host)
}

// canonical is the router's key of a host without port.
func canonical(host string) (string, error) {
	var buf [router.MaxHost]byte
	key, err := router.Canonical(buf[:0], []byte(host))
	return string(key), err
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 127 })
}
