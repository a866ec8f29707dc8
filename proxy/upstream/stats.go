package upstream

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// stats is what people want to know of a backend that was used.
type stats struct {
	exchanges, failures, ejections, retries atomic.Uint64

	window    atomic.Int64 // minute that is being counted
	latencies [2]latencies // of this and the minute before
}

// latencies counts durations in buckets of which four double the duration, so
// that a percentile is right within a fifth. It takes no lock.
type latencies [4 * octaves]atomic.Uint32

const (
	octaves     = 28 // up to 2^28 µs, four minutes
	statsWindow = time.Minute
)

// counted is the backend's stats, made when they are needed first: most
// backends of a large configuration are idle.
func (b *Backend) counted() *stats {
	if s := b.stats.Load(); s != nil {
		return s
	}
	b.stats.CompareAndSwap(nil, new(stats))
	return b.stats.Load()
}

// took counts an exchange whose head came after a time.
func (s *stats) took(now time.Time, d time.Duration) {
	s.exchanges.Add(1)
	w := now.UnixNano() / int64(statsWindow)
	if old := s.window.Load(); old != w && s.window.CompareAndSwap(old, w) {
		s.latencies[w&1].clear()
		if old != w-1 {
			s.latencies[w&1^1].clear()
		}
	}
	s.latencies[w&1][bucketOf(d)].Add(1)
}

func (l *latencies) clear() {
	for i := range l {
		l[i].Store(0)
	}
}

// bucketOf is the bucket of a duration: its octave and the two bits below.
func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < 4 {
		return int(us)
	}
	n := bits.Len64(us) // at least 3
	return min(4*(n-2)+int(us>>(n-3)&3), 4*octaves-1)
}

// upperOf is the longest duration of a bucket.
func upperOf(i int) time.Duration {
	if i < 4 {
		return time.Duration(i+1) * time.Microsecond
	}
	n := i/4 + 2
	return time.Duration((uint64(4+i%4)+1)<<(n-3)) * time.Microsecond
}

// Latency is how long a backend took to answer in the last one to two minutes,
// up to the response head.
type Latency struct{ P50, P90, P99 time.Duration }

func (s *stats) latency(now time.Time) Latency {
	w, last := now.UnixNano()/int64(statsWindow), s.window.Load()
	if last < w-1 {
		return Latency{}
	}
	var counts [4 * octaves]uint64
	var total uint64
	for _, h := range [...]*latencies{&s.latencies[0], &s.latencies[1]} {
		for i := range h {
			n := uint64(h[i].Load())
			counts[i] += n
			total += n
		}
	}
	return Latency{percentile(&counts, total/2), percentile(&counts, total*9/10), percentile(&counts, total*99/100)}
}

// percentile is the duration that so many do not exceed.
func percentile(counts *[4 * octaves]uint64, rank uint64) time.Duration {
	var n uint64
	for i, c := range counts {
		if n += c; n > rank {
			return upperOf(i)
		}
	}
	return 0
}
