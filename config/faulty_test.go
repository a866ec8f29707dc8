package config

import "testing"

// TestFaultyCertificate: a site whose backend is no use has the certificate
// that it would have, so that a visitor is told in TLS as well. Where TLS may
// be the VM's affair nothing is ordered for it.
func TestFaultyCertificate(t *testing.T) {
	for text, want := range map[string]string{
		`[sites]` + "\n" + `"a.test" = "300.0.0.1"`:                                                  CertLocal,
		`[sites]` + "\n" + `"a.test" = "ftp://10.0.0.1"`:                                             CertLocal,
		`[sites]` + "\n" + `"a.test" = { to = [] }`:                                                  CertLocal,
		`[sites]` + "\n" + `"a.test" = { http = "forward" }`:                                         CertLocal,
		`[sites]` + "\n" + `"a.test" = 5`:                                                            CertLocal,
		`[sites]` + "\n" + `"a.example.com" = "https://300.0.0.1"`:                                   CertACME,
		`[sites]` + "\n" + `"a.example.com" = ["10.0.0.1:0", "10.0.0.1"]`:                            CertACME,
		`[sites]` + "\n" + `"a.example.com" = { to = "htp://10.0.0.1", certificate = "local" }`:      CertLocal,
		`[sites]` + "\n" + `"a.example.com" = "ftp://10.0.0.1"`:                                      "",
		`[sites]` + "\n" + `"a.example.com" = {}`:                                                    "",
		`[sites]` + "\n" + `"a.test" = "passthrough://300.0.0.1"`:                                    "",
		`[sites]` + "\n" + `"a.test" = "passthru://10.0.0.1"`:                                        "",
		`[sites]` + "\n" + `"*.example.com" = "300.0.0.1"`:                                           "",
		`defaults.certificate = "acme"` + "\n" + `sites."a.example.com" = "passthrough://300.0.0.1"`: "",
		`defaults.certificate = "acme"` + "\n" + `sites."a.example.com" = "ftp://10.0.0.1"`:          "",
		`defaults.certificate = "local"` + "\n" + `sites."a.example.com" = "300.0.0.1"`:              CertLocal,
	} {
		c, problems := loadText(t, text)
		if c == nil || c.Sites[0].Fault == nil {
			t.Errorf("%s: %v", text, problems)
		} else if got := c.Sites[0].Certificate; got != want {
			t.Errorf("%s: certificate %q, want %q", text, got, want)
		}
	}
}
