package telemetry

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// collector reads the counters when somebody scrapes, so that no series costs
// anything until then.
type collector struct {
	m *Metrics

	build, accepted, open, refused, tunnels, tunnelsOpen           *prometheus.Desc
	requests, durations, siteDurations, in, out, faults, retries   *prometheus.Desc
	siteTunnels, reloads, success, generation, problems, siteCount *prometheus.Desc
	quarantined, expiry, firstExpiry, dropped                      *prometheus.Desc
}

func newCollector(m *Metrics) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("usher_"+name, help, labels, nil)
	}
	return &collector{
		m:             m,
		build:         d("build_info", "The running version.", "version"),
		accepted:      d("connections_accepted_total", "Connections accepted, by kind of listener.", "listener"),
		open:          d("connections_open", "Connections open now, by kind of listener.", "listener"),
		refused:       d("connections_refused_total", "Connections refused and malformed requests, by reason.", "reason"),
		tunnels:       d("tunnels_total", "Tunnels opened, by what made them.", "mode"),
		tunnelsOpen:   d("tunnels_open", "Tunnels open now, by what made them.", "mode"),
		requests:      d("requests_total", "Requests by site and class of the status; none when the client was told nothing.", "site", "class"),
		durations:     d("request_duration_seconds", "Time from the first byte of a request to the end of its response."),
		siteDurations: d("site_request_duration_seconds", "The same by site, as sum and count.", "site"),
		in:            d("received_bytes_total", "Body and tunnel bytes from clients.", "site"),
		out:           d("sent_bytes_total", "Body and tunnel bytes to clients.", "site"),
		siteTunnels:   d("site_tunnels_total", "Tunnels ended, by site.", "site"),
		faults:        d("backend_errors_total", "Backends that failed, by site and kind.", "site", "kind"),
		retries:       d("backend_retries_total", "Requests tried again on the same or another backend.", "site"),
		reloads:       d("reloads_total", "Configurations read, by result.", "result"),
		success:       d("reload_last_success_timestamp_seconds", "When the running configuration went live."),
		generation:    d("generation", "Number of the running configuration."),
		problems:      d("config_problems", "Problems of the configuration that was read last."),
		siteCount:     d("sites", "Sites of the running configuration."),
		quarantined:   d("sites_quarantined", "Sites of the running configuration that are faulty."),
		expiry:        d("certificate_expiry_timestamp_seconds", "When the certificate of a site expires.", "site"),
		firstExpiry:   d("certificate_first_expiry_timestamp_seconds", "When the first of all certificates expires."),
		dropped:       d("log_lines_dropped_total", "Access-log lines lost because their destination was slow or failed."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.build, c.accepted, c.open, c.refused, c.tunnels, c.tunnelsOpen, c.requests, c.durations, c.siteDurations,
		c.in, c.out, c.siteTunnels, c.faults, c.retries, c.reloads, c.success, c.generation, c.problems, c.siteCount,
		c.quarantined, c.expiry, c.firstExpiry, c.dropped,
	} {
		out <- d
	}
}

// scrape is one reading.
type scrape chan<- prometheus.Metric

func (s scrape) counter(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

func (s scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := scrape(out)
	s.gauge(c.build, 1, c.m.version)
	c.connections(s)
	count, sum, upTo := c.m.durations.read()
	out <- prometheus.MustNewConstHistogram(c.durations, count, sum, upTo)
	for _, site := range c.m.labelled() {
		c.site(s, site)
	}
	c.reload(s)
	c.certificates(s)
	if c.m.log != nil {
		s.counter(c.dropped, float64(c.m.log.Dropped()))
	}
}

func (c *collector) connections(s scrape) {
	for k := range kinds {
		s.counter(c.accepted, float64(c.m.connections[k].begun.Load()), k.String())
		s.gauge(c.open, c.m.connections[k].open(), k.String())
	}
	for why := range causes {
		s.counter(c.refused, float64(c.m.refused[why].Load()), why.String())
	}
	for m := range modes {
		s.counter(c.tunnels, float64(c.m.tunnels[m].begun.Load()), m.String())
		s.gauge(c.tunnelsOpen, c.m.tunnels[m].open(), m.String())
	}
}

// site leaves out what never happened: with a thousand sites that is most of
// the page.
func (c *collector) site(s scrape, site *Site) {
	nonzero := func(d *prometheus.Desc, n uint64, labels ...string) {
		if n != 0 {
			s.counter(d, float64(n), labels...)
		}
	}
	for class := range site.classes {
		nonzero(c.requests, site.classes[class].Load(), site.label, className(class))
	}
	if n := site.Requests(); n != 0 {
		busy := time.Duration(site.busy.Load()).Seconds()
		s <- prometheus.MustNewConstSummary(c.siteDurations, n, busy, nil, site.label)
	}
	nonzero(c.in, site.in.Load(), site.label)
	nonzero(c.out, site.out.Load(), site.label)
	nonzero(c.siteTunnels, site.tunnels.Load(), site.label)
	nonzero(c.retries, site.retries.Load(), site.label)
	for f := range faults {
		nonzero(c.faults, site.failed[f].Load(), site.label, f.String())
	}
}

func className(class int) string {
	if class == 0 {
		return "none"
	}
	return strconv.Itoa(class) + "xx"
}

func (c *collector) reload(s scrape) {
	r := &c.m.reload
	s.counter(c.reloads, float64(r.done.Load()), "ok")
	s.counter(c.reloads, float64(r.refused.Load()), "refused")
	s.gauge(c.success, float64(r.success.Load())/1000)
	s.gauge(c.generation, float64(r.generation.Load()))
	s.gauge(c.problems, float64(r.problems.Load()))
	s.gauge(c.siteCount, float64(r.sites.Load()))
	s.gauge(c.quarantined, float64(r.quarantined.Load()))
}

// certificates gives each labelled site the expiry of its earliest
// certificate, and the earliest of all.
func (c *collector) certificates(s scrape) {
	if c.m.Certificates == nil {
		return
	}
	var first time.Time
	expiry := make(map[*Site]time.Time)
	c.m.Certificates(func(host string, notAfter time.Time) {
		if first.IsZero() || notAfter.Before(first) {
			first = notAfter
		}
		if site := c.m.find(host); site != nil {
			if old, ok := expiry[site]; !ok || notAfter.Before(old) {
				expiry[site] = notAfter
			}
		}
	})
	for site, notAfter := range expiry {
		s.gauge(c.expiry, float64(notAfter.Unix()), site.label)
	}
	if !first.IsZero() {
		s.gauge(c.firstExpiry, float64(first.Unix()))
	}
}

// find is the site that has a label of its own, or nil.
func (m *Metrics) find(host string) *Site {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sites[host]
}

// Handler answers GET /metrics in Prometheus' format and GET /healthz. Make
// one per process: it registers the collectors of the Go runtime and the
// process too.
func (m *Metrics) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(m), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{\"status\":\"ok\"}\n")
	})
	return mux
}
