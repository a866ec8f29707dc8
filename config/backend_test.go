package config

import "testing"

// TestBackendString checks the spelling of each kind, with its port.
func TestBackendString(t *testing.T) {
	vms := map[string]VM{"web1": {Name: "web1", Address: "10.0.0.11"}, "six": {Name: "six", Address: "fd00::6"}}
	for text, want := range map[string]string{
		"10.0.0.1":                     "http://10.0.0.1:80",
		"https://[fd00:0::1]":          "https://[fd00::1]:443",
		"passthrough://six":            "passthrough://six:443",
		"web1:8080":                    "http://web1:8080",
		"Web1":                         "http://web1:80",
		"unix:/run/a.sock":             "unix:/run/a.sock",
		"redirect://Example.com:8443":  "redirect://Example.com:8443",
		"whoami://":                    "whoami://",
		"http://xn--bcher-kva.example": "http://xn--bcher-kva.example:80",
	} {
		b, err := parseBackend(text, vms)
		if err != nil || b.String() != want {
			t.Errorf("%q: %q %v", text, b, err)
		}
	}
	if b, _ := parseBackend("passthrough://six", vms); b.Host != "fd00::6" || b.VM != "six" || b.Port != 443 {
		t.Errorf("%+v", b)
	}
	for text, want := range map[string]Backend{
		"nap:8080":                     {Scheme: HTTP, VM: "nap", Host: "nap", Port: 8080, Weight: 1},
		"https://_web._tcp.Lan.":       {Scheme: HTTPS, Host: "_web._tcp.lan", SRV: true, Weight: 1},
		"http://_web.lan":              {Scheme: HTTP, Host: "_web.lan", Port: 80, Weight: 1},
		"http://_web._tcp":             {Scheme: HTTP, Host: "_web._tcp", Port: 80, Weight: 1},
		"passthrough://_a._b.c.d":      {Scheme: Passthrough, Host: "_a._b.c.d", SRV: true, Weight: 1},
		"h2c://_vm._x.lan:81":          {Scheme: H2C, VM: "_vm._x.lan", Host: "10.0.0.12", Port: 81, Weight: 1},
		"redirect://_a._b.example.com": {Scheme: Redirect, Host: "_a._b.example.com", Weight: 1},
	} {
		vms["nap"] = VM{Name: "nap", Discover: &Discover{}}
		vms["_vm._x.lan"] = VM{Name: "_vm._x.lan", Address: "10.0.0.12"}
		if b, err := parseBackend(text, vms); err != nil || b != want {
			t.Errorf("%q: %+v %v", text, b, err)
		}
	}
	if b, _ := parseBackend("Web1", vms); b.VM != "" || b.Host != "web1" {
		t.Errorf("%+v", b)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"to", "paths", "certificate", "http", "http_port", "eab_kid"}
	for word, want := range map[string]string{
		"tto": "to", "ot": "to", "HTTP": "http", "htpp": "http", "path": "paths", "certifcate": "certificate",
		"http-port": "http_port", "kid": "eab_kid", "": "", "x": "", "wombat": "", "com": "",
	} {
		if got, _ := nearest(word, names); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
