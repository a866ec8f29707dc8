package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// cutLab is an edge and two nginx VMs, each in a network namespace, joined by
// cables. Clients are in the edge's own.
type cutLab struct {
	*rig.Network
	u  *rig.Usher
	ca *peer.CA
}

func newCutLab(t *testing.T) *cutLab {
	n := rig.NewNetwork(t, "edge", "one", "two")
	l := &cutLab{Network: n, ca: peer.NewCA(t)}
	for i, node := range []string{"one", "two"} {
		n.Link("edge", []string{fmt.Sprintf("10.9.%d.1/24", i)}, node, []string{fmt.Sprintf("10.9.%d.2/24", i)})
		m := writeMortal(t, l.ca, node, fmt.Sprintf("10.9.%d.2:80", i), fmt.Sprintf("10.9.%d.2:443", i), "pass.test")
		argv := append(n.Enter(node), rig.Find(t, "nginx"), "-e", m.dir+"/error.log", "-p", m.dir, "-c", m.dir+"/nginx.conf")
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		runs(t, cmd)
		rig.Eventually(t, "nginx answers in "+node, func() (ok bool) {
			n.Within("edge", func() {
				c, err := net.DialTimeout("tcp", m.Plain, time.Second)
				if ok = err == nil; ok {
					c.Close()
				}
			})
			return ok
		})
	}
	l.u = builds.Prepare(t, rig.Config{Body: `[sites]
"app.test" = ["http://10.9.0.2", "http://10.9.1.2"]
"pass.test" = ["passthrough://10.9.0.2", "passthrough://10.9.1.2"]`})
	runAtEdge(t, n, l.u)
	return l
}

// client is one whose connections begin at the edge itself.
func (l *cutLab) client(t *testing.T, conf *tls.Config, two bool) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: conf.Clone(), DisableCompression: true, MaxIdleConnsPerHost: 100}
	tr.DialContext = func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		l.Within("edge", func() { c, err = net.DialTimeout("tcp", "10.9.0.1:443", peer.Patience) })
		return c, err
	}
	if two {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetHTTP2(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// TestLinkIsCut: the link of one of two VMs is cut under load, so that neither
// a reset nor a refusal comes. No GET fails over HTTP/1.1 and HTTP/2, and no
// tunnel that is opened meanwhile.
func TestLinkIsCut(t *testing.T) {
	t.Parallel()
	l := newCutLab(t)
	var own *tls.Config
	rig.Eventually(t, "the site has its certificate", func() bool {
		own = &tls.Config{RootCAs: l.u.Roots()}
		r, err := l.client(t, own, false).Get("https://app.test/who")
		if err == nil {
			r.Body.Close()
		}
		return err == nil && r.StatusCode == 200
	})
	var cut atomic.Int64 // when a link was last cut, or mended
	visits := newLoad(t)
	visits.add(24, l.client(t, own, false), "https://app.test/page", nil)
	for range 8 {
		visits.add(2, l.client(t, own, true), "https://app.test/page", nil)
	}
	fresh := l.client(t, &tls.Config{RootCAs: l.ca.Pool}, false)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	visits.add(12, fresh, "https://pass.test/page", func(began time.Time) bool {
		return began.UnixNano() <= cut.Load() // the cut was of this very tunnel
	})
	for _, node := range []string{"one", "two"} {
		visits.goesOn(300)
		cut.Store(time.Now().Add(time.Hour).UnixNano())
		l.Shell(node, "ip link set to-edge down")
		cut.Store(time.Now().UnixNano())
		begun := time.Now()
		visits.goesOn(300)
		t.Logf("300 requests after the link of %s was cut: %v", node, time.Since(begun))
		address := map[string]string{"one": "10.9.0.2:80", "two": "10.9.1.2:80"}[node]
		rig.Eventually(t, "its checks fail", func() bool { return vmStates(t, l.u)[address].Health == "unhealthy" })
		t.Logf("unhealthy after %v", time.Since(begun))
		visits.goesOn(300)
		l.Shell(node, "ip link set to-edge up")
		rig.Eventually(t, node+" has work again", func() bool {
			v := vmStates(t, l.u)[address]
			return v.Health == "healthy"
		})
	}
	visits.goesOn(300)
	visits.end()
}
