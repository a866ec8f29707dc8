package discover

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const proxmoxToken = "usher@pve!edge=12345678-1234-1234-1234-1234567890ab"

// cluster is a Proxmox VE cluster: the paths, parameters and JSON of its
// published API description, as far as they are used.
type cluster struct {
	mu     sync.Mutex
	guests []*member
	tasks  map[string]int    // by UPID: how often it is still running
	exits  map[string]string // by what it does: another exit status than OK
	posts  []string
	slow   int // how often the first task is still running
}

type member struct {
	kind, node, name, status, qmp string
	id                            int
	template                      int
	config                        map[string]string
	interfaces                    string // JSON; empty: the agent does not run
}

func newCluster(t *testing.T) (*cluster, *httptest.Server) {
	c := &cluster{tasks: map[string]int{}, exits: map[string]string{}, slow: 1}
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api2/json"+path, func(w http.ResponseWriter, r *http.Request) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if r.Header.Get("Authorization") != "PVEAPIToken="+proxmoxToken {
				status(w, "401 No ticket")
				return
			}
			h(w, r)
		})
	}
	handle("GET /cluster/resources", c.resources)
	handle("GET /nodes/{node}/{kind}/{id}/status/current", c.current)
	handle("GET /nodes/{node}/{kind}/{id}/config", c.config)
	handle("GET /nodes/{node}/qemu/{id}/agent/network-get-interfaces", c.agent)
	handle("GET /nodes/{node}/lxc/{id}/interfaces", c.interfaces)
	handle("POST /nodes/{node}/{kind}/{id}/status/{what}", c.act)
	handle("GET /nodes/{node}/tasks/{upid}/status", c.task)
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	return c, server
}

// status answers as pveproxy does: the reason is in the status line.
func status(w http.ResponseWriter, line string) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, reason, _ := strings.Cut(line, " ")
	body := fmt.Sprintf(`{"data":null,"message":"%s\n"}`, reason)
	fmt.Fprintf(buffer, "HTTP/1.1 %s\r\nContent-Type: application/json;charset=UTF-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", line, len(body), body)
	buffer.Flush()
}

func (c *cluster) find(w http.ResponseWriter, r *http.Request) *member {
	for _, m := range c.guests {
		if m.node == r.PathValue("node") && fmt.Sprint(m.id) == r.PathValue("id") && strings.Contains(r.URL.Path, "/"+m.kind+"/") {
			return m
		}
	}
	status(w, fmt.Sprintf("500 Configuration file 'nodes/%s/qemu-server/%s.conf' does not exist", r.PathValue("node"), r.PathValue("id")))
	return nil
}

func (c *cluster) resources(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("type") != "vm" {
		status(w, "400 Parameter verification failed.")
		return
	}
	all := []any{}
	for _, m := range c.guests { // its status is some seconds old
		all = append(all, map[string]any{"id": fmt.Sprintf("%s/%d", m.kind, m.id), "type": m.kind, "vmid": m.id, "name": m.name, "node": m.node,
			"status": "unknown", "template": m.template, "maxcpu": 2, "cpu": 0.029760791383837, "mem": 2095718400, "uptime": 174255})
	}
	answer(w, http.StatusOK, map[string]any{"data": all})
}

func (c *cluster) current(w http.ResponseWriter, r *http.Request) {
	if m := c.find(w, r); m != nil {
		answer(w, http.StatusOK, map[string]any{"data": map[string]any{"status": m.status, "qmpstatus": m.qmp, "vmid": m.id, "name": m.name, "agent": 1, "ha": map[string]any{"managed": 0}}})
	}
}

func (c *cluster) config(w http.ResponseWriter, r *http.Request) {
	if m := c.find(w, r); m != nil {
		data := map[string]any{"cores": 2, "memory": "2048", "digest": "4bf2f2b7b6f2f2a5f2b7b6f2f2a5f2b7b6f2f2a5"}
		for key, value := range m.config {
			data[key] = value
		}
		answer(w, http.StatusOK, map[string]any{"data": data})
	}
}

func (c *cluster) agent(w http.ResponseWriter, r *http.Request) {
	m := c.find(w, r)
	switch {
	case m == nil:
	case m.interfaces == "":
		status(w, "500 QEMU guest agent is not running")
	default:
		fmt.Fprintf(w, `{"data":{"result":%s}}`, m.interfaces)
	}
}

func (c *cluster) interfaces(w http.ResponseWriter, r *http.Request) {
	if m := c.find(w, r); m != nil {
		fmt.Fprintf(w, `{"data":%s}`, m.interfaces)
	}
}

func (c *cluster) act(w http.ResponseWriter, r *http.Request) {
	m := c.find(w, r)
	if m == nil {
		return
	}
	what := r.PathValue("what")
	c.posts = append(c.posts, strings.TrimSpace(what+" "+r.PostFormValue("timeout")))
	running := m.status == "running"
	switch {
	case what == "start" && !running:
		m.status, m.qmp = "running", "running"
	case what == "resume" && running:
		m.qmp = "running"
	case (what == "shutdown" || what == "stop" && m.kind == "lxc") && running:
		m.status, m.qmp = "stopped", "stopped"
	case what == "reset" && running && m.kind == "qemu":
	default:
		status(w, fmt.Sprintf("500 VM %d not running", m.id))
		return
	}
	upid := fmt.Sprintf("UPID:%s:0000%d:01F2A3B4:5F2B7B6F:qm%s:%d:usher@pve!edge:", m.node, len(c.tasks), what, m.id)
	if c.tasks[upid] = 0; len(c.tasks) == 1 { // the first takes its time
		c.tasks[upid] = c.slow
	}
	answer(w, http.StatusOK, map[string]any{"data": upid})
}

func (c *cluster) task(w http.ResponseWriter, r *http.Request) {
	upid := r.PathValue("upid")
	left, known := c.tasks[upid]
	data := map[string]any{"upid": upid, "node": r.PathValue("node"), "status": "running", "pid": 1234, "type": "qmstart"}
	switch {
	case !known:
		status(w, "400 no such task")
		return
	case left > 0:
		c.tasks[upid]--
	default:
		data["status"], data["exitstatus"] = "stopped", "OK"
		for what, exit := range c.exits {
			if strings.Contains(upid, "qm"+what) {
				data["exitstatus"] = exit
			}
		}
	}
	answer(w, http.StatusOK, map[string]any{"data": data})
}

const qemuInterfaces = `[
 {"name":"lo","hardware-address":"00:00:00:00:00:00","statistics":{"rx-packets":185},"ip-addresses":[{"prefix":8,"ip-address-type":"ipv4","ip-address":"127.0.0.1"},{"ip-address":"::1","prefix":128,"ip-address-type":"ipv6"}]},
 {"name":"ens18","hardware-address":"bc:24:11:2e:c5:9d","ip-addresses":[{"prefix":24,"ip-address-type":"ipv4","ip-address":"10.0.0.21"},{"prefix":64,"ip-address-type":"ipv6","ip-address":"2001:db8::21"},{"prefix":64,"ip-address-type":"ipv6","ip-address":"fe80::be24:11ff:fe2e:c59d"}]},
 {"name":"ens19","hardware-address":"bc:24:11:2e:c5:9e","ip-addresses":[{"prefix":24,"ip-address-type":"ipv4","ip-address":"10.9.0.21"}]},
 {"name":"docker0","hardware-address":"02:42:11:2e:c5:9d","ip-addresses":[{"prefix":16,"ip-address-type":"ipv4","ip-address":"172.17.0.1"}]},
 {"name":"ens20"}]`

func guests() []*member {
	nets := map[string]string{"net0": "virtio=BC:24:11:2E:C5:9D,bridge=vmbr0,firewall=1", "net1": "e1000=BC:24:11:2E:C5:9E,bridge=vmbr1,tag=7", "scsi0": "local:vm-100-disk-0,size=32G"}
	cloud := map[string]string{"net0": "virtio=BC:24:11:2E:C5:AA,bridge=vmbr0", "ipconfig0": "ip=10.0.0.31/24,gw=10.0.0.1,ip6=auto"}
	return []*member{
		{kind: "qemu", node: "pve1", name: "web1", id: 100, status: "running", qmp: "running", config: nets, interfaces: qemuInterfaces},
		{kind: "qemu", node: "pve2", name: "cloud", id: 101, status: "running", qmp: "running", config: cloud},
		{kind: "qemu", node: "pve1", name: "windows", id: 102, status: "running", qmp: "running", config: map[string]string{"net0": "e1000=BC:24:11:2E:C5:AB,bridge=vmbr0"},
			interfaces: `{"error":{"class":"CommandNotFound","desc":"The command guest-network-get-interfaces has not been found","data":{"name":"guest-network-get-interfaces"}}}`},
		{kind: "qemu", node: "pve1", name: "asleep", id: 103, status: "stopped", qmp: "stopped", config: nets},
		{kind: "qemu", node: "pve1", name: "twin", id: 104, status: "running", config: nets, interfaces: qemuInterfaces},
		{kind: "qemu", node: "pve2", name: "twin", id: 105, status: "stopped", config: nets},
		{kind: "qemu", node: "pve1", name: "gold", id: 106, template: 1, status: "stopped"},
		{kind: "lxc", node: "pve1", name: "ct", id: 700, status: "running", config: map[string]string{"net0": "name=eth0,bridge=vmbr0,firewall=1,hwaddr=BC:24:11:89:67:07,ip=dhcp,type=veth"},
			interfaces: `[{"inet":"127.0.0.1/8","hwaddr":"00:00:00:00:00:00","name":"lo","inet6":"::1/128"},{"inet6":"fe80::be24:11ff:fe89:6707/64","name":"eth0","hwaddr":"bc:24:11:89:67:07","inet":"192.168.3.95/22"},{"name":"docker0","hwaddr":"02:42:11:89:67:07","inet":"172.17.0.1/16"}]`},
		{kind: "lxc", node: "pve1", name: "new", id: 701, status: "running", config: map[string]string{"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:89:67:08,ip6=2001:db8::95/64"},
			interfaces: `[{"name":"eth0","hardware-address":"bc:24:11:89:67:08","ip-addresses":[{"ip-address":"192.168.3.96","ip-address-type":"inet","prefix":22},{"ip-address":"192.168.3.97","ip-address-type":"inet","prefix":22}]}]`},
		{kind: "lxc", node: "pve1", name: "static", id: 702, status: "running", config: map[string]string{"net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:89:67:09,ip=192.168.3.98/22"}, interfaces: "[]"},
	}
}

func TestProxmox(t *testing.T) {
	t.Parallel()
	c, server := newCluster(t)
	c.guests = guests()
	for _, test := range []struct {
		spec Spec
		want string
		off  bool
	}{
		{Spec{Name: "web1"}, "10.0.0.21 10.9.0.21", false},
		{Spec{Name: "x", VMID: 100}, "10.0.0.21 10.9.0.21", false},
		{Spec{Name: "x", VMID: 100, Node: "pve1", Network: "vmbr1"}, "10.9.0.21", false},
		{Spec{Name: "web1", Network: "vmbr9"}, `no interface on the bridge "vmbr9"`, false},
		{Spec{Name: "cloud"}, "10.0.0.31", false},
		{Spec{Name: "windows"}, `no address of guest 102 yet: the guest's agent: "The command guest-network-get-interfaces has not been found"`, false},
		{Spec{Name: "asleep"}, "guest 103 (asleep) is stopped", true},
		{Spec{Name: "twin"}, `2 guests called "twin"`, false},
		{Spec{Name: "twin", Node: "pve2"}, "guest 105 (twin) is stopped", true},
		{Spec{Name: "gold"}, `no guest called "gold" that the token may see`, false},
		{Spec{Name: "web1", Node: "pve2"}, `no guest called "web1" on node "pve2"`, false},
		{Spec{Name: "x", VMID: 9}, "no guest with id 9", false},
		{Spec{Name: "ct"}, "192.168.3.95", false},
		{Spec{Name: "new"}, "192.168.3.96 192.168.3.97", false},
		{Spec{Name: "static"}, "192.168.3.98", false},
		{Spec{Name: "web1", Token: "usher@pve!edge=wrong"}, "401 No ticket", false},
	} {
		t.Run(fmt.Sprintf("%s-%d-%s", test.spec.Name, test.spec.VMID, test.spec.Node), func(t *testing.T) {
			s := test.spec
			s.Source, s.URL, s.Insecure = "proxmox", server.URL, true
			if s.Token == "" {
				s.Token = proxmoxToken
			}
			asks(t, source(t, s), test.want, test.off)
		})
	}
}

func TestProxmoxVerifiesTheCertificate(t *testing.T) {
	t.Parallel()
	c, server := newCluster(t)
	c.guests = guests()
	file := filepath.Join(t.TempDir(), "ca.pem")
	spec := Spec{Source: "proxmox", Name: "ct", URL: server.URL + "/", Token: "PVEAPIToken=" + proxmoxToken}
	asks(t, source(t, spec), "certificate", false)
	spec.CAFile = file
	s := source(t, spec)
	asks(t, s, "no such file", false)
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	asks(t, s, "no certificate in", false)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	asks(t, s, "192.168.3.95", false)
}

func TestProxmoxFollowsAMigratedGuest(t *testing.T) {
	t.Parallel()
	c, server := newCluster(t)
	c.guests = guests()
	s := source(t, Spec{Source: "proxmox", Name: "web1", URL: server.URL, Token: proxmoxToken, Insecure: true})
	asks(t, s, "10.0.0.21 10.9.0.21", false)
	c.mu.Lock()
	c.guests[0].node = "pve3"
	c.mu.Unlock()
	asks(t, s, "10.0.0.21 10.9.0.21", false)
}

func TestProxmoxPower(t *testing.T) {
	t.Parallel()
	c, server := newCluster(t)
	c.guests = guests()
	power := func(name string) Power {
		return source(t, Spec{Source: "proxmox", Name: name, URL: server.URL, Token: proxmoxToken, Insecure: true}).(Power)
	}
	did := func(do func(context.Context) (string, error), says string, posts ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		said, err := do(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || !strings.Contains(said, says) || !slices.Equal(c.posts, posts) {
			t.Errorf("%q, %v after %q, want %q after %q", said, err, c.posts, says, posts)
		}
		c.posts = nil
	}
	web, asleep, container := power("web1"), power("asleep"), power("ct")
	did(asleep.Start, "start of guest 103: UPID:pve1:", "start")
	did(asleep.Start, "guest 103 (asleep) is running already")
	did(asleep.Stop, "shutdown of guest 103: UPID:pve1:", "shutdown 57")
	did(asleep.Stop, "guest 103 (asleep) is stopped already")
	did(asleep.Restart, "start of guest 103", "start")
	did(web.Restart, "reset of guest 100", "reset")
	c.mu.Lock()
	c.guests[0].qmp = "paused"
	c.mu.Unlock()
	did(web.Start, "resume of guest 100", "resume")
	did(container.Restart, "start of guest 700", "stop", "start")

	c.mu.Lock()
	c.exits["shutdown"] = "VM quit/powerdown failed - got timeout"
	c.exits["reset"] = "WARNINGS: 1"
	c.mu.Unlock()
	if _, err := web.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), `shutdown of guest 100: "VM quit/powerdown failed - got timeout"`) {
		t.Error(err)
	}
	c.mu.Lock()
	c.guests[0].status, c.posts = "running", nil
	c.mu.Unlock()
	did(web.Restart, "WARNINGS: 1", "reset")
}

func TestProxmoxTaskIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	c, server := newCluster(t)
	c.guests, c.slow = guests(), 1000
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxmox(Spec{Name: "asleep", Token: proxmoxToken, Insecure: true}, u)
	g, _, err := p.locate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := p.task(ctx, g, "start", nil); err == nil || !strings.Contains(err.Error(), "is not done yet") {
		t.Error(err)
	}
}

func FuzzProxmox(f *testing.F) {
	for _, seed := range []string{
		`{"data":[{"id":"qemu/100","type":"qemu","vmid":"100","name":"web1","node":"pve1","template":true}]}`,
		`{"data":{"net0":"virtio=BC:24:11:2E:C5:9D,bridge=vmbr0","ipconfig0":"ip=10.0.0.31/24,gw=10.0.0.1","net1":7}}`,
		`{"data":{"result":` + qemuInterfaces + `}}`, `{"data":{"result":{"error":{"desc":"x"}}}}`, `{"data":{}}`,
		`{"data":[{"inet":"127.0.0.1/8","hwaddr":"0:0:0:0:0:0","ip-addresses":[{"ip-address":"fe80::1%2"}]}]}`, `{"data":null}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		parseProxmoxResources(body)
		nics, _ := parseProxmoxConfig(body)
		for _, n := range nics {
			if n.mac != "" && len(n.mac) != 17 {
				t.Fatalf("MAC address %q", n.mac)
			}
		}
		for _, parse := range []func([]byte) ([]found, error){parseProxmoxAgent, parseProxmoxInterfaces} {
			all, _ := parse(body)
			for _, a := range ofGuest(pick(all, nil)) {
				if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() {
					t.Fatalf("%v is no backend", a)
				}
			}
		}
	})
}
