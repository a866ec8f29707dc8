// Package report is what a run of the benchmark found, and how it is shown: the
// table, the JSON file and the chart.
package report

import (
	"encoding/json"
	"os"
	"time"

	"usher/bench/stats"
)

// Tolerance is how far above its goal the upper bound of a ratio may be.
const Tolerance = 0.03

// Run is one run of the benchmark.
type Run struct {
	Time     time.Time         `json:"time"`
	Machine  string            `json:"machine"`
	Kernel   string            `json:"kernel"`
	Cores    [2]int            `json:"cores"`  // of the proxy; of load and backend
	Others   float64           `json:"others"` // the machine's load average before the run
	TCP      string            `json:"tcp"`    // congestion control
	Versions map[string]string `json:"versions"`
	Quick    bool              `json:"quick"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds"` // of a round
	Proxies  []string          `json:"proxies"` // the columns
	Rows     []*Row            `json:"rows"`
}

// Row is one line of the table.
type Row struct {
	ID     string             `json:"id"`
	Name   string             `json:"name"`
	Unit   string             `json:"unit"`            // of Figures.Value
	Volume string             `json:"volume"`          // unit of Figures.Throughput
	Goal   float64            `json:"goal"`            // of the ratio, or of usher's own value if Own
	Own    bool               `json:"own,omitempty"`   // the goal is a value, not a ratio
	Rate   float64            `json:"rate,omitempty"`  // the fixed rate for all; 0: saturated
	Fault  string             `json:"fault,omitempty"` // why there is nothing to show
	Notes  []string           `json:"notes,omitempty"`
	By     map[string]*Figure `json:"figures"`

	Best  string  `json:"best,omitempty"`
	Ratio float64 `json:"ratio,omitempty"`
	Upper float64 `json:"upper,omitempty"`
	Met   bool    `json:"met"`
}

// Figure is what one proxy did in a row.
type Figure struct {
	Samples    []Sample `json:"samples"`
	Value      float64  `json:"value"` // the median
	Throughput float64  `json:"throughput,omitempty"`
	Busy       float64  `json:"busy,omitempty"` // the median of Sample.Busy
	P50        float64  `json:"p50_us,omitempty"`
	P99        float64  `json:"p99_us,omitempty"`
	Latencies  int      `json:"latency_samples,omitempty"`
	Peak       int64    `json:"peak_bytes,omitempty"`
}

// Sample is one round of one proxy.
type Sample struct {
	Value      float64 `json:"value"`
	Throughput float64 `json:"throughput,omitempty"` // units a second
	Busy       float64 `json:"busy,omitempty"`       // share of time in which the proxy ran or waited for its core
	Load       float64 `json:"load,omitempty"`       // the same of the other core
	Own        float64 `json:"own,omitempty"`        // share of time in which the proxy itself ran
	Cost       float64 `json:"cost,omitempty"`       // CPU time of load and backend for a unit, in µs
	Dropped    int64   `json:"dropped,omitempty"`    // packets that a full queue of the loopback device lost
}

// Usher is the column that goals are about, and Other the one of a second binary.
const (
	Usher = "usher"
	Other = "usher2"
)

// values are the rounds of a figure.
func (f *Figure) values() (v []float64) {
	for _, s := range f.Samples {
		v = append(v, s.Value)
	}
	return v
}

// Settle computes the medians, the ratio and whether the goal is met.
func (r *Row) Settle() {
	for name, f := range r.By {
		if len(f.Samples) == 0 {
			delete(r.By, name) // a fault came first
			continue
		}
		var throughput, busy []float64
		for _, s := range f.Samples {
			throughput, busy = append(throughput, s.Throughput), append(busy, s.Busy)
		}
		f.Value, f.Throughput, f.Busy = stats.Median(f.values()), stats.Median(throughput), stats.Median(busy)
		if name == Usher || name == Other {
			continue
		}
		if best := r.By[r.Best]; best == nil || f.Value < best.Value {
			r.Best = name
		}
	}
	us := r.By[Usher]
	switch {
	case us == nil:
	case r.Own:
		r.Met = us.Value <= r.Goal
	case r.Best != "":
		ratio := stats.RatioOfMedians(us.values(), r.By[r.Best].values())
		r.Ratio, r.Upper = ratio.Value, ratio.Upper
		r.Met = r.Upper <= r.Goal+Tolerance
	}
}

// Against is the ratio of the second binary to the first, if both were there.
func (r *Row) Against() (stats.Ratio, bool) {
	a, b := r.By[Usher], r.By[Other]
	if a == nil || b == nil {
		return stats.Ratio{}, false
	}
	return stats.RatioOfMedians(b.values(), a.values()), true
}

// Write writes the run as JSON.
func (r *Run) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Read reads what Write wrote.
func Read(path string) (*Run, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Run)
	return r, json.Unmarshal(text, r)
}
