package proxyproto_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"usher/proxy/proxyproto"
)

func TestAppend(t *testing.T) {
	for _, c := range []struct{ source, destination, v1, v2 string }{
		{"192.168.0.1:56324", "192.168.0.11:443", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "21 11 000c c0a80001 c0a8000b dc04 01bb"},
		{"[::ffff:192.168.0.1]:1", "192.168.0.11:0", "PROXY TCP4 192.168.0.1 192.168.0.11 1 0\r\n", "21 11 000c c0a80001 c0a8000b 0001 0000"},
		{"[2001:db8::1]:1", "[2001:db8::2]:65535", "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
			"21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 ffff"},
		{"192.0.2.1:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 2\r\n",
			"21 21 0024 00000000000000000000ffffc0000201 20010db8000000000000000000000002 0001 0002"},
		{"[fe80::1%eth0]:1", "[fe80::2%eth0]:2", "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
			"21 21 0024 fe800000000000000000000000000001 fe800000000000000000000000000002 0001 0002"},
		{"", "192.0.2.1:1", "PROXY UNKNOWN\r\n", "20 00 0000"},
		{"192.0.2.1:1", "", "PROXY UNKNOWN\r\n", "20 00 0000"},
	} {
		source, _ := netip.ParseAddrPort(c.source)
		destination, _ := netip.ParseAddrPort(c.destination)
		if got := proxyproto.AppendV1([]byte("kept "), source, destination); string(got) != "kept "+c.v1 {
			t.Errorf("v1 of %s, %s: %q, want %q", source, destination, got, c.v1)
		}
		var v2 []byte
		fmt.Sscanf("0d0a0d0a000d0a515549540a", "%x", &v2)
		for word := range bytes.FieldsSeq([]byte(c.v2)) {
			var b []byte
			fmt.Sscanf(string(word), "%x", &b)
			v2 = append(v2, b...)
		}
		if got := proxyproto.AppendV2(nil, source, destination); !bytes.Equal(got, v2) {
			t.Errorf("v2 of %s, %s: %x, want %x", source, destination, got, v2)
		}
		if v2[12] == 0x21 {
			v2[13]++ // SOCK_DGRAM instead of SOCK_STREAM
		}
		if got := proxyproto.AppendV2Datagram(nil, source, destination); !bytes.Equal(got, v2) {
			t.Errorf("v2 over UDP of %s, %s: %x, want %x", source, destination, got, v2)
		}
	}
}

func TestAppendAllocations(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:443")
	if n := testing.AllocsPerRun(100, func() {
		var buf [128]byte
		proxyproto.AppendV1(buf[:0], a, b)
		proxyproto.AppendV2(buf[:0], a, b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
