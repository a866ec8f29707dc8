package load

import (
	"errors"
	"sync"
	"time"

	"usher/bench/share"
)

const (
	// opening is how many connections of an idle plan are opened at a time.
	opening = 32
	// openingRate is in connections a second. It spreads the keep-alive probes
	// of a proxy, which would all be sent at once 15 s later and overflow the
	// queue of the loopback device: 1,000 packets.
	openingRate = 1000
)

// idle opens the connections of a plan, makes one request on each and keeps
// them. Done counts those that are open, Failed those that were not opened or
// that the proxy has closed since. It returns when none is left.
func (p Plan) idle(count *share.Counters) error {
	s, err := newShared(p, count)
	if err != nil {
		return err
	}
	var open, kept sync.WaitGroup
	next := make(chan int)
	for range opening {
		open.Go(func() {
			for n := range next {
				c, err := p.newClient(n, s)
				if err == nil {
					err = c.Do()
				}
				if err != nil {
					count.Failed.Add(1)
					continue
				}
				count.Done.Add(1)
				kept.Go(func() {
					c.(interface{ wait() }).wait()
					count.Failed.Add(1)
				})
			}
		})
	}
	begin := time.Now()
	for n := range p.Conns {
		time.Sleep(time.Until(begin.Add(time.Duration(n) * time.Second / openingRate)))
		next <- n
	}
	close(next)
	open.Wait()
	kept.Wait()
	return errors.New("every connection is gone")
}

// wait returns when the proxy has closed the connection.
func (c *httpClient) wait() {
	c.conn.SetDeadline(time.Time{})
	for err := error(nil); err == nil; {
		_, err = c.conn.Read(c.buffer[:1])
	}
}

func (a *ask) wait() {
	for err := error(nil); err == nil; {
		_, err = a.conn.Read(make([]byte, 1))
	}
}
