package config

import (
	"path/filepath"
	"strings"
	"time"
)

// The sources of Discover.
const (
	SourceLibvirt = "libvirt"
	SourceProxmox = "proxmox"
	SourceDocker  = "docker"
	SourceExec    = "exec"
)

// Discover is where the address of a VM is found out.
type Discover struct {
	Source   string
	Interval time.Duration // between two questions where the source cannot tell

	Domain, URI string // libvirt

	URL, Token, Node string // Proxmox; an empty Node is found by VMID
	VMID             int    // Proxmox; 0: the guest of the VM's name
	CAFile           string // Proxmox; empty: the system's
	Insecure         bool   // Proxmox: verify nothing

	Socket, Container, Label, Network string // Docker: either Container or Label; any network if empty

	Command []string // exec: prints addresses
}

// controls reports whether the source can start and stop a VM by itself.
func (d *Discover) controls() bool {
	return d != nil && (d.Source == SourceLibvirt || d.Source == SourceProxmox)
}

// discover reads "SOURCE" or { source = "SOURCE", … } for a VM.
func (b *builder) discover(t *table, name string) *Discover {
	sub := t
	key := "discover"
	switch v := t.values["discover"].(type) {
	case string:
	case map[string]any:
		sub, _ = t.sub("discover")
		sub.known(inDiscover)
		if key = "source"; !sub.has(key) {
			t.fault("discover", "source is missing: one of %s", alternatives(sources()))
			return nil
		}
	default:
		t.fault("discover", `must be a source such as "libvirt" or a table, not %s`, kindOf(v))
		return nil
	}
	source, ok := sub.choice(key, sources()...)
	if !ok {
		return nil
	}
	if sub == t { // a source alone
		sub = &table{report: t.report, site: t.site, dir: t.dir, path: t.at("discover"), label: t.label + "discover."}
	}
	d := &Discover{Source: source, Interval: 10 * time.Second}
	sub.between("interval", &d.Interval, leastInterval, mostInterval)
	b.source(d, sub, name)
	return d
}

func sources() []string { return []string{SourceLibvirt, SourceProxmox, SourceDocker, SourceExec} }

// source reads the keys of a source and reports those of others.
func (b *builder) source(d *Discover, t *table, name string) {
	for _, source := range sources() {
		for _, key := range sourceKeys(source) {
			if source != d.Source && t.has(key) {
				t.fault(key, "matters only with source = %q", source)
			}
		}
	}
	switch d.Source {
	case SourceLibvirt:
		d.libvirt(t, name)
	case SourceProxmox:
		b.proxmox(d, t)
	case SourceDocker:
		d.docker(t, name)
	case SourceExec:
		if d.Command = t.command("command"); !t.has("command") {
			t.missing("command is missing: what prints the addresses")
		}
	}
}

// sourceKeys are the keys of discover that one source has.
func sourceKeys(source string) []string {
	switch source {
	case SourceLibvirt:
		return []string{"domain", "uri"}
	case SourceProxmox:
		return []string{"url", "token", "token_file", "node", "vmid", "ca_file", "insecure"}
	case SourceDocker:
		return []string{"socket", "container", "label", "network"}
	}
	return []string{"command"}
}

func (d *Discover) libvirt(t *table, name string) {
	d.Domain, d.URI = name, "qemu:///system"
	if text, ok := t.required("domain"); ok {
		d.Domain = text
	}
	if text, ok := t.required("uri"); ok {
		d.URI = text
	}
	for key, text := range map[string]string{"domain": d.Domain, "uri": d.URI} {
		if strings.HasPrefix(text, "-") {
			t.fault(key, `%q begins with "-", which virsh takes for an option`, text)
		}
	}
}

func (d *Discover) docker(t *table, name string) {
	d.Socket = "/var/run/docker.sock"
	if text, ok := t.required("socket"); ok {
		if d.Socket = strings.TrimPrefix(text, "unix:"); !filepath.IsAbs(d.Socket) || len(d.Socket) > maxUnixPath {
			t.fault("socket", "%q is not the absolute path of a socket, of at most %d bytes", text, maxUnixPath)
		}
	}
	d.Label, _ = t.required("label")
	d.Network, _ = t.required("network")
	if d.Container, _ = t.required("container"); !t.has("container") && !t.has("label") {
		d.Container = name
	}
	if t.has("container") && t.has("label") {
		t.fault("label", "excludes container: keep one of the two")
	}
}
