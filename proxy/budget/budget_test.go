package budget

import (
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func TestResets(t *testing.T) {
	var b Budget
	for i := range 101 {
		b.Open(start)
		if ok := b.Reset(start); ok != (i < 100) {
			t.Fatalf("%d resets: %v", i+1, ok)
		}
	}
	if later := start.Add(resetSpan * time.Second); !b.Reset(later) {
		t.Error("what is old counts")
	}
	b = Budget{}
	for i := range 1000 {
		b.Open(start)
		if i%2 == 0 && !b.Reset(start.Add(time.Duration(i)*time.Millisecond)) {
			t.Fatal("half of the streams is not over half")
		}
		if i == 0 {
			b.Open(start)
		}
	}
}

func TestNoise(t *testing.T) {
	var b Budget
	if !b.Noisy(1000, start) || b.Noisy(1, start) {
		t.Error("the burst is 1,000")
	}
	if !b.Noisy(50, start.Add(time.Second)) {
		t.Error("100 a second are forgotten")
	}
	b.Explain(1 << 20)
	if !b.Noisy(1000+noiseGrace, start.Add(time.Second)) || b.Noisy(1, start.Add(time.Second)) {
		t.Error("traffic explains 4,096 in advance")
	}
}

func TestPatience(t *testing.T) {
	var p Patience
	if p.Over(start, start.Add(time.Hour), 0) || p.Over(time.Time{}, start, time.Minute) || p.Left(0) != 0 {
		t.Error("no limit")
	}
	if !p.Over(start, start.Add(time.Minute), time.Minute) || p.Left(10*time.Second) != 10*time.Second {
		t.Error("idle")
	}
	p.Arrived(100, 20*time.Second)
	if p.Left(time.Minute) != 10*time.Second || p.Over(start, start.Add(9*time.Second), time.Minute) || !p.Over(start, start.Add(10*time.Second), time.Minute) {
		t.Error("slower than 1 KiB a second over 30 s")
	}
	p = Patience{}
	p.Arrived(slowBytes, 25*time.Second)
	if p.Over(start, start.Add(10*time.Second), time.Minute) || p.Over(start, start.Add(39*time.Second), time.Minute) {
		t.Error("what was fast enough is forgotten, and judged anew")
	}
}
