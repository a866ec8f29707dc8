package router

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	long := strings.Repeat("a", 63)
	longest := strings.Repeat(long+".", 3) + strings.Repeat("b", 61)
	for _, c := range []struct{ host, want string }{
		{"example.com", "example.com"},
		{"Example.COM", "example.com"},
		{"example.com.", "example.com"},
		{"EXAMPLE.com.:443", "example.com"},
		{"example.com:0", "example.com"},
		{"example.com:65535", "example.com"},
		{"example.com:00080", "example.com"},
		{"example.com:", "example.com"},
		{"localhost", "localhost"},
		{"my_host", "my_host"},
		{"-odd-.r3---sn", "-odd-.r3---sn"},
		{"xn--invalid-punycode-is-a-name-too", "xn--invalid-punycode-is-a-name-too"},
		{"1.2.3.4a", "1.2.3.4a"},
		{"1e100.net", "1e100.net"},
		{"0x.example", "0x.example"},
		{"0xg", "0xg"},
		{long, long},
		{longest, longest},
		{longest + ".:443", longest},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.Example:8080", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"straße.de", "xn--strae-oqa.de"},
		{"my_bücher.r3---sn", "xn--my_bcher-95a.r3---sn"},
		{"例え。テスト。", "xn--r8jz45g.xn--zckzah"},
		{"ｅｘａｍｐｌｅ.com", "example.com"},
		{"１.2.3.4", "1.2.3.4"},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1.:80", "192.0.2.1"},
		{"0.0.0.0", "0.0.0.0"},
		{"[2001:DB8:0:0::1]:443", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"[::]:", "::"},
		{"2001:db8::1", "2001:db8::1"},
		{"[::ffff:192.0.2.1]", "192.0.2.1"},
		{"::ffff:c000:201", "192.0.2.1"},
		{"[64:ff9b::192.0.2.1]", "64:ff9b::c000:201"},
	} {
		got, err := Canonical([]byte("kept "), []byte(c.host))
		if err != nil || string(got) != "kept "+c.want {
			t.Errorf("Canonical(%q) = %q, %v, want %q", c.host, got, err, c.want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, host := range []string{
		"", ".", "..", ".example.com", "example..com", "example.com..", ":80", ".:80",
		"example.com:65536", "example.com:-1", "example.com:+1", "example.com:80a", "example.com: 80",
		"example.com:99999999999999999999", "example.com:80:80",
		"*", "*.example.com", "a.*.com", "exa*mple.com",
		"exam ple.com", " example.com", "example.com\t", "example.com\x00", "\x00", "a\nb", "a\x7fb",
		"a/b", "a\\b", "user@example.com", "a%41", "a,b", `a"b`, "a'b", "a;b", "a#b", "a?b", "a!b", "a=b", "a~b", "a+b",
		"http://example.com", "example.com/",
		long + "a", long + "a.com", strings.Repeat(long+".", 3) + strings.Repeat("b", 62),
		strings.Repeat("ü", 60), strings.Repeat("ü.", 3000),
		"\xff.com", "b\xc3.com", "\xed\xa0\x80.com", "a\u2260b/.com", "ü/x.com", "ü：80", "xn--a.ü", "a\u200db.com", "\u00ad",
		"1", "1.2.3", "127.1", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "01.2.3.4", "1.2.3.04", "1.2.3.0004", "0x7f.1", "0x7f000001", "0x", "a.0x", "a.0X1F",
		"example.1", "1.2.3.4..", "a.1.", "１", "2130706433", "1..2.3", "1.2.3.",
		"[", "[]", "]", "[::1", "::1]", "[::1]x", "[::1].", "[::1]:x", "[::1]:65536", "[::1]:1:1", "[[::1]]", "[fe80::1%eth0]", "fe80::1%25eth0",
		"[192.0.2.1]", "[example.com]", "[v1.x]", ":::", "::g", "1:2:3:4:5:6:7:8:9", "2001:db8::1.", "[::1]]", "a[::1]", "a:[::1]",
	} {
		got, err := Canonical([]byte("kept"), []byte(host))
		if !errors.Is(err, ErrHost) || string(got) != "kept" {
			t.Errorf("Canonical(%q) = %q, %v, want ErrHost", host, got, err)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct{ host, want string }{
		{"*", "*"},
		{"*.Example.com.", "*.example.com"},
		{"*.bücher.example", "*.xn--bcher-kva.example"},
		{"*.localhost", "*.localhost"},
		{"Example.com", "example.com"},
		{"[::1]", "::1"},
		{"2001:DB8::1", "2001:db8::1"},
		{"192.0.2.1", "192.0.2.1"},
	} {
		got, err := Pattern([]byte("kept "), []byte(c.host))
		if err != nil || string(got) != "kept "+c.want {
			t.Errorf("Pattern(%q) = %q, %v, want %q", c.host, got, err, c.want)
		}
	}
	for _, host := range []string{
		"", "*.", "**", "*.*", "*.*.com", "a.*", "*a.com", "*example.com", "*:80", "*.a.com:80", "a.com:80", "a.com:", "[::1]:80", ":80", ":",
		"*.[::1]", "*.::1", "*.192.0.2.1", "*.1", "*.2.3.4", "*." + strings.Repeat("aaaaaaa.", 31) + "aaaaa",
	} {
		got, err := Pattern([]byte("kept"), []byte(host))
		if !errors.Is(err, ErrHost) || string(got) != "kept" {
			t.Errorf("Pattern(%q) = %q, %v, want ErrHost", host, got, err)
		}
	}
}

func TestIsIP(t *testing.T) {
	for key, want := range map[string]bool{
		"192.0.2.1": true, "::1": true, "2001:db8::1": true,
		"example.com": false, "1.example": false, "a1": false, "": false, "4.4.4.a4": false,
	} {
		if got := IsIP([]byte(key)); got != want {
			t.Errorf("IsIP(%q) = %v", key, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		"Example.com:80", "*.example.com", "[2001:db8::1%a]:443", "::ffff:1.2.3.4", "1.2.3.4.", "0x7f.1", "bücher.example.",
		"xn--bcher-kva.ü", "例え。テスト", "\xff", "a\x00b", "１.１.１.１", strings.Repeat("a.", 127),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, host []byte) {
		given := bytes.Clone(host)
		key, err := Canonical(nil, host)
		if !bytes.Equal(host, given) {
			t.Fatalf("Canonical changed its input %q to %q", given, host)
		}
		if pattern, err2 := Pattern(nil, host); err2 == nil && !bytes.HasPrefix(host, []byte("*")) && !bytes.Equal(pattern, key) {
			t.Fatalf("Pattern(%q) = %q, Canonical %q, %v", host, pattern, key, err)
		}
		if err != nil {
			if !errors.Is(err, ErrHost) || len(key) > 0 {
				t.Fatalf("Canonical(%q) = %q, %v", host, key, err)
			}
			return
		}
		checkKey(t, host, key)
	})
}

func checkKey(t *testing.T, host, key []byte) {
	if len(key) == 0 || len(key) > MaxHost {
		t.Fatalf("Canonical(%q) is %d bytes long", host, len(key))
	}
	set := "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if IsIP(key) {
		set = "abcdef0123456789:."
	}
	if rest := bytes.Trim(key, set); len(rest) > 0 {
		t.Fatalf("Canonical(%q) = %q holds %q", host, key, rest)
	}
	if again, err := Canonical(nil, key); err != nil || !bytes.Equal(again, key) {
		t.Fatalf("Canonical(%q) = %q, of that %q, %v", host, key, again, err)
	}
	upper, err := Canonical(nil, bytes.ToUpper(key))
	if err != nil || !bytes.Equal(upper, key) {
		t.Fatalf("Canonical of %q in upper case = %q, %v", key, upper, err)
	}
}
