package upstream

import (
	"testing"
	"time"
)

// TestAddedBackendStartsSlowly: one that a reload adds to a list has to rise,
// those that were there before have their full share.
func TestAddedBackendStartsSlowly(t *testing.T) {
	s := some(3)
	s.SlowStart = 10 * time.Second
	all := s.Addresses
	s.Addresses = all[:2]
	first := NewSet(Dialer{}).Plan()
	old, err := first.Pool(s)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := first.Done()
	s.Addresses = all
	second := set.Plan()
	p, err := second.Pool(s)
	if err != nil {
		t.Fatal(err)
	}
	_, dropped := second.Done()
	if len(dropped) != 1 || dropped[0] != old {
		t.Errorf("%d pools are dropped", len(dropped))
	}
	old.Retire()
	defer p.Retire()
	now := time.Now().UnixNano()
	for i, b := range p.Backends() {
		if share := b.share(now); (share == 1) != (i < 2) {
			t.Errorf("backend %d has a share of %v", i, share)
		}
	}
	for _, b := range old.Backends() {
		if share := b.share(now); share != 1 {
			t.Errorf("at the start of all: %v", share)
		}
	}
}
