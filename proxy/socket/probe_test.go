package socket

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestProbeIsNotSeenByTheListener(t *testing.T) {
	noLeak(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for range 200 {
			if err := Probe(context.Background(), "tcp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
		}
		// The queue of accepted connections is in order: if the first is ours,
		// none of the probes is in it.
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if got.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("%s: accepted a probe from %v", addr, got.RemoteAddr())
		}
	}
}

func TestProbeUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Probe(context.Background(), "unix", path); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := Probe(context.Background(), "unix", path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestProbeFailsAsDialDoes(t *testing.T) {
	hangs := silent(t)
	noLeak(t)
	l := listener(t)
	addr := l.Addr().String()
	l.Close()
	if err := Probe(context.Background(), "tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("closed port:", err)
	}
	if err := Probe(context.Background(), "tcp", "name:80"); err == nil {
		t.Error("a name is no address")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := Probe(ctx, "tcp", hangs); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("silent address:", err)
	}
}
