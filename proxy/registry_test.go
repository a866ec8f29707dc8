package proxy

import (
	"math/rand/v2"
	"testing"
)

type listed struct {
	place[*listed]
	in   bool
	seen int
}

// TestRegistryAgainstModel adds and removes at random.
func TestRegistryAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	reg := newRegistry[*listed]()
	all := make([]listed, 100)
	for round := range 300 {
		for range 20 {
			v := &all[r.IntN(len(all))]
			if v.in = !v.in; v.in {
				reg.add(v)
			} else {
				reg.remove(v)
			}
		}
		reg.each(func(v *listed) { v.seen++ })
		for i := range all {
			v := &all[i]
			if v.in != (v.seen == 1) || !v.in && v.seen > 0 {
				t.Fatalf("round %d: in %v, seen %d times", round, v.in, v.seen)
			}
			v.seen = 0
		}
	}
	reg.each(reg.remove)
	reg.each(func(*listed) { t.Error("not empty") })
}
