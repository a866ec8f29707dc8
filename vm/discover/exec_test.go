package discover

import "testing"

func TestProgram(t *testing.T) {
	for _, test := range []struct{ name, script, want string }{
		{"one", `echo 10.0.0.5`, "10.0.0.5"},
		{"both families, loopback, sorted, once", `printf '2001:db8::1\n10.0.0.6 # second\n\n# none\n 127.0.0.9/8 \n10.0.0.6\n'`, "10.0.0.6 127.0.0.9 2001:db8::1"},
		{"no new line at the end", `printf 10.0.0.5`, "10.0.0.5"},
		{"the VM's name", `[ "$USHER_VM" = web1 ] && echo 10.0.0.1`, "10.0.0.1"},
		{"nothing", `:`, "sh: printed no address that can be used"},
		{"only comments", `echo "# nothing"`, "printed no address"},
		{"link-local", `echo fe80::1`, "printed no address"},
		{"no address", `echo 10.0.0.5; echo web1.example.com`, `sh: "web1.example.com" is no address`},
		{"failure", `echo 10.0.0.5; echo no such VM >&2; exit 2`, "sh: exit status 2: no such VM"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asks(t, source(t, Spec{Source: "exec", Name: "web1", Command: []string{"sh", "-c", test.script}}), test.want, false)
		})
	}
}

func FuzzParseLines(f *testing.F) {
	for _, seed := range []string{"10.0.0.1\n", "# c\n2001:db8::1 # x\n127.0.0.1/8", "fe80::1%eth0\n", "x", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseLines(text)
		if (err == nil) != (len(all) > 0) {
			t.Fatalf("%v, %v", all, err)
		}
		for _, a := range all {
			if !a.IsValid() || a.Zone() != "" || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
				t.Fatalf("%v is no backend", a)
			}
		}
	})
}
