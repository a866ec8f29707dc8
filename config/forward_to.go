package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// forwardTo reads where everything goes, or what no entry of sni names.
func (b *builder) forwardTo(f *Forward, t *table) {
	if !t.has("to") && !t.has("sni") {
		t.missing("to is missing: where the connections go")
	}
	f.To, _ = t.backends("to", func(text string) (Backend, error) {
		if !strings.Contains(text, "://") && (f.udp() || !strings.HasPrefix(text, "unix:")) {
			text = f.Protocol + "://" + text
		}
		return parseForward(text, b.env.vms, Scheme(f.Protocol))
	})
}

// parseForward reads scheme://host:port or, for TCP, unix:/path.
func parseForward(text string, vms map[string]VM, schemes ...Scheme) (Backend, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok && slices.Contains(schemes, TCP) {
		b, err := unixBackend(path)
		b.Scheme = TCP
		return b, err
	}
	scheme, rest, found := strings.Cut(text, "://")
	i := slices.Index(schemes, Scheme(scheme))
	switch {
	case !found:
		return Backend{}, fmt.Errorf("must begin with %s://", joinSchemes(schemes))
	case i < 0:
		return Backend{}, fmt.Errorf("%s:// cannot be used here, only %s://", scheme, joinSchemes(schemes))
	}
	b := Backend{Scheme: schemes[i], Weight: 1}
	if err := b.setAddress(rest, vms); err != nil {
		return b, err
	}
	if b.Port == 0 && !b.SRV {
		return b, errors.New("the port is missing")
	}
	return b, nil
}

func joinSchemes(schemes []Scheme) string {
	texts := make([]string, len(schemes))
	for i, s := range schemes {
		texts[i] = string(s)
	}
	return strings.Join(texts, ":// or ")
}
