package server

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// quickVM answers every request, and has the port that it returns.
func quickVM(t *testing.T) (port string) {
	t.Helper()
	vm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }))
	t.Cleanup(vm.Close)
	_, port, err := net.SplitHostPort(vm.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestDrainOfAnAddress: what is no VM of [vms] is drained by its address, and
// comes back, over reloads.
func TestDrainOfAnAddress(t *testing.T) {
	port := quickVM(t)
	site := `"a.test" = { to = "http://127.0.0.1:` + port + `", http = "forward", certificate = "local" }`
	e := newEdge(t, site)
	want := func(when string, status int) {
		t.Helper()
		if a := e.get("a.test", "/"); a.StatusCode != status {
			t.Fatalf("%s: status %d, want %d", when, a.StatusCode, status)
		}
	}
	want("at first", http.StatusOK)
	drain := func(yes bool) {
		t.Helper()
		if d, err := e.Drain("127.0.0.1", yes); err != nil || d.Drained != yes {
			t.Fatalf("Drain(%t) = %+v, %v", yes, d, err)
		}
	}
	drain(true)
	want("drained", http.StatusServiceUnavailable)
	e.reload()
	want("drained, after a reload", http.StatusServiceUnavailable)
	drain(false)
	want("undrained", http.StatusOK)
	drain(true)
	want("drained again", http.StatusServiceUnavailable)
	drain(false)
	want("undrained again", http.StatusOK)
}

// TestVMGoneAndBack: a site that is kept in its last good form keeps its VM,
// and whatever becomes of the file in between, drain reaches it.
func TestVMGoneAndBack(t *testing.T) {
	port := quickVM(t)
	e := newEdge(t, "")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(e.path("sites.d/a.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e.reload()
	}
	vms := "[vms]\nweb1 = \"127.0.0.1\"\n"
	site := "[sites]\n\"a.test\" = { to = \"http://web1:" + port + "\", http = \"forward\", certificate = \"local\" }\n"
	put(vms + site)
	put(strings.Replace(site, `"local"`, `"lokal"`, 1)) // faulty, and without the VM
	if s := e.state("a.test"); s.Fault == "" {
		t.Fatalf("the site is not faulty: %+v", s)
	}
	drained := func(when string) {
		t.Helper()
		if _, err := e.Drain("web1", true); err != nil {
			t.Fatal(when, err)
		}
		if a := e.get("a.test", "/"); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: a request to a drained VM: status %d", when, a.StatusCode)
		}
		if _, err := e.Drain("web1", false); err != nil {
			t.Fatal(when, err)
		}
		if a := e.get("a.test", "/"); a.StatusCode != http.StatusOK {
			t.Errorf("%s: a request to a VM that was undrained: status %d", when, a.StatusCode)
		}
	}
	drained("while the site is faulty")
	put(vms + site)
	drained("afterwards")
}
