package peer

import (
	"fmt"
	"path/filepath"
	"syscall"

	"usher/bench/load"
	"usher/bench/machine"
)

// Usher is a binary of ours, under the name that its column has.
func Usher(name, path string) *Proxy {
	return &Proxy{Name: name, Path: path, start: startUsher, stop: syscall.SIGKILL, version: []string{"version"}}
}

// startUsher leaves everything at its default but addresses and the access log.
func startUsher(p *Proxy, t *Task) (machine.Command, error) {
	t.Pass = t.TLS
	file, err := t.WriteUsher()
	return machine.Command{Args: []string{p.Path, "run", "-c", file}}, err
}

// WriteUsher writes usher's file and returns its path.
func (t *Task) WriteUsher() (string, error) {
	log, include := t.Log, ""
	if log == "" {
		log = "off"
	}
	if t.Include != "" {
		include = fmt.Sprintf("include = [%q]\n", filepath.Join(t.Include, "*.toml"))
	}
	return t.write("usher.toml", include+fmt.Sprintf(`state_dir = %q
[listen]
http = [%q]
https = [%q]
[admin]
listen = %q
[log]
access = %q
[sites]
%q = "passthrough://%s"
%q = "passthrough://%s"
[sites.%q]
to = "http://%s"
certificate = { cert = %q, key = %q }
http = "forward"
%s`, filepath.Join(t.Dir, "state"), t.Plain, t.TLS, t.Admin(), log,
		load.OnceName, t.Backend.Once, load.AskName, t.Backend.Ask, load.Name, t.Backend.HTTP, t.Cert, t.Key, t.Extra))
}

// Admin is the address of usher's admin API.
func (t *Task) Admin() string { return "unix:" + filepath.Join(t.Dir, "admin.sock") }
