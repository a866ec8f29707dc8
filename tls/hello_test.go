package tls_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"usher/tls"
)

// prefixed16 and prefixed8 put the length of b before it.
func prefixed16(b string) string { return string([]byte{byte(len(b) >> 8), byte(len(b))}) + b }
func prefixed8(b string) string  { return string([]byte{byte(len(b))}) + b }

func extension(kind uint16, body string) string {
	return string([]byte{byte(kind >> 8), byte(kind)}) + prefixed16(body)
}

func serverNames(names ...string) string {
	list := ""
	for _, name := range names {
		list += "\x00" + prefixed16(name)
	}
	return extension(0, prefixed16(list))
}

func protocols(names ...string) string {
	list := ""
	for _, name := range names {
		list += prefixed8(name)
	}
	return extension(16, prefixed16(list))
}

// usual is a hello up to its extensions.
var usual = "\x03\x03" + strings.Repeat("r", 32) + prefixed8("session") + prefixed16("\x13\x01\xc0\x2b") + prefixed8("\x00")

// helloOf is the message with body.
func helloOf(body string) []byte {
	var b cryptobyte.Builder
	b.AddUint8(1)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(body)) })
	return b.BytesOrPanic()
}

func with(extensions ...string) string { return usual + prefixed16(strings.Join(extensions, "")) }

func manyExtensions(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = extension(uint16(1000+i), "")
	}
	return with(list...)
}

var goodHellos = []struct{ body, name, alpn string }{
	{usual, "", ""},
	{with(), "", ""},
	{with(serverNames("example.com")), "example.com", ""},
	{with(serverNames("Example.COM.")), "Example.COM.", ""},
	{with(serverNames("a\x00\n b")), "a\x00\n b", ""},
	{with(serverNames("192.0.2.1"), protocols("h2")), "192.0.2.1", "h2"},
	{with(serverNames(strings.Repeat("a", 60000))), strings.Repeat("a", 60000), ""},
	{with(protocols("h2", "http/1.1", "\x00 "), serverNames("b")), "b", "h2,http/1.1,\x00 "},
	{with(extension(0x0a0a, ""), extension(0x1a1a, "\x00"), serverNames("grease.example")), "grease.example", ""},
	{manyExtensions(256), "", ""},
	{"\x03\x00" + usual[2:], "", ""},
	{"\x03\x03" + strings.Repeat("r", 32) + prefixed8(strings.Repeat("s", 32)) + prefixed16("\x13\x01") + prefixed8("\x01\x00"), "", ""},
}

func TestHello(t *testing.T) {
	for _, c := range goodHellos {
		m := helloOf(c.body)
		h, err := peekBytes(t, records(m, 1<<14))
		if err != nil || string(h.ServerName) != c.name || string(bytes.Join(h.ALPN, []byte(","))) != c.alpn {
			t.Errorf("%.200q: %.80q, %q, %v", c.body, h.ServerName, h.ALPN, err)
		}
	}
}

var badHellos = []string{
	"", "\x03", usual[:34], usual[:len(usual)-1], usual + "\x00", usual + "\x00\x01", usual + "\x00\x00x",
	"\x03\x03" + strings.Repeat("r", 32) + prefixed8(strings.Repeat("s", 33)) + prefixed16("\x13\x01") + prefixed8("\x00"),
	"\x03\x03" + strings.Repeat("r", 32) + prefixed8("") + prefixed16("") + prefixed8("\x00"),
	"\x03\x03" + strings.Repeat("r", 32) + prefixed8("") + prefixed16("\x13") + prefixed8("\x00"),
	"\x03\x03" + strings.Repeat("r", 32) + prefixed8("") + prefixed16("\x13\x01\x13") + prefixed8("\x00"),
	"\x03\x03" + strings.Repeat("r", 32) + prefixed8("") + prefixed16("\x13\x01") + prefixed8(""),
	with() + "x", with(serverNames("a")) + "x", with("\x00"), with("\x00\x00\x00"), with("\x00\x05\x00\x01"), with(serverNames("a"), "\x00"),
	// Two of anything, of names above all.
	with(serverNames("a"), serverNames("b")), with(serverNames("a"), serverNames("a")), with(serverNames("a", "b")), with(serverNames("a", "a")),
	with(protocols("h2"), protocols("h2")), with(extension(1000, ""), extension(1001, ""), extension(1000, "")),
	manyExtensions(257),
	// server_name
	with(extension(0, "")), with(extension(0, "\x00")), with(serverNames()), with(serverNames("")), with(serverNames("a", "")),
	with(extension(0, prefixed16("\x00"))), with(extension(0, prefixed16("\x00\x00\x02a"))), with(extension(0, prefixed16("\x00"+prefixed16("a"))+"x")),
	with(extension(0, prefixed16("\x00"+prefixed16("a")+"x"))), with(extension(0, "\x00\x05\x00\x00\x01a")), with(extension(0, prefixed16("\x01"+prefixed16("a")))),
	with(extension(0, prefixed16("\x00"+prefixed16("a")+"\x01"+prefixed16("b")))),
	// ALPN
	with(extension(16, "")), with(extension(16, "\x00\x00")), with(protocols("")), with(protocols("h2", "")), with(extension(16, prefixed16("\x03h2"))),
	with(extension(16, prefixed16("\x02h2")+"x")), with(extension(16, "\x00\x04\x02h2")), with(protocols(slices.Repeat([]string{"x"}, 1025)...)),
	// supported_versions
	with(extension(43, "")), with(extension(43, "\x00")), with(extension(43, "\x01\x03")), with(extension(43, "\x03\x03\x04\x03")), with(extension(43, "\x04\x03\x04")), with(extension(43, "\x02\x03\x04x")),
}

func TestHelloRefused(t *testing.T) {
	for _, body := range badHellos {
		h, err := peekBytes(t, records(helloOf(body), 1<<14))
		if !errors.Is(err, tls.ErrHello) || h.ServerName != nil || h.ALPN != nil || h.Versions != nil {
			t.Errorf("%.200q: %+v, %v", body, h, err)
		}
	}
}

// TestHelloAndMore has bytes behind the hello, in its record and after it.
func TestHelloAndMore(t *testing.T) {
	m := helloOf(with(serverNames("a.example")))
	for _, b := range [][]byte{
		append(records(m, 1<<14), "\x17\x03\x03\x00\x05early"...),
		records(append(slices.Clone(m), "\x02 another message"...), 1<<14),
		append(records(append(slices.Clone(m), 2), 40), "\x16\x03\x03"...),
		append(records(m, 1<<14), "anything"...),
	} {
		if h, err := peekBytes(t, b); err != nil || string(h.ServerName) != "a.example" {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestIsACME(t *testing.T) {
	for alpn, want := range map[string]bool{"acme-tls/1": true, "h2,acme-tls/1": false, "acme-tls/1,acme-tls/1": false, "acme-tls/10": false, "h2": false} {
		h, err := peekBytes(t, records(helloOf(with(protocols(strings.Split(alpn, ",")...))), 1<<14))
		if err != nil || h.IsACME() != want {
			t.Errorf("%s: %v, %v", alpn, h.IsACME(), err)
		}
	}
	if new(tls.Hello).IsACME() {
		t.Error("no ALPN at all")
	}
}
