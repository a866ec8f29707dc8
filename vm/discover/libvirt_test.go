package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// daemon runs a libvirtd of the test's own, on its own socket and without
// hypervisors, and returns the URI of its test driver, whose state lives until
// the test ends.
func daemon(t *testing.T) (uri string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "libvirt") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := file("conf", fmt.Sprintf("unix_sock_dir = %q\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n", dir))
	libvirtd, err := exec.LookPath("libvirtd")
	if err != nil {
		libvirtd = "/usr/sbin/libvirtd"
	}
	var log bytes.Buffer
	cmd := exec.Command(libvirtd, "--config", conf, "--pid-file", filepath.Join(dir, "pid"))
	cmd.Env = append(os.Environ(), "LIBVIRT_DRIVER_DIR="+dir, "XDG_RUNTIME_DIR="+dir)
	cmd.Stderr = &log
	start(t, cmd)
	uri = "test+unix:///default?socket=" + filepath.Join(dir, "libvirt-sock")

	keeper := exec.Command("virsh", "--connect", uri) // the driver forgets all when nobody is connected
	in, err := keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "libvirt-sock"))
		return err == nil && exec.Command("virsh", "--connect", uri, "list").Run() == nil
	}, &log)
	start(t, keeper)
	io.WriteString(in, "domstate test\n")
	buffer, seen := make([]byte, 1024), ""
	for !strings.Contains(seen, "running\n") {
		n, err := out.Read(buffer)
		if seen += string(buffer[:n]); err != nil {
			t.Fatalf("virsh: %v after %q; libvirtd: %s", err, seen, &log)
		}
	}
	return uri
}

// start starts a process and ends it with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// until waits for another process, which cannot tell us.
func until(t *testing.T, done func() bool, log fmt.Stringer) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", log)
		}
	}
}

// TestLibvirt asks the real daemon, with its test driver: a domain "test" that
// runs and has an address.
func TestLibvirt(t *testing.T) {
	t.Parallel()
	uri := daemon(t)
	l := source(t, Spec{Source: "libvirt", Name: "web1", Domain: "test", URI: uri}).(*libvirt)
	did := func(said string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	state := func(want string) {
		t.Helper()
		if got := did(l.state(t.Context())); got != want {
			t.Fatalf("the domain is %s, want %s", got, want)
		}
	}
	const address = "192.168.122.3"
	asks(t, l, address, false)
	for _, from := range []string{"lease", "agent", "arp"} {
		if got, err := l.from(t.Context(), from); err != nil || !slices.Equal(got, addrs(address)) {
			t.Errorf("%s: %v, %v", from, got, err)
		}
	}
	asks(t, source(t, Spec{Source: "libvirt", Name: "test", URI: uri, Network: "default"}), address, false)
	asks(t, source(t, Spec{Source: "libvirt", Name: "test", URI: uri, Network: "br7"}), `no interface in network "br7"`, false)
	asks(t, source(t, Spec{Source: "libvirt", Name: "nosuch", URI: uri}), `there is no domain "nosuch"`, true)
	asks(t, source(t, Spec{Source: "libvirt", Name: "--all", URI: uri}), `no domain "--all"`, true)
	asks(t, source(t, Spec{Source: "libvirt", Name: "test", URI: "test+unix:///default?socket=/nonexistent"}), "failed to connect to the hypervisor", false)

	if said := did(l.Start(t.Context())); !strings.Contains(said, "running already") {
		t.Error(said)
	}
	if said := did(l.Restart(t.Context())); said != "reset test" {
		t.Error(said)
	}
	state("running")
	if said := did(l.Stop(t.Context())); said != "shutdown test" {
		t.Error(said)
	}
	state("shut off")
	asks(t, l, `domain "test" is shut off`, true)
	did(l.Stop(t.Context()))
	if said := did(l.Start(t.Context())); said != "start test" {
		t.Error(said)
	}
	state("running")
	did(l.do(t.Context(), "suspend"))
	state("paused")
	if now, err := l.Addresses(t.Context()); err != nil || len(now) != 1 || now[0].String() == address {
		t.Errorf("%v, %v: the driver gives a domain another address with every start", now, err)
	}
	did(l.Start(t.Context()))
	state("running")
	did(l.Stop(t.Context()))
	did(l.Restart(t.Context()))
	state("running")
	if _, err := (&libvirt{Spec{Domain: "nosuch", URI: uri}}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no domain") {
		t.Error(err)
	}
}

// virsh puts a program on PATH that answers as recorded: script is the arms of
// a case over its arguments without --quiet and --connect.
func virsh(t *testing.T, script string) *libvirt {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\nshift\n[ \"$LC_ALL\" = C ] || exit 9\ncd " + dir + "\ncase \"$*\" in\n" + script + "\n*) echo \"error: unexpected: $*\" >&2; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "virsh"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return newLibvirt(Spec{Name: "web1"})
}

const (
	noLease   = "'domifaddr --domain web1 --full --source lease') echo;;\n"
	agentSays = `'domifaddr --domain web1 --full --source agent') cat <<'X'
 lo         00:00:00:00:00:00    ipv4         127.0.0.1/8
 lo         00:00:00:00:00:00    ipv6         ::1/128
 enp1s0     4e:49:b2:c6:be:9f    ipv4         10.1.2.54/24
 enp1s0     4e:49:b2:c6:be:9f    ipv6         2001:250:207:df::54/64
 enp1s0     4e:49:b2:c6:be:9f    ipv6         fe80::4c49:b2ff:fec6:be9f/64
 enp2s0     4e:49:b2:c6:be:a0    ipv4         10.9.0.4/24
 docker0    26:70:11:87:5c:4c    ipv4         172.17.0.1/16
 Local Area Connection 2 26:70:11:87:5c:4d    ipv4         10.7.7.7/16
 veth9ac9   26:70:11:87:5c:4e    N/A          N/A
X
;;
`
	interfaces = `'domiflist --domain web1') cat <<'X'
 vnet0       network   default   virtio   4e:49:b2:c6:be:9f
 vnet1       bridge    br 1      e1000    4E:49:B2:C6:BE:A0
X
;;
`
	noAgent = "'domifaddr --domain web1 --full --source agent') echo 'error: Failed to query for interfaces addresses\nerror: Guest agent is not responding: QEMU guest agent is not connected' >&2; exit 1;;\n"
)

func TestLibvirtFallsToTheNextSource(t *testing.T) {
	for _, test := range []struct {
		name, script, network, want string
		off                         bool
	}{
		{"lease", `'domifaddr --domain web1 --full --source lease') echo ' vnet0      4e:49:b2:c6:be:9f    ipv4         192.168.122.7/24';;`, "", "192.168.122.7", false},
		{"agent, only the host's interfaces", noLease + agentSays + interfaces, "", "10.1.2.54 10.9.0.4", false},
		{"agent, one network", noLease + agentSays + interfaces, "br 1", "10.9.0.4", false},
		{"ARP", noLease + noAgent + `'domifaddr --domain web1 --full --source arp') echo ' vnet0      4e:49:b2:c6:be:9f    ipv4         10.0.0.9/0';;`, "", "10.0.0.9", false},
		{"nothing yet", noLease + noAgent + `'domifaddr --domain web1 --full --source arp') ;;`, "", `no address of domain "web1" yet: no lease`, false},
		{"off", `'domifaddr --domain web1 --full --source lease') echo 'error: Requested operation is not valid: domain is not running' >&2; exit 1;;
			'domstate --domain web1') echo 'shut off'; echo;;`, "", `domain "web1" is shut off`, true},
		{"crashed", `domifaddr*) exit 1;;
			'domstate --domain web1') echo crashed;;`, "", `domain "web1" is crashed`, true},
		{"no connection", `*) echo 'error: failed to connect to the hypervisor' >&2; exit 1;;`, "", "failed to connect", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := virsh(t, test.script)
			l.spec.Network = test.network
			asks(t, l, test.want, test.off)
		})
	}
}

// TestLibvirtStartsWhatIsInShutdown: the domain takes two looks to be off.
func TestLibvirtStartsWhatIsInShutdown(t *testing.T) {
	l := virsh(t, `'domstate --domain web1') echo x >>looks; if [ $(wc -l <looks) -lt 3 ]; then echo 'in shutdown'; else echo 'shut off'; fi;;
		'start --domain web1') echo "Domain 'web1' started";;`)
	if said, err := l.Start(t.Context()); err != nil || said != "Domain 'web1' started" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestLibvirtStopWaitsForTheGuest(t *testing.T) {
	l := virsh(t, `'domstate --domain web1') echo running;;
		'shutdown --domain web1') echo x >>asked; echo "Domain 'web1' is being shutdown";;`)
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	said, err := l.Stop(ctx)
	if said != "Domain 'web1' is being shutdown" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", said, err)
	}
	dir, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	if asked, err := os.ReadFile(filepath.Join(dir, "asked")); err != nil || string(asked) != "x\n" {
		t.Errorf("asked %q, %v, want once", asked, err)
	}
}

func FuzzParseVirsh(f *testing.F) {
	f.Add(" vnet0      52:54:00:b3:58:51    ipv4         192.168.122.225/24\n", "default")
	f.Add(" Ethernet 2 0:0:0:0:0:0    ipv6         fe80::1%5/64\n -  -  ipv4 10.0.0.1/0\n vnet0 52:54:00:b3:58:51 N/A N/A", "")
	f.Add(" vnet0       network   default   virtio   52:54:00:b3:58:51\n -  bridge br 0 - 52:54:00:b3:58:52", "br 0")
	f.Fuzz(func(t *testing.T, text, network string) {
		macs := parseDomiflist(text, network)
		if macs == nil {
			t.Fatal("no list would mean any interface")
		}
		for _, a := range ofGuest(pick(parseDomifaddr(text), macs)) {
			if a.IsLoopback() || a.IsLinkLocalUnicast() || !a.IsValid() {
				t.Fatalf("%v is no backend", a)
			}
		}
	})
}
