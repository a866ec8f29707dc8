package proxyproto_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"

	"usher/proxy/proxyproto"
)

func FuzzRead(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return // more than the pair holds
		}
		c, peer := pair(t)
		defer func() { c.Close(); peer.Close() }()
		peer.Write(b)
		peer.CloseWrite()
		h, err := proxyproto.Read(c)
		rest, _ := io.ReadAll(c)
		if err != nil {
			if !errors.Is(err, proxyproto.ErrHeader) && (err != io.EOF || len(b) > 0) || h != (proxyproto.Header{}) || !bytes.Equal(rest, b) {
				t.Fatalf("%+v, %v, left %q", h, err, rest)
			}
			return
		}
		header, behind := b[:len(b)-len(rest)], b[len(b)-len(rest):]
		if !bytes.Equal(rest, behind) {
			t.Fatalf("left %q, want %q", rest, behind)
		}
		// Nothing behind the header and no way of cutting it matters.
		c.Close()
		c2, peer2 := pair(t)
		defer func() { c2.Close(); peer2.Close() }()
		c2.Unread(bytes.Clone(header[:len(header)/2]))
		peer2.Write(header[len(header)/2:])
		if again, err := proxyproto.Read(c2); again != h || err != nil {
			t.Fatalf("%+v, alone %+v, %v", h, again, err)
		}
		roundTrip(t, h)
	})
}

func roundTrip(t *testing.T, h proxyproto.Header) {
	for _, write := range []func([]byte, netip.AddrPort, netip.AddrPort) []byte{proxyproto.AppendV1, proxyproto.AppendV2} {
		c, peer := pair(t)
		peer.Write(write(nil, h.Source, h.Destination))
		again, err := proxyproto.Read(c)
		c.Close()
		peer.Close()
		if again.Source != h.Source || again.Destination != h.Destination || err != nil {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
		if again.Source.Addr().Is4In6() || again.Destination.Addr().Is4In6() {
			t.Fatalf("%+v is IPv4-mapped", again)
		}
	}
}
