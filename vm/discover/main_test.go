package discover

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func source(t *testing.T, s Spec) Source {
	t.Helper()
	made, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// asks asks once and compares; want is addresses with spaces between, or a part
// of the error.
func asks(t *testing.T, s Source, want string, off bool) {
	t.Helper()
	got, err := s.Addresses(t.Context())
	if err != nil {
		if !strings.Contains(err.Error(), want) || Off(err) != off {
			t.Errorf("error %q (off: %t), want %q (off: %t)", err, Off(err), want, off)
		}
		return
	}
	var texts []string
	for _, a := range got {
		texts = append(texts, a.String())
	}
	if strings.Join(texts, " ") != want {
		t.Errorf("got %q, want %q", texts, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, s := range []Spec{
		{Source: "xen"},
		{},
		{Source: "exec"},
		{Source: "proxmox", URL: "https://pve:8006"},
		{Source: "proxmox", URL: "pve:8006", Token: "t"},
		{Source: "proxmox", URL: "https://", Token: "t"},
	} {
		if _, err := New(s); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

func TestSpecEqual(t *testing.T) {
	a := Spec{Source: "exec", Command: []string{"a", "b"}}
	b := Spec{Source: "exec", Command: []string{"a", "b"}}
	if !a.Equal(&b) {
		t.Error("equal specs differ")
	}
	b.Command[1] = "c"
	if a.Equal(&b) {
		t.Error("another command is equal")
	}
}

func TestWhatCountsOfAGuestsAddresses(t *testing.T) {
	for _, test := range []struct{ all, want []netip.Addr }{
		{nil, addrs()},
		{addrs("127.0.0.1", "::1", "fe80::1%eth0", "169.254.1.1", "224.0.0.1", "0.0.0.0", "ff02::1"), addrs()},
		{addrs("10.0.0.2", "10.0.0.1", "10.0.0.2"), addrs("10.0.0.1", "10.0.0.2")},
		{addrs("2001:db8::2", "10.0.0.2"), addrs("10.0.0.2")},
		{addrs("2001:db8::2", "fd00::1", "fe80::1"), addrs("2001:db8::2", "fd00::1")},
		{addrs("::ffff:10.0.0.1", "10.0.0.1"), addrs("10.0.0.1")},
	} {
		if got := ofGuest(test.all); !slices.Equal(got, test.want) {
			t.Errorf("%v: got %v, want %v", test.all, got, test.want)
		}
	}
}

func TestParseMAC(t *testing.T) {
	for text, want := range map[string]string{
		"BC:24:11:2E:C5:9D": "bc:24:11:2e:c5:9d", "0:0:0:0:0:a": "00:00:00:00:00:0a", "bc-24-11-2e-c5-9d": "bc:24:11:2e:c5:9d",
		"": "", "dhcp": "", "1:2:3:4:5": "", "10.0.0.1": "", "bc:24:11:2e:c5:zz": "", "fe80::1:2:3:4:5": "",
	} {
		if got := parseMAC(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
