package budget

import "time"

const (
	maxResets  = 100 // within resetSpan, if they are over half of the streams
	resetSpan  = 10  // seconds
	noiseBurst = 1000
	noiseRate  = 100  // per second
	noiseGrace = 4096 // how much traffic can explain in advance
)

// Budget is how much trouble the peer of a connection may make. Its zero value
// is ready; it has no lock of its own.
type Budget struct {
	second  int64 // Unix time of the newest slot
	opened  [resetSpan]int32
	resets  [resetSpan]int32
	noise   int // frames that brought nothing, less those that are explained
	settled time.Time
}

// slot is the place in the arrays for now, after what is too old was cleared.
func (b *Budget) slot(now time.Time) int64 {
	s := now.Unix()
	if s-b.second >= resetSpan {
		clear(b.opened[:])
		clear(b.resets[:])
		b.second = s
	}
	for b.second < s {
		b.second++
		b.opened[b.second%resetSpan], b.resets[b.second%resetSpan] = 0, 0
	}
	return b.second % resetSpan
}

// Open counts a stream that the peer opened.
func (b *Budget) Open(now time.Time) { b.opened[b.slot(now)]++ }

// Reset counts a stream that was reset, by whomever, and reports false if that
// was one too many: over 100 within 10 s and over half of the streams.
func (b *Budget) Reset(now time.Time) bool {
	b.resets[b.slot(now)]++
	opened, resets := int32(0), int32(0)
	for i := range b.opened {
		opened += b.opened[i]
		resets += b.resets[i]
	}
	return resets <= maxResets || resets*2 <= opened
}

// Noisy counts n frames that brought nothing and reports false if that was too
// many: over a burst of 1,000 and 100 a second.
func (b *Budget) Noisy(n int, now time.Time) bool {
	if passed := now.Sub(b.settled); passed > time.Second/noiseRate {
		if b.noise > 0 {
			b.noise = max(0, b.noise-int(min(passed, time.Minute)*noiseRate/time.Second))
		}
		b.settled = now
	}
	b.noise += n
	return b.noise <= noiseBurst
}

// Explain allows n frames because of traffic that causes them.
func (b *Budget) Explain(n int) { b.noise = max(b.noise-n, -noiseGrace) }
