package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// number is an integer that Proxmox writes as a number, a string or a boolean.
type number int

func (n *number) UnmarshalJSON(text []byte) error {
	switch s := strings.Trim(string(text), `"`); s {
	case "true":
		*n = 1
	case "false", "null", "":
		*n = 0
	default:
		v, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("%.40q is no number", s)
		}
		*n = number(v)
	}
	return nil
}

// parseProxmoxResources reads the answer of /cluster/resources.
func parseProxmoxResources(body []byte) ([]guest, error) {
	var answer struct{ Data []guest }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("proxmox's answer: %w", err)
	}
	return answer.Data, nil
}

// nic is a configured network interface.
type nic struct {
	mac, bridge string
	fixed       []netip.Addr // that it is configured with
}

// parseProxmoxConfig reads the interfaces from a guest's configuration: net0 …
// of "model=MAC,bridge=B" (VM) or "name=N,bridge=B,hwaddr=MAC,ip=A/L"
// (container), and a VM's ipconfig0 … of "ip=A/L,gw=G".
func parseProxmoxConfig(body []byte) ([]nic, error) {
	var answer struct{ Data map[string]any }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("proxmox's answer: %w", err)
	}
	var nics []nic
	for i := range 32 { // as many as there can be
		text, ok := answer.Data["net"+strconv.Itoa(i)].(string)
		if !ok {
			continue
		}
		var n nic
		cloud, _ := answer.Data["ipconfig"+strconv.Itoa(i)].(string)
		for part := range strings.SplitSeq(text+","+cloud, ",") {
			key, value, _ := strings.Cut(part, "=")
			if mac := parseMAC(value); mac != "" {
				n.mac = mac
			}
			switch key {
			case "bridge":
				n.bridge = value
			case "ip", "ip6":
				if a, ok := parseAddress(value); ok { // else "dhcp", "auto", "manual"
					n.fixed = append(n.fixed, a)
				}
			}
		}
		nics = append(nics, n)
	}
	return nics, nil
}

// proxmoxInterface is an interface as the agent and the host of a container
// list it: the latter in an older and a newer form.
type proxmoxInterface struct {
	Hardware  string `json:"hardware-address"`
	Hwaddr    string
	Inet      string
	Inet6     string
	Addresses []struct {
		Address string `json:"ip-address"`
	} `json:"ip-addresses"`
}

func (i *proxmoxInterface) found() []found {
	mac := parseMAC(i.Hardware)
	if mac == "" {
		mac = parseMAC(i.Hwaddr)
	}
	var all []found
	add := func(text string) {
		if a, ok := parseAddress(text); ok {
			all = append(all, found{mac, a})
		}
	}
	add(i.Inet)
	add(i.Inet6)
	for _, a := range i.Addresses {
		add(a.Address)
	}
	return all
}

// parseProxmoxAgent reads the answer of .../agent/network-get-interfaces: the
// agent's own answer or error under "result".
func parseProxmoxAgent(body []byte) ([]found, error) {
	var answer struct {
		Data struct{ Result json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("proxmox's answer: %w", err)
	}
	var refused struct{ Error struct{ Desc, Class string } }
	if json.Unmarshal(answer.Data.Result, &refused) == nil && refused.Error.Class+refused.Error.Desc != "" {
		return nil, fmt.Errorf("the guest's agent: %.200q", refused.Error.Desc)
	}
	return parseInterfaces(answer.Data.Result)
}

// parseProxmoxInterfaces reads the answer of .../lxc/ID/interfaces.
func parseProxmoxInterfaces(body []byte) ([]found, error) {
	var answer struct{ Data json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("proxmox's answer: %w", err)
	}
	return parseInterfaces(answer.Data)
}

func parseInterfaces(text []byte) ([]found, error) {
	if len(text) == 0 {
		return nil, errors.New("proxmox's answer has no interfaces")
	}
	var list []proxmoxInterface
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("proxmox's answer: %w", err)
	}
	var all []found
	for i := range list {
		all = append(all, list[i].found()...)
	}
	return all, nil
}
