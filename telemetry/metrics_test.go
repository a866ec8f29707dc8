package telemetry

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func scraped(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wantLines(t *testing.T, page string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains(page, "\n"+want+"\n") {
			t.Errorf("no line %q", want)
		}
	}
}

func TestScrape(t *testing.T) {
	log := open(t, "stdout", Options{})
	log.queue.close()
	m := NewMetrics("1.2.3", log)
	m.Certificates = func(yield func(string, time.Time)) {
		yield("a.example.com", time.Unix(5000, 0))
		yield("a.example.com", time.Unix(4000, 0))
		yield("unlabelled.example.com", time.Unix(3000, 0))
	}
	log.Exchange(sample1())
	m.Accepted(HTTPS)
	m.Accepted(HTTPS)
	m.Closed(HTTPS)
	m.Refused(UnknownName)
	m.TunnelOpened(Passthrough)
	a := m.SiteFor("a.example.com")
	a.Count(204, 3*time.Millisecond, 10, 20)
	a.Count(503, 2*time.Minute, 0, 0)
	a.Count(0, time.Second, 0, 0)
	a.Count(999, time.Second, -1, -1)
	a.Tunnel(100, 200)
	a.Failed(FaultTimeout)
	a.Retried()
	m.SiteFor("other").Count(200, 0, 0, 0)
	m.Reloaded(time.Unix(1000, 5e8), 7, 3, 1, 2)
	m.ReloadRefused(4)
	page := scraped(t, m)
	wantLines(t, page,
		`usher_build_info{version="1.2.3"} 1`,
		`usher_connections_accepted_total{listener="https"} 2`,
		`usher_connections_open{listener="https"} 1`,
		`usher_connections_refused_total{reason="unknown_name"} 1`,
		`usher_connections_refused_total{reason="limit"} 0`,
		`usher_tunnels_open{mode="passthrough"} 1`,
		`usher_requests_total{class="2xx",site="a.example.com"} 1`,
		`usher_requests_total{class="none",site="a.example.com"} 2`,
		`usher_requests_total{class="2xx",site="other"} 1`,
		`usher_request_duration_seconds_bucket{le="0.005"} 2`,
		`usher_request_duration_seconds_bucket{le="60"} 4`,
		`usher_request_duration_seconds_bucket{le="+Inf"} 5`,
		`usher_site_request_duration_seconds_count{site="a.example.com"} 4`,
		`usher_received_bytes_total{site="a.example.com"} 110`,
		`usher_sent_bytes_total{site="a.example.com"} 220`,
		`usher_backend_errors_total{kind="timeout",site="a.example.com"} 1`,
		`usher_backend_retries_total{site="a.example.com"} 1`,
		`usher_reloads_total{result="ok"} 1`,
		`usher_reloads_total{result="refused"} 1`,
		`usher_reload_last_success_timestamp_seconds 1000.5`,
		`usher_generation 7`,
		`usher_config_problems 4`,
		`usher_sites_quarantined 1`,
		`usher_certificate_expiry_timestamp_seconds{site="a.example.com"} 4000`,
		`usher_certificate_first_expiry_timestamp_seconds 3000`,
		`usher_log_lines_dropped_total 1`,
	)
	if !strings.Contains(page, "go_goroutines") || strings.Contains(page, "unlabelled") {
		t.Error("no runtime metrics, or a site without a label has a series")
	}
}

func TestHealthz(t *testing.T) {
	h := NewMetrics("", nil).Handler()
	for method, status := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/healthz", nil))
		if w.Code != status {
			t.Errorf("%s: %d, want %d", method, w.Code, status)
		}
	}
}

func TestSitesAreBoundedKeptAndFreed(t *testing.T) {
	m := NewMetrics("", nil)
	first := m.SiteFor("s0.example.com")
	for i := range 100_000 {
		m.SiteFor(fmt.Sprintf("s%d.example.com", i)).Count(200, 0, 0, 0)
	}
	if m.SiteFor("s0.example.com") != first || first.Shared() || !m.SiteFor("s99999.example.com").Shared() {
		t.Error("the first site lost its counters, or the last one has its own")
	}
	if n := strings.Count(scraped(t, m), "usher_requests_total{"); n != OwnLabel+1 {
		t.Errorf("%d series, want %d", n, OwnLabel+1)
	}
	if n := m.SiteFor("s5000.example.com").Requests(); n != 99_000 {
		t.Errorf("the shared counters saw %d requests", n)
	}
	m.KeepSites(func(host string) bool { return host == "s0.example.com" })
	if m.SiteFor("s0.example.com") != first {
		t.Error("a kept site lost its counters")
	}
	if s := m.SiteFor("s99999.example.com"); s.Shared() || s.Requests() != 0 {
		t.Error("a freed place was not given to another site")
	}
	m.SiteFor("bad\xffname").Count(200, 0, 0, 0)
	scraped(t, m)
}

func TestLayout(t *testing.T) {
	if n := unsafe.Sizeof(pair{}); n != 64 {
		t.Errorf("a pair is %d bytes", n)
	}
	if n := unsafe.Sizeof(Site{}); n%64 != 0 {
		t.Errorf("a site is %d bytes, not whole cache lines", n)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	m := NewMetrics("", nil)
	s := m.SiteFor("a.example.com")
	if n := testing.AllocsPerRun(1000, func() {
		m.Accepted(HTTP)
		s.Count(200, time.Millisecond, 1, 1)
		m.Closed(HTTP)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	runtime.KeepAlive(s)
}

func BenchmarkCount(b *testing.B) {
	s := NewMetrics("", nil).SiteFor("a.example.com")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Count(200, 3*time.Millisecond, 100, 1000)
		}
	})
}
