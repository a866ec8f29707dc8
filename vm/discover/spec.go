package discover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"time"
)

// Spec says whom to ask for what. Fields of other sources are ignored.
type Spec struct {
	Source   string        // "libvirt", "proxmox", "docker" or "exec"
	Name     string        // of the VM: what a domain, guest or container is called that has no name here
	Interval time.Duration // between two questions; 10 s by default

	Domain string // libvirt: name or UUID
	URI    string // libvirt: what to connect to; empty: as virsh does without one

	URL      string // proxmox: https://host:8006
	Token    string // proxmox: USER@REALM!TOKENID=SECRET
	Node     string // proxmox: where the guest is; empty: wherever it is
	VMID     int    // proxmox; 0: the guest called Name
	CAFile   string // proxmox: PEM file to trust instead of the system's
	Insecure bool   // proxmox: verify no certificate

	Socket    string // docker: /var/run/docker.sock by default
	Container string // docker: name or id
	Label     string // docker: "key" or "key=value", of any number of containers

	// Network is the only one whose addresses count: for docker the name of a
	// network, for libvirt the network or bridge of an interface, for proxmox
	// the bridge.
	Network string

	Command []string // exec: prints an address on each line
}

// Equal reports whether two specs ask the same of the same.
func (s *Spec) Equal(other *Spec) bool { return reflect.DeepEqual(s, other) }

// Source says where a VM is. It is safe for concurrent use.
type Source interface {
	// Addresses asks once. Off reports whether the error is that the VM is not
	// running; every other one says nothing about the VM.
	Addresses(ctx context.Context) ([]netip.Addr, error)
}

// Power is a Source that can do more. Each call waits until it is done or ctx
// ends, and returns what there is to say about it for the log. Starting what
// runs and stopping what does not is no error.
type Power interface {
	Source
	Start(ctx context.Context) (output string, err error)   // also what is paused
	Stop(ctx context.Context) (output string, err error)    // asks the guest to shut down
	Restart(ctx context.Context) (output string, err error) // hard: the guest may hang
}

// watcher is a Source that can tell of changes.
type watcher interface {
	// Watch calls changed as soon as it would learn of changes, and after each.
	// It returns when ctx ends or it learns of no more; not nil unless ctx ended.
	Watch(ctx context.Context, changed func()) error
}

// New makes the source of a spec. It asks nothing yet.
func New(s Spec) (Source, error) {
	switch s.Source {
	case "libvirt":
		return newLibvirt(s), nil
	case "proxmox":
		u, err := url.Parse(s.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("%q is no URL of a Proxmox server", s.URL)
		}
		if s.Token == "" {
			return nil, errors.New("no API token")
		}
		return newProxmox(s, u), nil
	case "docker":
		return newDocker(s), nil
	case "exec":
		if len(s.Command) == 0 {
			return nil, errors.New("no command")
		}
		return &program{s}, nil
	}
	return nil, fmt.Errorf("unknown source %q", s.Source)
}

// Off reports whether an error of a Source means that the VM is not running.
func Off(err error) bool {
	_, off := errors.AsType[offError](err)
	return off
}

type offError string

func (e offError) Error() string { return string(e) }

func offf(format string, args ...any) error { return offError(fmt.Sprintf(format, args...)) }
