package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/e2e/rig"
)

// TestBrowser: headless Chromium loads the whoami page over TLS, follows the
// redirect from plain HTTP, and trusts nothing but the site's own key.
func TestBrowser(t *testing.T) {
	t.Parallel()
	u := start(t, `[sites]
"test.localhost" = "whoami://"`)
	cert := u.TLS("test.localhost").Certificate()
	pin := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	picture := filepath.Join(t.TempDir(), "page.png")
	load := func(url string) string {
		t.Helper()
		out, err := rig.Tool(t, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
			"--host-resolver-rules=MAP test.localhost "+u.IP,
			"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(pin[:]),
			"--screenshot="+picture, "--dump-dom", url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
		}
		return out
	}
	for _, url := range []string{"https://test.localhost:" + port(u.HTTPS) + "/page?x=1", "http://test.localhost:" + port(u.HTTP) + "/page?x=1"} {
		if dom := load(url); !strings.Contains(dom, "/page?x=1") || !strings.Contains(dom, "HeadlessChrome") && !strings.Contains(dom, "Chrome/") {
			t.Errorf("%s shows %s", url, dom)
		}
		if info, err := os.Stat(picture); err != nil || info.Size() < 1000 {
			t.Errorf("%s: no picture of the page: %v, %v", url, info, err)
		}
		os.Remove(picture)
	}
}
