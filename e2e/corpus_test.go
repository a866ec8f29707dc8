package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// raw is one sequence of raw bytes for the front.
type raw struct {
	ID    string   `json:"id"`
	Steps []string `json:"steps"` // Latin-1, {HOST} to be filled in
	Want  string   `json:"-"`     // statuses, where they are known
}

// latin1 is the bytes of a Latin-1 string.
func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// TestForeignRequests sends the collection of raw requests, where there is
// one. It is not part of the project: $USHER_CORPUS names it, or it lies in
// shared/corpora beside the checkout.
func TestForeignRequests(t *testing.T) {
	t.Parallel()
	path := os.Getenv("USHER_CORPUS")
	if path == "" {
		path = filepath.Join("..", "..", "shared", "corpora", "h1-foreign.json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("USHER_CORPUS") != "" {
			t.Fatal(err)
		}
		t.Logf("no foreign requests here, only those of testdata are sent: %v", err)
		return
	}
	var all []raw
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d requests, %v", len(all), err)
	}
	for i := range all {
		for j := range all[i].Steps {
			all[i].Steps[j] = latin1(all[i].Steps[j])
		}
	}
	attack(t, all)
}

// TestRawRequests sends the project's own raw requests, whose answers are
// known.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	var all []raw
	for _, v := range vectors(t, "requests.txt") {
		all = append(all, raw{ID: v.name, Steps: v.bytes, Want: v.word})
	}
	attack(t, all)
}

// attack sends every sequence over its own connection. Whatever it is, the VM
// sees only strict requests, at most as many as were sent; the client is never
// told that usher failed; and what is refused is closed within a second.
func attack(t *testing.T, all []raw) {
	const shards = 4 // most of the time is spent waiting
	for n := range shards {
		t.Run(fmt.Sprint("shard ", n), func(t *testing.T) {
			t.Parallel()
			vm := peer.Listen(t, peer.Answer(peer.OK))
			u := forwarding(t, vm)
			for i := n; i < len(all); i += shards {
				t.Run(all[i].ID, func(t *testing.T) { all[i].judge(t, u.For(t), vm) })
			}
		})
	}
}

// judge sends one sequence and judges what came of it.
func (r raw) judge(t *testing.T, u *rig.Usher, vm *peer.VM) {
	requests, faults, broken := len(vm.Requests()), len(vm.Faults()), vm.Broken()
	var all string
	for i := range r.Steps {
		r.Steps[i] = strings.ReplaceAll(r.Steps[i], "{HOST}", "aaaa.test")
		all += r.Steps[i]
	}
	methods := sentMethods(all)
	o := r.send(u.Dial(), methods)
	if p := u.Dial().Get("aaaa.test", "/marker"); p.Status != 200 {
		t.Errorf("the next client got %d", p.Status)
	}
	got := vm.Requests()[requests:]
	for _, f := range vm.Faults()[faults:] {
		t.Errorf("not RFC 9112 at the VM: %v", f)
	}
	if n := len(got) - 1 + vm.Broken() - broken; n > len(methods) {
		t.Errorf("%d requests at the VM for %d that were sent", n, len(methods))
	}
	for i, q := range got[:len(got)-1] {
		if i < len(methods) && q.Method != methods[i] {
			t.Errorf("request %d at the VM is %s %s, sent was %s", i, q.Method, q.Target, methods[i])
		}
	}
	o.check(t, r.Want)
}

// sentMethods is what the bytes are for Go's lenient reader: no proxy may find
// more requests in them than it does.
func sentMethods(all string) (methods []string) {
	r := bufio.NewReader(strings.NewReader(strings.TrimLeft(all, "\r\n")))
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return methods
		}
		methods = append(methods, q.Method)
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return methods
		}
	}
}

// outcome is what a client saw.
type outcome struct {
	statuses []int
	faults   []error
	closing  bool          // the last answer said that it closes
	lasted   time.Duration // and so long it took until it did
	ended    bool
}

// send sends step after step, each when the one before was answered, and reads
// until the connection ends or falls silent.
func (r raw) send(c *peer.Client, methods []string) (o outcome) {
	for i, step := range r.Steps {
		if c.Try(step) != nil {
			break
		}
		if i < len(r.Steps)-1 {
			o.read(c, methods)
		}
	}
	for o.read(c, methods) {
	}
	c.Close()
	return o
}

// peekFor waits until there is something to read, which has as long again to
// be whole.
func peekFor(c *peer.Client, wait time.Duration) error {
	for begin := rig.Now(); ; {
		c.SetReadDeadline(time.Now().Add(wait))
		if _, err := c.R.Peek(1); !isTimeout(err) || begin.Took() >= wait {
			c.SetReadDeadline(time.Now().Add(wait))
			return err
		}
	}
}

// read reads one answer; it is false when none comes any more.
func (o *outcome) read(c *peer.Client, methods []string) bool {
	begin, wait, method := rig.Now(), 400*time.Millisecond, "GET"
	if o.closing {
		wait = 3 * time.Second
	}
	if n := len(o.statuses); n < len(methods) {
		method = methods[n]
	}
	var p *strict.Response
	err := peekFor(c, wait)
	if err == nil {
		p, err = strict.ReadResponse(c.R, method)
	}
	if p != nil {
		o.statuses = append(o.statuses, p.Status)
		o.closing = strings.EqualFold(p.Header.Get("Connection"), "close")
		return err == nil
	}
	o.lasted, o.ended = begin.Took(), !isTimeout(err)
	if err != io.EOF && !isTimeout(err) {
		o.faults = append(o.faults, err)
	}
	return false
}

// check holds the outcome to the rules. 501 and 505 are what RFC 9110 has for
// an unknown transfer coding and version; any other 5xx would say that a
// client's fault was the server's.
func (o *outcome) check(t *testing.T, want string) {
	t.Helper()
	for _, status := range o.statuses {
		if status >= 500 && status != 501 && status != 505 {
			t.Errorf("answered %d", status)
		}
	}
	for _, err := range o.faults {
		t.Errorf("the client read %v", err)
	}
	if o.closing && (!o.ended || o.lasted > time.Second) {
		t.Errorf("refused, but closed only after %v: %v", o.lasted, o.ended)
	}
	if got := strings.Trim(fmt.Sprint(o.statuses), "[]"); want != "" && got != want {
		t.Errorf("answered %q, want %q", got, want)
	}
}
