package h2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// decoded is what a peer makes of a block.
func decoded(t testing.TB, d *hpack.Decoder, b []byte) []hpack.HeaderField {
	t.Helper()
	var got []hpack.HeaderField
	d.SetEmitFunc(func(f hpack.HeaderField) { got = append(got, f) })
	if _, err := d.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestEncoderAgreesWithADecoder whatever the fields, and whatever happens to
// the table.
func TestEncoderAgreesWithADecoder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		var e encoder
		e.init()
		d := hpack.NewDecoder(headerTable, nil)
		names := []string{":authority", ":path", "server", "date", "x-own", "content-length", "set-cookie"}
		for range 300 {
			switch rng.IntN(100) {
			case 0:
				size := rng.Uint32N(2 * headerTable)
				e.limit(size)
				d.SetAllowedMaxDynamicTableSize(min(headerTable, size))
			case 1:
				e.forget()
			}
			b := e.begin(nil)
			status := 100 + rng.IntN(500)
			b = e.status(b, status)
			want := []hpack.HeaderField{{Name: ":status", Value: fmt.Sprint(status)}}
			for range rng.IntN(12) {
				f := hpack.HeaderField{
					Name:  names[rng.IntN(len(names))] + strings.Repeat("-more", rng.IntN(3)),
					Value: strings.Repeat(string(rune('a'+rng.IntN(8))), rng.IntN(4)*rng.IntN(100)),
				}
				want = append(want, f)
				b = e.field(b, f.Name, f.Value)
			}
			if got := decoded(t, d, b); !slices.Equal(got, want) {
				t.Fatalf("%v became %v", want, got)
			}
		}
	}
}

func TestStaticNames(t *testing.T) {
	d := hpack.NewDecoder(headerTable, nil)
	for i := 1; i < firstDynamic; i++ {
		f := decoded(t, d, []byte{indexed | byte(i)})[0]
		if at := staticName(f.Name); at == 0 || decoded(t, d, []byte{indexed | byte(at)})[0].Name != f.Name {
			t.Errorf("%s is not field %d", f.Name, at)
		}
	}
	if staticName("x-own") != 0 {
		t.Error("x-own is in the static table")
	}
}

// TestRepeatedFieldsAreIndexed from the third time on, secrets and what is
// unique never.
func TestRepeatedFieldsAreIndexed(t *testing.T) {
	for f, want := range map[hpack.HeaderField]bool{
		{Name: "server", Value: "a server"}:               true,
		{Name: "x-own", Value: "its value"}:               true,
		{Name: "content-length", Value: "12345678"}:       false,
		{Name: "set-cookie", Value: "id=0123456789"}:      false,
		{Name: "authorization", Value: "Bearer 0123456"}:  false,
		{Name: "x-own", Value: strings.Repeat("a", 5000)}: false,
	} {
		var e encoder
		e.init()
		e.field(nil, f.Name, f.Value)
		e.field(nil, f.Name, f.Value)
		if got := len(e.field(nil, f.Name, f.Value)) == 1; got != want {
			t.Errorf("%s: %t", f.Name, got)
		}
	}
}

// TestHeadsThatAreAlikeCostLittle: no field keeps another from being indexed.
func TestHeadsThatAreAlikeCostLittle(t *testing.T) {
	for range 50 {
		var e encoder
		e.init()
		var b []byte
		for range 3 {
			b = e.status(e.begin(nil), 200)
			for i := range 20 {
				b = e.field(b, fmt.Sprint("x-", i), "a value")
			}
		}
		if len(b) != 21 {
			t.Fatalf("the third head has %d bytes", len(b))
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	var e encoder
	e.init()
	out := make([]byte, 0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		out = e.status(e.begin(out[:0]), 200)
		out = e.field(out, "server", "nginx")
		out = e.field(out, "content-type", "text/html; charset=utf-8")
		out = e.field(out, "date", "Thu, 26 Nov 2026 02:37:42 GMT")
		out = e.field(out, "content-length", "10240")
		out = e.field(out, "etag", `"5f3a-18c2d0e4b40"`)
	}
}
