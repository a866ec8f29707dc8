package telemetry

import (
	"sync/atomic"
	"time"
)

// bounds are the upper bounds of the duration buckets.
const buckets = 14

var bounds = [buckets]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second,
	2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Minute,
}

// histogram counts durations in fixed buckets.
type histogram struct {
	counts [buckets + 1]atomic.Uint64 // the last is for everything longer
	sum    atomic.Int64               // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < buckets && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// read is the histogram as Prometheus wants it: counts up to each bound, in
// seconds.
func (h *histogram) read() (count uint64, sum float64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, buckets)
	for i, bound := range bounds {
		count += h.counts[i].Load()
		upTo[bound.Seconds()] = count
	}
	return count + h.counts[buckets].Load(), time.Duration(h.sum.Load()).Seconds(), upTo
}
