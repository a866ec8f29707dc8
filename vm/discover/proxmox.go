package discover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// proxmox asks the REST API of Proxmox VE. Its token needs VM.Audit, for the
// agent VM.GuestAgent.Audit (VM.Monitor before Proxmox VE 9), and VM.PowerMgmt
// to start and stop.
type proxmox struct {
	spec Spec
	api  *proxmoxAPI

	mu    sync.Mutex
	where *guest // the latest answer; nil: not known
}

func newProxmox(s Spec, u *url.URL) *proxmox {
	return &proxmox{spec: s, api: &proxmoxAPI{
		base:     u.Scheme + "://" + u.Host + strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/api2/json") + "/api2/json",
		token:    strings.TrimPrefix(s.Token, "PVEAPIToken="),
		caFile:   s.CAFile,
		insecure: s.Insecure,
	}}
}

// guest is a VM or container of the cluster, as in /cluster/resources.
type guest struct {
	Type     string // "qemu" or "lxc"
	Node     string
	Name     string
	VMID     number
	Template number
}

// path is that of something of the guest.
func (g *guest) path(rest string) string {
	return fmt.Sprintf("/nodes/%s/%s/%d/%s", url.PathEscape(g.Node), g.Type, g.VMID, rest)
}

// Addresses asks the agent of a VM, or the host of a container for its
// interfaces; then what is configured (cloud-init, static addresses).
func (p *proxmox) Addresses(ctx context.Context) ([]netip.Addr, error) {
	g, state, err := p.locate(ctx)
	if err != nil {
		return nil, err
	}
	if state.Status != "running" {
		return nil, offf("guest %d (%s) is %s", g.VMID, g.Name, state.Status)
	}
	body, err := p.api.get(ctx, g.path("config"))
	if err != nil {
		return nil, err
	}
	configured, err := parseProxmoxConfig(body)
	if err != nil {
		return nil, err
	}
	nics := slices.DeleteFunc(configured, func(n nic) bool { return p.spec.Network != "" && n.bridge != p.spec.Network })
	if len(nics) == 0 && p.spec.Network != "" {
		return nil, fmt.Errorf("guest %d has no interface on the bridge %q", g.VMID, p.spec.Network)
	}
	macs, fixed := []string{}, []netip.Addr{}
	for _, n := range nics {
		if n.mac != "" {
			macs = append(macs, n.mac)
		}
		fixed = append(fixed, n.fixed...)
	}
	interfaces, parse := "agent/network-get-interfaces", parseProxmoxAgent
	if g.Type == "lxc" {
		interfaces, parse = "interfaces", parseProxmoxInterfaces
	}
	body, err = p.api.get(ctx, g.path(interfaces))
	if err == nil {
		var all []found
		if all, err = parse(body); err == nil {
			if addresses := ofGuest(pick(all, macs)); len(addresses) > 0 {
				return addresses, nil
			}
			err = errors.New("its interfaces have none")
		}
	}
	if addresses := ofGuest(fixed); len(addresses) > 0 {
		return addresses, nil
	}
	return nil, fmt.Errorf("no address of guest %d yet: %w", g.VMID, err)
}

// locate finds the guest and its present state, on another node than last time
// if need be.
func (p *proxmox) locate(ctx context.Context) (*guest, proxmoxState, error) {
	p.mu.Lock()
	known := p.where
	p.mu.Unlock()
	if known != nil {
		if state, err := p.state(ctx, known); err == nil || ctx.Err() != nil {
			return known, state, err
		}
	}
	g, err := p.find(ctx)
	if err != nil {
		return nil, proxmoxState{}, err
	}
	p.mu.Lock()
	p.where = g
	p.mu.Unlock()
	state, err := p.state(ctx, g)
	return g, state, err
}

// find looks the guest up in the whole cluster.
func (p *proxmox) find(ctx context.Context) (*guest, error) {
	body, err := p.api.get(ctx, "/cluster/resources?type=vm")
	if err != nil {
		return nil, err
	}
	all, err := parseProxmoxResources(body)
	if err != nil {
		return nil, err
	}
	match := func(g guest) bool {
		if p.spec.Node != "" && g.Node != p.spec.Node || g.Type != "qemu" && g.Type != "lxc" {
			return false
		}
		if p.spec.VMID != 0 {
			return int(g.VMID) == p.spec.VMID
		}
		return g.Name == p.spec.Name && g.Template == 0
	}
	what := fmt.Sprintf("called %q", p.spec.Name)
	if p.spec.VMID != 0 {
		what = fmt.Sprintf("with id %d", p.spec.VMID)
	}
	if p.spec.Node != "" {
		what += fmt.Sprintf(" on node %q", p.spec.Node)
	}
	switch matching := slices.DeleteFunc(all, func(g guest) bool { return !match(g) }); len(matching) {
	case 0:
		return nil, fmt.Errorf("no guest %s that the token may see", what)
	case 1:
		return &matching[0], nil
	default:
		return nil, fmt.Errorf("%d guests %s: a vmid would say which", len(matching), what)
	}
}

// proxmoxState is a guest's, as in .../status/current.
type proxmoxState struct {
	Status    string // "running" or "stopped"
	QMPStatus string // "running", "paused", "prelaunch", …; empty for containers
}

func (p *proxmox) state(ctx context.Context, g *guest) (proxmoxState, error) {
	body, err := p.api.get(ctx, g.path("status/current"))
	if err != nil {
		return proxmoxState{}, err
	}
	var answer struct{ Data *proxmoxState }
	if err := json.Unmarshal(body, &answer); err != nil {
		return proxmoxState{}, fmt.Errorf("proxmox's answer: %w", err)
	}
	if answer.Data == nil || answer.Data.Status == "" {
		return proxmoxState{}, errors.New("proxmox's answer has no status")
	}
	return *answer.Data, nil
}
