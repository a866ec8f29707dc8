package discover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

const (
	dockerSocket = "/var/run/docker.sock"
	dockerLimit  = 8 << 20 // bytes of one answer
)

// docker asks the Docker Engine API, or Podman's equivalent, over its socket.
type docker struct {
	spec   Spec
	client *http.Client
}

func newDocker(s Spec) *docker {
	if s.Socket == "" {
		s.Socket = dockerSocket
	}
	if s.Container == "" && s.Label == "" {
		s.Container = s.Name
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
	}
	return &docker{s, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Addresses is the address of the container, or one of each that has the label.
func (d *docker) Addresses(ctx context.Context) ([]netip.Addr, error) {
	if d.spec.Label != "" {
		body, err := d.get(ctx, "/containers/json", filters{"label": {d.spec.Label}, "status": {"running"}})
		if err != nil {
			return nil, err
		}
		return d.parseList(body)
	}
	body, err := d.get(ctx, "/containers/"+url.PathEscape(d.spec.Container)+"/json", nil)
	if s, ok := errors.AsType[*statusError](err); ok && s.status == http.StatusNotFound {
		return nil, offf("there is no container %q", d.spec.Container)
	}
	if err != nil {
		return nil, err
	}
	return d.parseContainer(body)
}

// networks is where a container is connected, as in NetworkSettings.
type networks struct {
	Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
}

// parseContainer reads the answer of /containers/NAME/json.
func (d *docker) parseContainer(body []byte) ([]netip.Addr, error) {
	var c struct {
		State struct {
			Status  string
			Running bool
		}
		NetworkSettings networks
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("docker's answer: %w", err)
	}
	if !c.State.Running {
		return nil, offf("container %q is %s", d.spec.Container, cmp.Or(c.State.Status, "not running"))
	}
	a, err := d.address(c.NetworkSettings)
	if err != nil {
		return nil, fmt.Errorf("container %q %w", d.spec.Container, err)
	}
	return []netip.Addr{a}, nil
}

// parseList reads the answer of /containers/json.
func (d *docker) parseList(body []byte) ([]netip.Addr, error) {
	var list []struct {
		ID              string `json:"Id"`
		Names           []string
		NetworkSettings networks
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("docker's answer: %w", err)
	}
	if len(list) == 0 {
		return nil, offf("no running container has the label %q", d.spec.Label)
	}
	var all []netip.Addr
	var fault error
	for _, c := range list {
		a, err := d.address(c.NetworkSettings)
		if err != nil {
			fault = fmt.Errorf("container %q %w", strings.TrimPrefix(strings.Join(append(c.Names, c.ID)[:1], ""), "/"), err)
			continue
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return nil, fault
	}
	return tidy(all), nil
}

// address is the one of a container: in the network of the spec, else in the
// first one, by name, that gives it an address.
func (d *docker) address(n networks) (netip.Addr, error) {
	known := slices.Sorted(maps.Keys(n.Networks))
	for _, name := range known {
		if d.spec.Network != "" && name != d.spec.Network {
			continue
		}
		var both []netip.Addr
		for _, text := range []string{n.Networks[name].IPAddress, n.Networks[name].GlobalIPv6Address} {
			if a, ok := parseAddress(text); ok {
				both = append(both, a)
			}
		}
		if usable := ofGuest(both); len(usable) > 0 {
			return usable[0], nil
		}
	}
	if d.spec.Network != "" && !slices.Contains(known, d.spec.Network) {
		return netip.Addr{}, fmt.Errorf("is not in the network %q, but in %q", d.spec.Network, known)
	}
	return netip.Addr{}, fmt.Errorf("has no address of its own in its networks %q", known)
}

// Watch reads the event stream. Any event of those asked for is a change.
func (d *docker) Watch(ctx context.Context, changed func()) error {
	response, err := d.open(ctx, "/events", filters{
		"type":  {"container", "network"},
		"event": {"start", "die", "rename", "connect", "disconnect"},
	})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	changed()
	for events := json.NewDecoder(response.Body); ; {
		var event struct{}
		if err := events.Decode(&event); err != nil {
			return errors.Join(errors.New("docker's events ended"), err)
		}
		changed()
	}
}

type filters map[string][]string

type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func (d *docker) get(ctx context.Context, path string, f filters) ([]byte, error) {
	response, err := d.open(ctx, path, f)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readAll(response.Body, dockerLimit)
}

// open asks and returns the response if it is a good one; the caller closes its
// body. Without a version in its path a request means the daemon's own version.
func (d *docker) open(ctx context.Context, path string, f filters) (*http.Response, error) {
	target := "http://docker" + path
	if f != nil {
		text, err := json.Marshal(f)
		if err != nil {
			return nil, err
		}
		target += "?filters=" + url.QueryEscape(string(text))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("docker at %s: %w", d.spec.Socket, unwrapURL(err))
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var said struct{ Message string }
	if body, err := readAll(response.Body, 64<<10); err == nil {
		_ = json.Unmarshal(body, &said) // the status says enough without it
	}
	return nil, &statusError{response.StatusCode, fmt.Sprintf("docker at %s: %s: %.200q", d.spec.Socket, response.Status, said.Message)}
}

// readAll reads a whole body that is not over limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer is over %d bytes", limit)
	}
	return body, err
}

// unwrapURL drops the method and URL that net/http puts before its errors.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
