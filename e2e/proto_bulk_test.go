package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
)

// TestProtoBulk: 1 GiB up and 1 GiB down in flat memory.
func TestProtoBulk(t *testing.T) {
	size := gib
	if testing.Short() {
		size /= 16
	}
	bulk := filepath.Join(t.TempDir(), "bulk")
	if out, err := exec.Command("go", "build", "-o", bulk, "./protopeer/bulk").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr := bulkVM(t, bulk)
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	cert, key := ca.Write(dir, "both", "http1.test", "h2c.test")
	u := builds.Start(t, rig.Config{Plain: true, Body: fmt.Sprintf(`[defaults]
certificate = { cert = %[2]q, key = %[3]q }
[sites]
"http1.test" = "http://%[1]s"
"h2c.test" = "h2c://%[1]s"`, addr, cert, key)})
	for _, c := range []struct{ proto, host string }{{"h2", "http1.test"}, {"h2", "h2c.test"}, {"h3", "http1.test"}} {
		before, begin := resident(t, u.PID()), time.Now()
		if out, err := rig.Tool(t, bulk, c.proto, u.HTTPS, c.host, dir+"/ca.pem", fmt.Sprint(size)); err != nil {
			t.Errorf("%s, %s: %v: %s", c.proto, c.host, err, out)
		}
		grown := peak(t, u.PID()) - before
		t.Logf("%s, %s: %d MiB each way in %v, memory grew by %d KiB", c.proto, c.host, size>>20, time.Since(begin).Round(time.Millisecond), grown>>10)
		if grown > 32<<20 {
			t.Errorf("%s, %s: memory grew by %d MiB", c.proto, c.host, grown>>20)
		}
	}
}

// bulkVM starts the VM's end and returns where it listens.
func bulkVM(t *testing.T, bulk string) string {
	t.Helper()
	cmd := exec.Command(bulk, "vm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestProtoThousandStreams: 1,000 requests are under way at once on ten
// connections; none waits for another.
func TestProtoThousandStreams(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan bool, 1000), make(chan bool, 1000)
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
		io.CopyN(w, zeros{}, 20_000)
	})
	multiplexed(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			done := make(chan error, 1000)
			for range 10 {
				c := e.raw(host)
				for range 100 {
					s := e.open(c, protopeer.Request{Authority: host}, true)
					go func() {
						a, err := protopeer.Finish(s)
						if err == nil && (a.Status != 200 || len(a.Body) != 20_000) {
							err = fmt.Errorf("%d with %d bytes", a.Status, len(a.Body))
						}
						done <- err
					}()
				}
			}
			for i := range 1000 {
				select {
				case <-arrived:
				case err := <-done:
					t.Fatalf("%s: the VM has %d requests, and one ended: %v", host, i, err)
				case <-time.After(protopeer.Patience):
					t.Fatalf("%s: the VM has only %d requests", host, i)
				}
			}
			for range 1000 {
				release <- true
			}
			failed := 0
			for range 1000 {
				if err := <-done; err != nil {
					if failed++; failed < 5 {
						t.Errorf("%s: %v", host, err)
					}
				}
			}
		}
	})
}
