package h1

import (
	"io"
	"net"
	"strings"
	"testing"

	"usher/proxy/message"
)

const browserHead = "GET /assets/app.js?v=81c2 HTTP/1.1\r\nHost: app.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://app.example.com/\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n" +
	"Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\nIf-None-Match: \"5f2a\"\r\n\r\n"

func BenchmarkRequestHead(b *testing.B) {
	head := []byte(browserHead)
	var h requestHead
	var r message.Request
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		h.reset()
		r.Header.Reset()
		if done, _, err := h.parse(head, &r); !done || err != nil {
			b.Fatal(err)
		}
	}
}

const answer200 = "HTTP/1.1 200 OK\r\n" + date + "Server: vm\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world"

func BenchmarkResponseHead(b *testing.B) {
	head := []byte(answer200)
	var h responseHead
	var r message.Response
	b.ReportAllocs()
	for b.Loop() {
		h.reset()
		r.Header.Reset()
		if done, _, err := h.parse(head, &r); !done || err != nil {
			b.Fatal(err)
		}
	}
}

// answering is a VM that answers every read with the same bytes.
func answering(c net.Conn, answer string) {
	buf, raw := make([]byte, 64<<10), []byte(answer)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := c.Write(raw); err != nil {
			return
		}
	}
}

// proxied starts a scene for many equal exchanges and returns one of them.
func proxied(t testing.TB, request, answer string) func() {
	s := newScene(t, &defaults).start()
	go func() {
		for vm := range s.vms {
			go answering(vm, answer)
		}
	}()
	t.Cleanup(func() { close(s.vms) })
	buf := make([]byte, len(answer))
	raw := []byte(request)
	return func() {
		if _, err := s.client.Write(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s.client, buf); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkProxiedGET(b *testing.B) {
	once := proxied(b, browserHead, answer200)
	once()
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}

func TestExchangeAllocatesNothing(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for name, c := range map[string]struct{ request, answer string }{
		"GET":     {browserHead, answer200},
		"POST":    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", answer200},
		"chunked": {browserHead, chunked},
		"large":   {browserHead, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			once := proxied(t, c.request, c.answer)
			for range 10 {
				once()
			}
			n := testing.AllocsPerRun(200, once)
			if !raceEnabled && n != 0 {
				t.Errorf("%v allocations for an exchange, want none", n)
			}
		})
	}
}
