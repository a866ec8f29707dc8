package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"usher/bench/peer"
)

// options are the command line.
type options struct {
	rows, peers   string
	rounds        int
	time          time.Duration
	quick         bool
	json, chart   string
	usher, usher2 string
	nice          int
	cores         string
	list, verbose bool

	samples  int           // latencies of each proxy and row
	duration time.Duration // of a soak or of busy connections
}

// alone reads the flags of what is done with usher and no peer.
func alone(name string, duration time.Duration, args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	f.DurationVar(&o.duration, "for", duration, "how long")
	f.StringVar(&o.usher, "usher", "", "`path` of the binary; default: built from this checkout")
	f.IntVar(&o.nice, "nice", 0, "niceness of all processes")
	f.StringVar(&o.cores, "cores", "", "the `two cores`, A,B: of usher, and of load and backend")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, nil
}

func parse(args []string) (*options, error) {
	o := &options{samples: 10_000}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.rows, "rows", "", "comma-separated `IDs` or prefixes of rows; default: all, with -quick those of CPU time")
	f.StringVar(&o.peers, "peers", "nginx,HAProxy,Caddy,sniproxy", "the `names` of the peers to measure")
	f.IntVar(&o.rounds, "rounds", 0, "rounds for each proxy of a row; default 7, with -quick 5")
	f.DurationVar(&o.time, "time", 0, "length of a round; default 1s, with -quick 700ms")
	f.BoolVar(&o.quick, "quick", false, "a short run, for a look while developing")
	f.StringVar(&o.json, "json", "", "write the run to this `file`; default bench-TIME.json in the directory for temporary files")
	f.StringVar(&o.chart, "chart", "", "draw the run to this PNG `file`")
	f.StringVar(&o.usher, "usher", "", "`path` of the binary to measure; default: built from this checkout")
	f.StringVar(&o.usher2, "usher2", "", "`path` of a second usher, measured in the same rounds as one more column")
	f.StringVar(&o.cores, "cores", "", "the `two cores`, A,B: of the proxy, and of load and backend; default: the first two")
	f.IntVar(&o.nice, "nice", 0, "run everything at this niceness; -10, as root, helps where others use the machine too")
	f.BoolVar(&o.verbose, "v", false, "print every round")
	f.BoolVar(&o.list, "list", false, "print the IDs of the rows")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	rounds, length := 7, time.Second
	if o.quick {
		rounds, length, o.samples = 5, 700*time.Millisecond, 1_000
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.time == 0 {
		o.time = length
	}
	if o.rounds < 1 || o.time < 50*time.Millisecond {
		return nil, errors.New("a run needs a round, and a round 50ms")
	}
	for _, name := range split(o.peers) {
		if !slices.ContainsFunc(peers(), func(p *peer.Proxy) bool { return strings.EqualFold(p.Name, name) }) {
			return nil, fmt.Errorf("no peer is called %q", name)
		}
	}
	for _, prefix := range split(o.rows) {
		if !slices.ContainsFunc(entries(), func(e entry) bool { return strings.HasPrefix(e.id, prefix) }) {
			return nil, fmt.Errorf("no row is called %q; -list prints them", prefix)
		}
	}
	if o.json == "" {
		o.json = filepath.Join(os.TempDir(), "bench-"+time.Now().Format("20060102-150405")+".json")
	}
	return o, nil
}

// split takes a list apart.
func split(list string) (parts []string) {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// wants reports whether a row was asked for.
func (o *options) wants(id string, quick bool) bool {
	if o.rows == "" {
		return quick || !o.quick
	}
	return slices.ContainsFunc(split(o.rows), func(prefix string) bool { return strings.HasPrefix(id, prefix) })
}

// has reports whether a peer was asked for.
func (o *options) has(name string) bool {
	return slices.ContainsFunc(split(o.peers), func(p string) bool { return strings.EqualFold(p, name) })
}
