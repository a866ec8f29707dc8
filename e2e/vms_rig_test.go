package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// vmState is what usher says of one address.
type vmState struct {
	Name, Address, Source, Health, Why string
	Sites, Limit                       int
	Requests, Ejections, Retries       int
	Checks                             []struct {
		What, State, Reason string
		Passed, Failed      int
	}
	Machine struct {
		State, Why, Hook string
		Drained          bool
		LookError        string `json:"lookup_error"`
	}
}

// vmStates asks the admin API for every address.
func vmStates(t testing.TB, u *rig.Usher) map[string]vmState {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", u.Admin)
	}}}
	r, err := c.Get("http://localhost/v1/vms")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var list []vmState
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]vmState)
	for _, v := range list {
		all[v.Address] = v
	}
	return all
}

// become waits until usher says that an address is in a state.
func become(t testing.TB, u *rig.Usher, address, health string) vmState {
	t.Helper()
	var last vmState
	defer func() {
		if t.Failed() {
			t.Logf("%s: %+v", address, last)
		}
	}()
	rig.Eventually(t, address+" is "+health, func() bool {
		last = vmStates(t, u)[address]
		return last.Health == health
	})
	return last
}

// command runs a command of usher that must succeed.
func command(t testing.TB, u *rig.Usher, args ...string) string {
	t.Helper()
	out, errs, code := u.CLI(args...)
	if code != 0 {
		t.Fatalf("usher %v: %d %s%s", args, code, out, errs)
	}
	return out
}

// shares asks n times on one connection, with fields that may differ, and
// counts the answers.
func shares(c *peer.Client, host string, n int, fields func(i int) string) map[string]int {
	seen := make(map[string]int)
	for i := range n {
		var more []string
		if fields != nil {
			more = []string{fields(i)}
		}
		p := c.Get(host, "/", more...)
		if p.Status != 200 {
			seen[fmt.Sprint(p.Status)]++
			continue
		}
		seen[string(p.Body)]++
	}
	return seen
}

// named are VMs that answer with their names, on one port and addresses of
// their own.
func named(t testing.TB, names ...string) (vms []*peer.VM, port string) {
	t.Helper()
	at := rig.FreePort(t, rig.LoopbackIP())
	_, port, _ = net.SplitHostPort(at)
	for _, name := range names {
		vms = append(vms, peer.ListenAt(t, net.JoinHostPort(rig.LoopbackIP(), port), peer.Name(name)))
	}
	return vms, port
}

func ip(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// took is how long f takes.
func took(f func()) time.Duration {
	begun := rig.Now()
	f()
	return begun.Took()
}

// healthVM is a gRPC server that says of itself whether it serves.
func healthVM(t *testing.T, serving bool) string {
	t.Helper()
	h := grpchealth.NewServer()
	if !serving {
		h.SetServingStatus("", healthgrpc.HealthCheckResponse_NOT_SERVING)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthgrpc.RegisterHealthServer(s, h)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-ended
	})
	return l.Addr().String()
}
