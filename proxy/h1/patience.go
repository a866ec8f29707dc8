package h1

import "time"

// patience is the request_body timeout beside the idle limit: bytes that do
// arrive have to come at 1 KiB/s on average, looked at over 30 s of waiting.
// Time in which nobody waits for the client does not count, and silence alone
// is the idle limit's business.
type patience struct {
	waited time.Duration
	got    int64
}

const (
	patienceSpan = 30 * time.Second
	patienceRate = 1 << 10 // bytes per second
)

// arrived accounts n bytes that were waited for and reports whether the client
// is fast enough.
func (p *patience) arrived(n int, waited time.Duration) bool {
	p.waited += waited
	p.got += int64(n)
	if p.waited < patienceSpan {
		return true
	}
	enough := float64(p.got) >= p.waited.Seconds()*patienceRate
	*p = patience{}
	return enough
}
