package report

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// figure is rounds of values.
func figure(values ...float64) *Figure {
	f := &Figure{}
	for _, v := range values {
		f.Samples = append(f.Samples, Sample{Value: v, Throughput: 1e6 / v, Busy: 0.99})
	}
	return f
}

func sample() *Run {
	good := &Row{ID: "a", Name: "good row", Unit: "µs CPU", Volume: "per s", Goal: 0.85, By: map[string]*Figure{Usher: figure(8, 8, 8), "nginx": figure(10, 10, 10), "HAProxy": figure(20, 20, 20)}}
	near := &Row{ID: "b", Name: "near row", Unit: "µs CPU", Goal: 0.85, By: map[string]*Figure{Usher: figure(8.7), "nginx": figure(10)}}
	bad := &Row{ID: "c", Name: "bad row", Unit: "µs CPU", Goal: 0.85, Rate: 1000, By: map[string]*Figure{Usher: figure(9, 9), "nginx": figure(10, 10)}}
	own := &Row{ID: "d", Name: "own row", Unit: "ms", Goal: 100, Own: true, By: map[string]*Figure{Usher: figure(120), "nginx": figure(10)}}
	fault := &Row{ID: "e", Name: "broken row", Goal: 1, Fault: "nginx ended", By: map[string]*Figure{Usher: {}, "nginx": {}}}
	r := &Run{Time: time.Unix(0, 0), Machine: "a machine", Kernel: "6.18", Versions: map[string]string{}, Rounds: 3, Seconds: 1, Proxies: []string{Usher, "nginx", "HAProxy"}, Rows: []*Row{good, near, bad, own, fault}}
	for _, row := range r.Rows {
		row.Settle()
	}
	return r
}

func TestVerdicts(t *testing.T) {
	r := sample()
	for i, want := range []bool{true, true, false, false, false} {
		if r.Rows[i].Met != want {
			t.Errorf("%s: met %v, ratio %v (%v)", r.Rows[i].Name, !want, r.Rows[i].Ratio, r.Rows[i].Upper)
		}
	}
	if r.Rows[0].Best != "nginx" || r.Rows[0].Ratio != 0.8 {
		t.Errorf("best %s, ratio %v", r.Rows[0].Best, r.Rows[0].Ratio)
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	sample().Table(&b)
	text := b.String()
	fault, missed, row := strings.Index(text, "FAULT   broken row: nginx ended"), strings.Index(text, "MISSED  bad row: 0.90 of nginx"), strings.Index(text, "good row ")
	if fault < 0 || missed < fault || row < missed {
		t.Errorf("faults come first, then goals that are missed, then the table:\n%s", text)
	}
	for _, want := range []string{"2 of 4 goals missed", "0.80 (≤ 0.80) nginx", "fixed rate", "MISSED  own row: 120 ms, goal 100"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "NaN") {
		t.Errorf("NaN in\n%s", text)
	}
}

func TestSecondBinary(t *testing.T) {
	r := sample()
	r.Proxies = []string{Usher, Other, "nginx"}
	r.Rows[0].By[Other] = figure(4, 4, 4)
	r.Rows[0].Settle()
	if r.Rows[0].Best != "nginx" {
		t.Errorf("the best peer is %s", r.Rows[0].Best)
	}
	var b bytes.Buffer
	r.Table(&b)
	if !strings.Contains(b.String(), "0.500 (≤ 0.500)") {
		t.Errorf("no comparison of the two in\n%s", b.String())
	}
}

func TestJSONAndChart(t *testing.T) {
	file, chart := filepath.Join(t.TempDir(), "run.json"), filepath.Join(t.TempDir(), "run.png")
	if err := sample().Write(file); err != nil {
		t.Fatal(err)
	}
	r, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) != 5 || r.Rows[0].By[Usher].Value != 8 {
		t.Errorf("%+v", r.Rows[0])
	}
	if err := r.Chart(chart); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(chart)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	colored := false
	for x := range picture.Bounds().Dx() {
		for y := headHeight; y < picture.Bounds().Dy(); y++ {
			colored = colored || picture.At(x, y) == colors[Usher]
		}
	}
	if !colored {
		t.Error("the chart has no bar of usher")
	}
	r.Rows = nil
	if r.Chart(chart) == nil {
		t.Error("a chart of nothing")
	}
}
