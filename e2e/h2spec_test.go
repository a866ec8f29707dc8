package e2e

import (
	"encoding/xml"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"

	"usher/e2e/peer"
)

// h2specCases is how many cases the suite has, the strict ones included.
const h2specCases = 146

// TestH2spec: every case of the conformance suite for RFC 9113 and RFC 7541,
// strict, through TLS. It is not parallel, because its log is one for the
// process.
func TestH2spec(t *testing.T) {
	vm := peer.Listen(t, peer.Echo)
	u := start(t, `[sites."*"]
to = "http://%s"
certificate = "local"`, vm.Addr)
	u.TLS("ready.test").Close()
	report := filepath.Join(t.TempDir(), "report.xml")
	host, port, _ := net.SplitHostPort(u.HTTPS)
	number, _ := strconv.Atoi(port)
	_, err := h2spec.Run(&config.Config{Host: host, Port: number, Path: "/", Timeout: 5 * time.Second,
		MaxHeaderLen: 4000, JUnitReport: report, Strict: true, TLS: true, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	if passed := passedCases(t, report); passed != h2specCases {
		t.Errorf("%d of %d cases passed", passed, h2specCases)
	}
}

// passedCases reads the suite's report and says what failed.
func passedCases(t *testing.T, report string) (passed int) {
	t.Helper()
	var suites struct {
		Suites []struct {
			ID    string `xml:"id,attr"`
			Cases []struct {
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			if c.Failure == nil && c.Error == nil && c.Skipped == nil {
				passed++
				continue
			}
			t.Errorf("%s: %s", s.ID, c.Name)
		}
	}
	return passed
}
