package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestHostileVM lets a VM answer in every wrong way. The client that asked sees
// 502 or a transfer that is visibly broken, never a whole 200 that is none; the
// next client sees its own bytes.
func TestHostileVM(t *testing.T) {
	t.Parallel()
	all := vectors(t, "answers.txt")
	if len(all) < 100 {
		t.Fatalf("%d bad answers are fewer than 100", len(all))
	}
	const shards = 4
	for n := range shards {
		t.Run(fmt.Sprint("shard ", n), func(t *testing.T) {
			t.Parallel()
			vm := peer.Listen(t, hostile(all))
			u := start(t, `[timeouts]
response_head = "2s"
hold = "300ms"
[sites."aaaa.test"]
to = "http://%s"
http = "forward"`, vm.Addr)
			for i := n; i < len(all); i += shards {
				t.Run(all[i].name, func(t *testing.T) { suffer(t, u.For(t), i, all[i]) })
			}
		})
	}
}

// hostile answers /bad/N with the bytes of vector N, and anything else in
// order with the mark of the client that asked.
func hostile(all []vector) peer.Script {
	return peer.Each(func(l *peer.Link, q *strict.Request) bool {
		path, mark, _ := strings.Cut(q.Target, "?")
		var n int
		if _, err := fmt.Sscanf(path, "/bad/%d", &n); err != nil {
			return l.Say(peer.Text(mark))
		}
		v := all[n]
		ok := l.Say(v.bytes[0])
		for ok && strings.Contains(v.word, "endless") {
			ok = l.Say(v.bytes[1])
		}
		if strings.Contains(v.word, "hold") { // says no more and stays
			io.Copy(io.Discard, l.R)
			return false
		}
		return ok && strings.Contains(v.word, "keep")
	})
}

// suffer has one client ask for the bad answer and others for good ones after
// it.
func suffer(t *testing.T, u *rig.Usher, n int, v vector) {
	for _, method := range []string{"GET", "POST"} { // one that may be tried again, one that may not
		mark := fmt.Sprintf("mark%d%s", n, method)
		c := u.Dial()
		c.Send(fmt.Sprintf("%s /bad/%d?%s HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 0\r\n\r\n", method, n, mark))
		c.SetReadDeadline(time.Now().Add(peer.Patience))
		p, err := strict.ReadResponse(c.R, method)
		want := v.status()
		if method == "GET" && strings.Contains(v.word, "small") {
			want = "502"
		}
		switch {
		case isTimeout(err):
			t.Errorf("%s: nothing for %v: %+v", method, peer.Patience, p)
		case p == nil:
			if want != "" {
				t.Errorf("%s: no answer at all (%v), want %s", method, err, want)
			}
		case want == "broken":
			if err == nil && !p.ToClose || p.Status != 200 {
				t.Errorf("%s: %d with %.100q and %v, want a broken 200", method, p.Status, p.Body, err)
			}
			if p.ToClose && !peer.IsReset(err) {
				t.Errorf("%s: a body that ends with the connection ended in order: %.100q", method, p.Body)
			}
		case want != "" && fmt.Sprint(p.Status) != want || p.Status != 502 && p.Status != 504 && err == nil && want == "":
			t.Errorf("%s: %d %.100q, want %s", method, p.Status, p.Body, want)
		}
		if p != nil && strings.Contains(string(p.Body), "other") {
			t.Errorf("%s: got bytes of another answer: %.100q", method, p.Body)
		}
		c.Close()
		next := u.Dial()
		for i := range 2 {
			mine := fmt.Sprintf("next%d", i)
			if p := next.Get("aaaa.test", "/good?"+mine); p.Status != 200 || string(p.Body) != mine {
				t.Errorf("after %s the next client got %d %.100q", method, p.Status, p.Body)
			}
		}
	}
}

// status is the first word of what is wanted.
func (v vector) status() string {
	status, _, _ := strings.Cut(v.word, " ")
	return strings.Trim(status, "-")
}
