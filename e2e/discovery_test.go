package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestDiscoveryByCommand: addresses that a program prints.
func TestDiscoveryByCommand(t *testing.T) {
	t.Parallel()
	vms, p := named(t, "one", "two")
	list := filepath.Join(t.TempDir(), "list")
	print := func(text string) { peer.Replace(t, list, []byte(text)) }
	print("# both\n" + ip(vms[0].Addr) + " " + ip(vms[1].Addr) + "\n")
	ask := script(t, "ask", "[ \"$USHER_VM\" = web ] && cat "+list+"\n")
	u := start(t, `[defaults]
http = "forward"
[vms]
web = { discover = { source = "exec", command = %q, interval = "100ms" } }
[sites]
"a.test" = "http://web:%s"`, ask, p)
	both := func() bool { return len(shares(u.Dial(), "a.test", 20, nil)) == 2 }
	rig.Eventually(t, "both are backends", both)
	print(ip(vms[1].Addr) + "\n")
	rig.Eventually(t, "the first is gone", func() bool { return shares(u.Dial(), "a.test", 10, nil)["two"] == 10 })
	print("nonsense\n")
	rig.Eventually(t, "usher vms says why", func() bool { return strings.Contains(vmStates(t, u)[vms[1].Addr].Machine.LookError, "nonsense") })
	if seen := shares(u.Dial(), "a.test", 10, nil); seen["two"] != 10 {
		t.Errorf("the last answer is kept: %v", seen)
	}
}

// TestDiscoveryByDocker: containers by name and by label, over the API's
// socket.
func TestDiscoveryByDocker(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "docker-") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var address atomic.Pointer[string]
	at := func(ip string) { address.Store(&ip) }
	at("192.0.2.10")
	settings := func() map[string]any {
		return map[string]any{"Networks": map[string]any{"bridge": map[string]any{"IPAddress": *address.Load()}}}
	}
	events := make(chan string)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/web1/json", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"State": map[string]any{"Running": true}, "NetworkSettings": settings()})
	})
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.RawQuery, "usher") {
			http.Error(w, "no label", http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode([]any{map[string]any{"Id": "1", "NetworkSettings": settings()},
			map[string]any{"Id": "2", "NetworkSettings": map[string]any{"Networks": map[string]any{"bridge": map[string]any{"IPAddress": "192.0.2.20"}}}}})
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-events:
				io.WriteString(w, e)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	l, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	u := start(t, `[vms]
web1 = { discover = { source = "docker", socket = "%[1]s/docker.sock", interval = "1h" } }
apps = { discover = { source = "docker", socket = "%[1]s/docker.sock", interval = "1h", label = "usher=apps" } }
[sites]
"one.test" = { to = "http://web1:8080", health = false }
"apps.test" = { to = "http://apps:8081", health = false }`, dir)
	known := func(name string, want ...string) {
		t.Helper()
		rig.Eventually(t, name+" is at "+strings.Join(want, ", "), func() bool {
			var got []string
			for _, v := range vmStates(t, u) {
				if v.Name == name {
					got = append(got, v.Address)
				}
			}
			all := strings.Join(got, " ")
			for _, w := range want {
				if !strings.Contains(all, w) {
					return false
				}
			}
			return len(got) == len(want)
		})
	}
	known("web1", "192.0.2.10:8080")
	known("apps", "192.0.2.10:8081", "192.0.2.20:8081")
	at("192.0.2.11") // the container was made anew
	for range 2 {
		events <- `{"Type":"container","Action":"start"}` + "\n" // to each of the two that listen
	}
	known("web1", "192.0.2.11:8080")
	known("apps", "192.0.2.11:8081", "192.0.2.20:8081")
}

// TestDiscoveryByProxmox: a guest by its name, over verified TLS and with a
// token from a file; it is off, and its first visitor starts it.
func TestDiscoveryByProxmox(t *testing.T) {
	t.Parallel()
	const token = "usher@pve!edge=12345678-1234-1234-1234-1234567890ab"
	var running atomic.Bool
	var starts atomic.Int64
	mux := http.NewServeMux()
	data := func(pattern string, f func() any) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /api2/json"+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "PVEAPIToken="+token {
				http.Error(w, "no ticket", http.StatusUnauthorized)
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"data": f()})
		})
	}
	state := func() string { return map[bool]string{true: "running", false: "stopped"}[running.Load()] }
	data("GET /cluster/resources", func() any {
		return []any{map[string]any{"id": "qemu/101", "type": "qemu", "vmid": 101, "name": "shop", "node": "pve", "status": state(), "template": 0}}
	})
	data("GET /nodes/pve/qemu/101/status/current", func() any {
		return map[string]any{"status": state(), "qmpstatus": state(), "vmid": 101, "name": "shop", "agent": 1}
	})
	data("GET /nodes/pve/qemu/101/config", func() any { return map[string]any{"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"} })
	data("GET /nodes/pve/qemu/101/agent/network-get-interfaces", func() any {
		return map[string]any{"result": []any{map[string]any{"name": "eth0", "hardware-address": "bc:24:11:00:00:01",
			"ip-addresses": []any{map[string]any{"ip-address": "192.0.2.101", "ip-address-type": "ipv4", "prefix": 24}}}}}
	})
	data("POST /nodes/pve/qemu/101/status/start", func() any {
		starts.Add(1)
		running.Store(true)
		return "UPID:pve:0001:0002:0003:qmstart:101:usher@pve:"
	})
	data("GET /nodes/pve/tasks/{upid}/status", func() any { return map[string]any{"status": "stopped", "exitstatus": "OK"} })
	api := httptest.NewTLSServer(mux)
	t.Cleanup(api.Close)
	dir := t.TempDir()
	peer.Replace(t, dir+"/ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))
	peer.Replace(t, dir+"/token", []byte(token+"\n"))
	u := start(t, `[vms]
shop = { discover = { source = "proxmox", url = %q, token_file = "%[2]s/token", ca_file = "%[2]s/ca.pem", interval = "200ms" }, start = "builtin", start_timeout = "5s" }
[sites]
"shop.test" = { to = "http://shop:8080", http = "forward", connect = "200ms", hold = "0s" }`, api.URL, dir)
	rig.Eventually(t, "it is known to be off", func() bool {
		for _, v := range vmStates(t, u) {
			if v.Name == "shop" && v.Machine.State == "asleep" {
				return true
			}
		}
		return false
	})
	if n := starts.Load(); n != 0 {
		t.Errorf("started %d times before anybody came", n)
	}
	visitor := u.Dial()
	visitor.Send(peer.Get("shop.test", "/", "Accept: application/json"))
	rig.Eventually(t, "it is started and found", func() bool { return vmStates(t, u)["192.0.2.101:8080"].Name == "shop" })
	if n := starts.Load(); n != 1 {
		t.Errorf("started %d times", n)
	}
	u.Log.Contains(t, "start of guest 101")
	if strings.Contains(u.Log.String()+u.Access.String(), "12345678-1234") {
		t.Error("the token is in a log")
	}
}

// TestDiscoveryByLibvirt: a domain of the real daemon's test driver, which is
// found, stopped when idle and started by its first visitor.
func TestDiscoveryByLibvirt(t *testing.T) {
	t.Parallel()
	uri := libvirt(t)
	virsh := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(rig.Find(t, "virsh"), append([]string{"--quiet", "--connect", uri}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("virsh %v: %v %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	u := start(t, `[vms]
web1 = { discover = { source = "libvirt", domain = "test", uri = %q, interval = "500ms" }, start = "builtin", stop = "builtin", idle_stop = "1s", start_timeout = "4s" }
[sites]
"a.test" = { to = "http://web1:8080", http = "forward", connect = "200ms", hold = "0s" }`, uri)
	rig.Eventually(t, "an idle domain is stopped", func() bool { return virsh("domstate", "test") == "shut off" })
	rig.Eventually(t, "usher knows that it is off", func() bool {
		for _, v := range vmStates(t, u) {
			if v.Name == "web1" && v.Machine.State == "asleep" && v.Health == "unresolved" {
				return true
			}
		}
		return false
	})
	visitor := u.Dial()
	visitor.Send(peer.Get("a.test", "/", "Accept: application/json"))
	rig.Eventually(t, "its visitor has it started, and it is found", func() bool {
		for a, v := range vmStates(t, u) {
			if v.Name == "web1" && strings.HasPrefix(a, "192.168.122.") {
				return true
			}
		}
		return false
	})
	u.Log.Contains(t, "is at 192.168.122.")
}

// libvirt runs a daemon of the test's own and returns the URI of its test
// driver, with a domain "test" that runs.
func libvirt(t *testing.T) (uri string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "libvirt-") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "conf")
	peer.Replace(t, conf, fmt.Appendf(nil, "unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n", dir))
	socket := filepath.Join(dir, "libvirt-sock")
	daemon := exec.Command(rig.Find(t, "libvirtd"), "--config", conf, "--pid-file", filepath.Join(dir, "pid"))
	daemon.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+dir, "XDG_RUNTIME_DIR="+dir)
	runs(t, daemon)
	uri = "test+unix:///default?socket=" + socket
	rig.Eventually(t, "libvirtd answers", func() bool {
		_, err := os.Stat(socket)
		return err == nil && exec.Command("virsh", "--connect", uri, "list").Run() == nil
	})
	keeper := exec.Command("virsh", "--connect", uri) // the driver forgets all when nobody is connected
	in, err := keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := rig.NewOutput()
	keeper.Stdout = said
	runs(t, keeper)
	io.WriteString(in, "domstate test\n")
	said.Contains(t, "running\n")
	return uri
}

// runs starts a process and ends it with the test.
func runs(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
