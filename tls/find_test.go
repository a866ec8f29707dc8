package tls_test

import (
	"testing"

	"usher/tls"
)

// TestFind reads real hellos one after the other into one Hello, which has to
// say what Peek says, and nothing of parts of them.
func TestFind(t *testing.T) {
	var h tls.Hello
	for _, real := range realHellos(t) {
		whole := records(message(real.bytes), 1<<14)
		want, err := peekBytes(t, whole)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{whole, append(whole[:len(whole):len(whole)], "early data"...)} {
			if !h.Find(b) || say(h) != say(want) {
				t.Errorf("found\n%s\nwant\n%s", say(h), say(want))
			}
		}
		if n := testing.AllocsPerRun(10, func() { h.Find(whole) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		for n := range whole {
			if h.Find(whole[:n]) {
				t.Fatalf("found in %d of %d bytes", n, len(whole))
			}
		}
		if h.Find(records(message(real.bytes), 100)) {
			t.Error("found in several records")
		}
	}
	for _, body := range badHellos {
		if h.Find(helloOf(body)) {
			t.Errorf("found in %x", body)
		}
	}
}
