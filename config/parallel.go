package config

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// inParallel calls do for every number below n, on all cores, each with
// something of its own, and returns when all is done.
func inParallel[T any](n int, own func() T, do func(own T, i int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		group.Go(func() {
			mine := own()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(mine, i)
			}
		})
	}
	group.Wait()
}
