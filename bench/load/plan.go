// Package load has the benchmark's clients: floods, which keep every connection
// busy for as little of the load's core as possible, and paced clients, which
// send at a rate and take the time of each request.
package load

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"

	"usher/bench/share"
)

// Name is the site that every client asks for, and what the certificate says.
// wrk has no way to send another server name than the one it resolves.
const Name = "localhost"

// OnceName and AskName are the passthrough sites, named after the two kinds of
// far ends that the backend has.
const (
	OnceName = "once.test"
	AskName  = "ask.test"
)

// Endless is a number of bytes that no round lives to see.
const Endless = 1 << 50

// Plan is what one generator does.
type Plan struct {
	Kind      string
	Addr      netip.AddrPort
	Size      int64   // of the response, or of the request's body
	Conns     int     // connections, or tunnels at a time
	Streams   int     // on each connection, for HTTP/3; default 1
	Rate      float64 // units a second; 0: as many as possible
	Count     int     // stop after so many; 0: when killed
	Counters  string  // file of package share
	Latencies string  // file of the times, written at the end if Count is set
	Hello     string  // file of a ClientHello, for tunnels
	Idle      bool    // one request on each connection, which then stays
}

// Run carries out a plan.
func (p Plan) Run() error {
	debug.SetGCPercent(800)
	count, err := share.Open(p.Counters)
	if err != nil {
		return err
	}
	if p.Idle {
		return p.idle(count)
	}
	return p.pace(count)
}

// WriteLatencies writes times in nanoseconds.
func writeLatencies(path string, all []uint64) error {
	p := make([]byte, 0, 8*len(all))
	for _, v := range all {
		p = binary.LittleEndian.AppendUint64(p, v)
	}
	return os.WriteFile(path, p, 0o600)
}

// ReadLatencies reads a file that a plan wrote: microseconds, in no order.
func ReadLatencies(path string) ([]float64, error) {
	p, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []float64
	for v := range slices.Chunk(p, 8) {
		if len(v) < 8 {
			return nil, fmt.Errorf("%s ends in the middle", path)
		}
		all = append(all, math.Round(float64(binary.LittleEndian.Uint64(v))/10)/100)
	}
	return all, nil
}
