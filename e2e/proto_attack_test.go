package e2e

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"

	"usher/e2e/protopeer"
)

// odd is the n-th stream of a client.
func odd(n int) uint32 { return uint32(2*n + 1) }

// attacks are those that 20,000 frames or streams make; each of them ends its
// connection.
func attacks() map[string]func(*attacker, int) {
	repeat := make([]byte, 16<<10)
	for i := range repeat {
		repeat[i] = 0x80 | 62 // the newest entry of the dynamic table
	}
	bomb := append([]byte{0x40, 1, 'x', 0x7f, 0x99, 0x1e}, make([]byte, 4000)...) // an entry of 4,000 bytes
	for i := range 4000 {
		bomb[6+i] = 'y'
	}
	overflow := uint32(1<<31 - 1)
	return map[string]func(*attacker, int){
		"rapid reset": func(a *attacker, i int) {
			a.open(odd(i), true, "GET", "/")
			a.fr.WriteRSTStream(odd(i), http2.ErrCodeCancel)
		},
		"rapid reset of uploads": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/slow")
			a.fr.WriteRSTStream(odd(i), http2.ErrCodeCancel)
		},
		"streams over the limit": func(a *attacker, i int) { a.open(odd(i), false, "POST", "/slow") },
		"reset by a window update of 0": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/slow")
			a.fr.WriteWindowUpdate(odd(i), 0)
		},
		"reset by a window that overflows": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/slow")
			a.fr.WriteWindowUpdate(odd(i), overflow)
		},
		"reset by a dependency on itself": func(a *attacker, i int) {
			a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: odd(i), EndStream: true, EndHeaders: true, BlockFragment: a.fields("GET", "/"),
				Priority: http2.PriorityParam{StreamDep: odd(i)}})
		},
		"reset by PRIORITY": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/slow")
			a.fr.WriteRawFrame(http2.FramePriority, 0, odd(i), []byte{0, 0, 0, 1})
		},
		"reset by DATA after the end": func(a *attacker, i int) {
			a.open(odd(i), true, "GET", "/slow")
			a.fr.WriteData(odd(i), true, []byte("x"))
		},
		"reset by HEADERS after the end": func(a *attacker, i int) {
			a.open(odd(i), true, "GET", "/slow")
			a.open(odd(i), true, "GET", "/slow")
		},
		"reset by a false length": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/slow", "content-length", "1")
			a.fr.WriteData(odd(i), true, []byte("xy"))
		},
		"malformed requests": func(a *attacker, i int) { a.open(odd(i), true, "GET", "/", "Upper", "case") },
		"refused requests":   func(a *attacker, i int) { a.open(odd(i), true, "GET", "no path") },
		"CONTINUATION": func(a *attacker, i int) {
			if i == 0 {
				a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: a.fields("GET", "/")})
			}
			a.fr.WriteContinuation(1, false, repeat)
		},
		"empty CONTINUATION": func(a *attacker, i int) {
			if i == 0 {
				a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: a.fields("GET", "/")})
			}
			a.fr.WriteContinuation(1, false, nil)
		},
		"HPACK bomb": func(a *attacker, i int) {
			block := repeat
			if i == 0 {
				block = bomb
			}
			a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: odd(i), EndStream: true, EndHeaders: true, BlockFragment: block[:min(len(block), 16384)]})
		},
		"SETTINGS": func(a *attacker, i int) {
			a.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
		},
		"PING":     func(a *attacker, i int) { a.fr.WritePing(false, [8]byte{byte(i)}) },
		"PRIORITY": func(a *attacker, i int) { a.fr.WritePriority(odd(i), http2.PriorityParam{Weight: byte(i)}) },
		"PRIORITY_UPDATE": func(a *attacker, i int) {
			a.fr.WriteRawFrame(0x10, 0, 0, append(binary.BigEndian.AppendUint32(nil, odd(i)), "u=1"...))
		},
		"WINDOW_UPDATE":  func(a *attacker, i int) { a.fr.WriteWindowUpdate(0, 1) },
		"unknown frames": func(a *attacker, i int) { a.fr.WriteRawFrame(0xbb, 0, 0, []byte("x")) },
		"empty DATA": func(a *attacker, i int) {
			if i == 0 {
				a.open(1, false, "POST", "/")
			}
			a.fr.WriteData(1, false, nil)
		},
		"padding alone": func(a *attacker, i int) {
			if i == 0 {
				a.open(1, false, "POST", "/")
			}
			a.fr.WriteDataPadded(1, false, nil, make([]byte, 1))
		},
		"empty trailers": func(a *attacker, i int) {
			a.open(odd(i), false, "POST", "/")
			a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: odd(i), EndHeaders: true})
		},
	}
}

// TestAttacksOnH2: each attack ends its connection, costs little and is
// noticed by nobody else.
func TestAttacksOnH2(t *testing.T) {
	for name, attack := range attacks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := besiege(t, protopeer.H2)
			b.endure(func() {
				a := b.attack(false)
				a.flood(floodSize, func(i int) { attack(a, i) })
				a.wantEnded()
			})
		})
	}
}

// TestDeafAttackersOnH2 do not read what their frames are answered with.
func TestDeafAttackersOnH2(t *testing.T) {
	all := attacks()
	for _, name := range []string{"SETTINGS", "PING", "rapid reset", "malformed requests", "reset by a window update of 0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := besiege(t, protopeer.H2)
			b.endure(func() {
				a := b.attack(true)
				a.flood(floodSize, func(i int) { all[name](a, i) })
				go a.read()
				a.wantEnded()
			})
		})
	}
}

// TestStallsOnH2: streams whose client gives no window, or a byte at a time,
// or that trickle, hold what they asked for only as long as the timeouts say.
func TestStallsOnH2(t *testing.T) {
	none := http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}
	t.Run("window of 0", func(t *testing.T) {
		t.Parallel()
		b := besiege(t, protopeer.H2)
		b.endure(func() {
			a := b.attack(false, none)
			a.flood(floodSize, func(i int) { a.open(odd(i), true, "GET", "/big") })
			a.wantEnded()
		})
	})
	t.Run("window of 0, within the limit", func(t *testing.T) {
		t.Parallel()
		b := besiege(t, protopeer.H2)
		b.endure(func() {
			a := b.attack(false, none)
			a.flood(100, func(i int) { a.open(odd(i), true, "GET", "/big") })
			a.flood(1, func(int) { a.fr.WriteWindowUpdate(1, 1) })
			// All are reset after response_write; that many are an attack.
			a.flood(100, func(i int) { a.open(odd(100+i), true, "GET", "/big") })
			a.wantEnded()
		})
	})
	t.Run("window of 1 again and again", func(t *testing.T) {
		t.Parallel()
		b := besiege(t, protopeer.H2)
		b.endure(func() {
			a := b.attack(false, none)
			a.open(1, true, "GET", "/big")
			a.flood(floodSize, func(int) { a.fr.WriteWindowUpdate(1, 1) })
			a.conn.Close()
		})
	})
	t.Run("uploads that trickle", func(t *testing.T) {
		t.Parallel()
		b := besiege(t, protopeer.H2)
		b.endure(func() {
			a := b.attack(false)
			a.flood(100, func(i int) { a.open(odd(i), false, "POST", "/slow", "content-length", "1000000") })
			a.flood(100, func(i int) { a.fr.WriteData(odd(i), false, []byte("x")) })
			a.flood(floodSize, func(i int) { a.open(odd(100+i), false, "POST", "/slow", "content-length", "1000000") })
			a.wantEnded()
		})
	})
}

// TestBrowsersAreNoAttackers: a client that gives up 80 of 100 requests, and one that
// gives up many but less than half of its requests, are no attackers.
func TestBrowsersAreNoAttackers(t *testing.T) {
	for name, c := range map[string]struct{ requests, given, of int }{
		"80 of 100":  {100, 80, 100},
		"40 percent": {1000, 40, 100},
	} {
		t.Run(name, func(t *testing.T) { browse(t, c.requests, c.given, c.of) })
	}
}

// browse makes requests and gives up some of every so many; then the
// connection must still serve.
func browse(t *testing.T, requests, given, of int) {
	multiplexed(t, besiege(t, protopeer.H2).Usher, func(t *testing.T, e edge) {
		c := e.raw("aaaa.test")
		for i := range requests {
			path := "/"
			if i%of < given {
				path = "/slow"
			}
			s := e.open(c, protopeer.Request{Authority: "aaaa.test", Path: path}, true)
			if path == "/slow" {
				s.Cancel()
				continue
			}
			if a, err := protopeer.Finish(s); err != nil || a.Status != 200 {
				t.Fatalf("request %d: %d, %v", i, a.Status, err)
			}
		}
		if a := e.ask(c, protopeer.Request{Authority: "aaaa.test", Path: "/bystander"}, ""); string(a.Body) != "ok" {
			t.Errorf("%d %q", a.Status, a.Body)
		}
	})
}
