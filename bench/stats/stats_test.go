package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1000}, 1},
	} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
	in := []float64{3, 1, 2}
	Median(in)
	if in[0] != 3 {
		t.Error("Median sorts its argument")
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for p, want := range map[float64]float64{0: 1, 50: 50, 99: 99, 99.5: 100, 100: 100} {
		if got := Percentile(hundred, p); got != want {
			t.Errorf("p%v of 1..100 = %v, want %v", p, got, want)
		}
	}
	if got := Percentile([]float64{7}, 99); got != 7 {
		t.Errorf("p99 of one value = %v", got)
	}
}

func TestRatioIsExactWithoutNoise(t *testing.T) {
	r := RatioOfMedians([]float64{8, 8, 8}, []float64{10, 10, 10})
	if r.Value != 0.8 || r.Upper != 0.8 {
		t.Errorf("%+v", r)
	}
}

func TestCommonNoiseCancels(t *testing.T) {
	var a, b []float64
	random := rand.New(rand.NewPCG(1, 2))
	for range 15 {
		slow := 1 + random.Float64() // the whole machine is slow in this round
		a, b = append(a, 9*slow), append(b, 10*slow)
	}
	if r := RatioOfMedians(a, b); math.Abs(r.Upper-0.9) > 1e-9 {
		t.Errorf("paired rounds leave a bound of %v", r.Upper)
	}
}

// TestBoundHolds: the bound covers the true ratio in about 90 % of the cases.
func TestBoundHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	held, trials := 0, 60
	for range trials {
		var a, b []float64
		for range 15 {
			a, b = append(a, 10+random.NormFloat64()), append(b, 10+random.NormFloat64())
		}
		if RatioOfMedians(a, b).Upper >= 1 {
			held++
		}
	}
	if share := float64(held) / float64(trials); share < 0.75 {
		t.Errorf("the 90 %% bound held in %.0f %% of the cases", 100*share)
	}
}

func TestNothingMeasured(t *testing.T) {
	if r := RatioOfMedians(nil, []float64{1}); !math.IsNaN(r.Value) || !math.IsNaN(r.Upper) {
		t.Errorf("%+v", r)
	}
}
