package discover

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/proxy/upstream/names"
)

// engine is a Docker Engine: the paths, filters and answers that its API
// reference documents.
type engine struct {
	mu         sync.Mutex
	containers map[string]*container
	streams    map[chan string]map[string][]string
}

type container struct {
	id, status string
	labels     map[string]string
	networks   map[string][2]string // IPv4 and IPv6 address
}

func (c *container) settings() map[string]any {
	networks := map[string]any{}
	for name, a := range c.networks {
		networks[name] = map[string]any{"NetworkID": "7ea29fc1412292a2d7bba362f9253545fecdfa8ce9a6e37dd10ba8bee7129812",
			"Gateway": "172.17.0.1", "IPAddress": a[0], "IPPrefixLen": 16, "GlobalIPv6Address": a[1], "MacAddress": "02:42:ac:11:00:02"}
	}
	return map[string]any{"Networks": networks}
}

func newEngine(t *testing.T) (*engine, string) {
	dir, err := os.MkdirTemp("", "docker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &engine{containers: map[string]*container{}, streams: map[chan string]map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containers/json", e.list)
	mux.HandleFunc("GET /containers/{name}/json", e.inspect)
	mux.HandleFunc("GET /events", e.events)
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return e, socket
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func filter(r *http.Request) map[string][]string {
	var f map[string][]string
	json.Unmarshal([]byte(r.URL.Query().Get("filters")), &f)
	return f
}

func (e *engine) list(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, all := filter(r), []any{}
	for name, c := range e.containers {
		key, value, exact := strings.Cut(f["label"][0], "=")
		has, ok := c.labels[key]
		if !ok || exact && has != value || f["status"][0] != c.status {
			continue
		}
		all = append(all, map[string]any{"Id": c.id, "Names": []string{"/" + name}, "Image": "nginx", "State": c.status,
			"Labels": c.labels, "HostConfig": map[string]any{"NetworkMode": "default"}, "NetworkSettings": c.settings()})
	}
	answer(w, http.StatusOK, all)
}

func (e *engine) inspect(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := r.PathValue("name")
	c := e.containers[name]
	if c == nil {
		answer(w, http.StatusNotFound, map[string]string{"message": "No such container: " + name})
		return
	}
	answer(w, http.StatusOK, map[string]any{"Id": c.id, "Name": "/" + name, "NetworkSettings": c.settings(),
		"State": map[string]any{"Status": c.status, "Running": c.status == "running", "Paused": false, "Pid": 1234}})
}

func (e *engine) events(w http.ResponseWriter, r *http.Request) {
	events := make(chan string, 16)
	e.mu.Lock()
	e.streams[events] = filter(r)
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case event, open := <-events:
			if !open {
				return
			}
			fmt.Fprintf(w, `{"Type":"container","Action":%q,"Actor":{"ID":"ede54ee1afda366ab42f824e8a5ffd195155d853ceaec74a927f249ea270c743","Attributes":{"image":"nginx","name":"web1"}},"scope":"local","time":1461943101,"timeNano":1461943101383858412}`+"\n", event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// happen changes the engine and tells those who want to know of the event.
func (e *engine) happen(event string, change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	for events, f := range e.streams {
		for _, wanted := range f["event"] {
			if wanted == event {
				events <- event
			}
		}
	}
}

func TestDocker(t *testing.T) {
	e, socket := newEngine(t)
	e.containers = map[string]*container{
		"web1": {"aaa", "running", map[string]string{"usher": "web"}, map[string][2]string{"bridge": {"172.17.0.5", ""}}},
		"web2": {"bbb", "running", map[string]string{"usher": "web"}, map[string][2]string{"front": {"172.18.0.6", "2001:db8::6"}, "back": {"172.19.0.6", ""}}},
		"web3": {"ccc", "exited", map[string]string{"usher": "web"}, map[string][2]string{"bridge": {"", ""}}},
		"six":  {"ddd", "running", map[string]string{"usher": "six"}, map[string][2]string{"bridge": {"", "2001:db8::9"}}},
		"host": {"eee", "running", map[string]string{"usher": "host"}, map[string][2]string{"host": {"", ""}}},
	}
	for _, test := range []struct {
		name string
		spec Spec
		want string
		off  bool
	}{
		{"by the VM's name", Spec{Name: "web1"}, "172.17.0.5", false},
		{"by its own name", Spec{Name: "x", Container: "web1"}, "172.17.0.5", false},
		{"the first network with an address", Spec{Name: "web2"}, "172.19.0.6", false},
		{"the network asked for", Spec{Name: "web2", Network: "front"}, "172.18.0.6", false},
		{"not in the network", Spec{Name: "web1", Network: "front"}, `container "web1" is not in the network "front", but in ["bridge"]`, false},
		{"IPv6", Spec{Name: "six"}, "2001:db8::9", false},
		{"the host's network", Spec{Name: "host"}, `container "host" has no address of its own in its networks ["host"]`, false},
		{"stopped", Spec{Name: "web3"}, `container "web3" is exited`, true},
		{"none", Spec{Name: "web9"}, `there is no container "web9"`, true},
		{"odd name", Spec{Name: "../json?all=1"}, `there is no container`, true},
		{"label", Spec{Label: "usher=web"}, "172.17.0.5 172.19.0.6", false},
		{"label without a value", Spec{Label: "usher"}, "172.17.0.5 172.19.0.6 2001:db8::9", false},
		{"label and network", Spec{Label: "usher=web", Network: "front"}, "172.18.0.6", false},
		{"label, no address", Spec{Label: "usher=host"}, `container "host" has no address of its own`, false},
		{"label of nobody", Spec{Label: "usher=none"}, `no running container has the label "usher=none"`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Source, test.spec.Socket = "docker", socket
			asks(t, source(t, test.spec), test.want, test.off)
		})
	}
	asks(t, source(t, Spec{Source: "docker", Name: "web1", Socket: socket + "x"}), "docker at "+socket+"x: dial unix", false)
}

func TestDockerIsWatched(t *testing.T) {
	e, socket := newEngine(t)
	e.containers["web1"] = &container{"aaa", "running", nil, map[string][2]string{"bridge": {"172.17.0.5", ""}}}
	k := &Keeper{Source: source(t, Spec{Source: "docker", Name: "web1", Socket: socket}), Feed: new(names.Feed), Interval: time.Hour}
	told := make(chan Change, 16)
	k.Told = func(c Change) { told <- c }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	defer func() { cancel(); <-done }()
	next := func(want string) {
		t.Helper()
		select {
		case c := <-told:
			got := strings.Trim(fmt.Sprint(c.Addresses), "[]")
			if c.Err != nil {
				got += c.Err.Error()
			}
			if got != want {
				t.Errorf("told %s, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("not told")
		}
	}
	next("172.17.0.5")
	for !k.watched.Load() {
		time.Sleep(time.Millisecond) // the stream is opened by another goroutine
	}
	e.happen("die", func() { e.containers["web1"].status = "exited" })
	next(`container "web1" is exited`)
	e.happen("start", func() {
		e.containers["web1"].status = "running"
		e.containers["web1"].networks["bridge"] = [2]string{"172.17.0.8", ""}
	})
	next("172.17.0.8")
	e.happen("exec_create", func() {}) // of which a health check makes many
	e.happen("connect", func() { e.containers["web1"].networks["a"] = [2]string{"172.20.0.8", ""} })
	next("172.20.0.8")
}

func TestDockerRefusesWhatIsTooLongOrNoAnswer(t *testing.T) {
	dir, err := os.MkdirTemp("", "docker")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/containers/long/json":
			for range dockerLimit/1024 + 1 {
				w.Write(make([]byte, 1024))
			}
		case "/containers/none/json":
			fmt.Fprint(w, "<html>")
		default:
			answer(w, http.StatusInternalServerError, map[string]string{"message": "broken\x1b[31m"})
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	for name, want := range map[string]string{"long": "over 8388608 bytes", "none": "docker's answer", "x": `500 Internal Server Error: "broken\x1b[31m"`} {
		asks(t, source(t, Spec{Source: "docker", Name: name, Socket: filepath.Join(dir, "s")}), want, false)
	}
}

func FuzzDocker(f *testing.F) {
	f.Add([]byte(`{"State":{"Status":"running","Running":true},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":""}}}}`), "")
	f.Add([]byte(`[{"Id":"a","Names":["/web1"],"NetworkSettings":{"Networks":{"front":{"IPAddress":"172.17.0.2"}}}},{}]`), "front")
	f.Add([]byte(`{"State":{}}`), "")
	f.Fuzz(func(t *testing.T, body []byte, network string) {
		d := &docker{spec: Spec{Container: "c", Label: "l", Network: network}}
		if all, err := d.parseContainer(body); (err == nil) != (len(all) == 1) {
			t.Fatalf("%v, %v", all, err)
		}
		if all, err := d.parseList(body); (err == nil) != (len(all) > 0) {
			t.Fatalf("%v, %v", all, err)
		}
	})
}
