// Package stats is the arithmetic of the benchmark: medians, percentiles and
// the bootstrap.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Median is the middle of the values, the mean of the two middle ones if their
// number is even, and NaN if there are none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// Percentile is the smallest value that at least p percent of the values do
// not exceed (nearest rank), and NaN if there are none.
func Percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}

// resamples is how often the bootstrap draws.
const resamples = 4000

// Ratio compares two series that were measured in the same rounds.
type Ratio struct {
	Value float64 // median of a / median of b
	Upper float64 // 90 % of the resampled ratios are at most this
}

// RatioOfMedians is the ratio of the medians of a and b with its upper 90 %
// bootstrap bound. The rounds are drawn as pairs, since what disturbs a machine
// disturbs both sides of a round. The draws are the same for the same input.
func RatioOfMedians(a, b []float64) Ratio {
	n := min(len(a), len(b))
	if n == 0 {
		return Ratio{math.NaN(), math.NaN()}
	}
	random := rand.New(rand.NewPCG(uint64(n), 90))
	ratios := make([]float64, resamples)
	x, y := make([]float64, n), make([]float64, n)
	for i := range ratios {
		for j := range n {
			k := random.IntN(n)
			x[j], y[j] = a[k], b[k]
		}
		ratios[i] = Median(x) / Median(y)
	}
	return Ratio{Median(a[:n]) / Median(b[:n]), Percentile(ratios, 90)}
}
