package load

import (
	"fmt"
	"sync"
	"time"

	"usher/bench/share"
)

// client is one connection, or one place for a new connection at a time.
type client interface {
	// Do carries out one unit and checks its answer.
	Do() error
}

// newClient makes the n-th client of a plan.
func (p Plan) newClient(n int, s *shared) (client, error) {
	switch p.Kind {
	case "h1", "post":
		return dialHTTP(p, nil)
	case "upload":
		return dialUpload(p, s)
	case "tls":
		return dialHTTP(p, s.tls)
	case "tls-bulk":
		return dialTLSBulk(p, s)
	case "tls-full", "tls-resumed":
		return &handshakes{plan: p, config: s.tls}, nil
	case "h2":
		return newStream(p, s, n, newHTTP2), nil
	case "h3":
		return newStream(p, s, n, newHTTP3), nil
	case "once":
		return &tunnels{plan: p, hello: s.hello}, nil
	case "ask":
		return dialAsk(p, s)
	}
	return nil, fmt.Errorf("no kind of load is called %q", p.Kind)
}

// pace runs the clients of a plan, all from the start, each on its own beat.
func (p Plan) pace(count *share.Counters) error {
	s, err := newShared(p, count)
	if err != nil {
		return err
	}
	workers := p.Conns * max(p.Streams, 1)
	clients := make([]client, workers)
	for i := range clients {
		if clients[i], err = p.newClient(i, s); err != nil {
			return err
		}
	}
	var beat time.Duration
	if p.Rate > 0 {
		beat = time.Duration(float64(workers) / p.Rate * float64(time.Second))
	}
	times := make([][]uint64, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range clients {
		n := p.Count / workers
		if i < p.Count%workers {
			n++
		}
		if p.Count > 0 && n == 0 {
			continue
		}
		wg.Go(func() { times[i] = worker(c, count, n, beat, start.Add(beat*time.Duration(i)/time.Duration(workers))) })
	}
	wg.Wait()
	var all []uint64
	for _, t := range times {
		all = append(all, t...)
	}
	return writeLatencies(p.Latencies, all)
}

// worker does n units (0: without end) and returns the time of each that
// succeeded. It is never early, and a late one does not wait for the next beat.
func worker(c client, count *share.Counters, n int, beat time.Duration, next time.Time) (times []uint64) {
	for i := 0; n == 0 || i < n; i++ {
		if beat > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(beat)
		}
		before := time.Now()
		if err := c.Do(); err != nil {
			if count.Failed.Add(1) == 1 {
				fmt.Println(err)
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		count.Done.Add(1)
		if n > 0 {
			times = append(times, uint64(time.Since(before)))
		}
	}
	return times
}

// Once makes a single request on a connection of its own.
func (p Plan) Once() error {
	c, err := dialHTTP(p, nil)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	return c.Do()
}
