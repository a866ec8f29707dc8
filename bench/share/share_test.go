package share

import (
	"path/filepath"
	"testing"
)

func TestTwoViewsOfOnePage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counters")
	a, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	a.Failed.Add(3)
	b.Failed.Add(4)
	if a.Failed.Load() != 7 || b.Failed.Load() != 7 || b.Requests.Load() != 0 {
		t.Errorf("failed %d and %d, requests %d", a.Failed.Load(), b.Failed.Load(), b.Requests.Load())
	}
}
