package server

import (
	"fmt"
	"net/netip"
	"testing"

	"usher/config"
)

func netipOf(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// conf has the sites first to last-1 of each file.
func conf(files map[string][2]int) *config.Config {
	c := &config.Config{}
	for file, span := range files {
		c.Files = append(c.Files, file)
		for i := span[0]; i < span[1]; i++ {
			c.Sites = append(c.Sites, &config.Site{Host: fmt.Sprintf("s%d.test", i), Pos: config.Position{File: file}})
		}
	}
	return c
}

func TestLostSites(t *testing.T) {
	type files = map[string][2]int
	for _, c := range []struct {
		what      string
		old, next files
		refused   bool
	}{
		{"nothing changed", files{"a": {0, 20}}, files{"a": {0, 20}}, false},
		{"the only site went", files{"a": {0, 1}}, files{"a": {}}, true},
		{"the only site was renamed", files{"a": {0, 1}}, files{"a": {1, 2}}, false},
		{"five of nine went", files{"a": {0, 9}}, files{"a": {0, 4}}, false},
		{"half of ten went", files{"a": {0, 10}}, files{"a": {0, 5}}, false},
		{"over half of ten went", files{"a": {0, 10}}, files{"a": {0, 4}}, true},
		{"all of twenty were renamed", files{"a": {0, 20}}, files{"a": {20, 40}}, false},
		{"one file of two is empty", files{"a": {0, 20}, "b": {20, 23}}, files{"a": {0, 20}, "b": {}}, true},
		{"all moved to another file", files{"a": {0, 12}, "b": {}}, files{"a": {}, "b": {0, 12}}, false},
		{"one file of two lost most", files{"a": {0, 40}, "b": {40, 52}}, files{"a": {0, 40}, "b": {40, 44}}, true},
		{"a file was removed", files{"a": {0, 20}, "b": {20, 23}}, files{"a": {0, 20}}, false},
		{"sites came", files{"a": {}}, files{"a": {0, 9}}, false},
	} {
		if got := lostSites(conf(c.old), conf(c.next)); (got != "") != c.refused {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

func TestOwnListeners(t *testing.T) {
	l := &listeners{}
	if l.has(netipOf(t, "127.0.0.1:443")) {
		t.Error("without listeners nothing is our own")
	}
	own := []netip.AddrPort{netipOf(t, "[::]:443"), netipOf(t, "127.0.0.5:80")}
	l.own.Store(&own)
	for text, want := range map[string]bool{
		"127.0.0.1:443": true, "[::1]:443": true, "0.0.0.0:443": true, "127.0.0.1:80": false,
		"127.0.0.5:80": true, "192.0.2.1:443": false, "127.0.0.1:444": false,
	} {
		if got := l.has(netipOf(t, text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { l.has(own[0]) }); n > 0 {
		t.Errorf("%v allocations for each connection", n)
	}
}
