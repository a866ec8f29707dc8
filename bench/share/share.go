// Package share is a page of counters that the processes of the benchmark have
// in common, so that reading a count costs no system call and wakes nobody.
package share

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counters only grow. The backend counts Requests (or tunnels) that it has
// answered and the payload In and Out; a load generator counts what is Done
// and Failed. Commands are those that the backend has carried out.
type Counters struct {
	Requests, In, Out, Done, Failed, Commands atomic.Uint64
}

const size = 4096

// Create makes a file of counters, all zero, and maps it..
func Create(path string) (*Counters, error) {
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		return nil, err
	}
	return Open(path)
}

// Open maps a file that Create made.
func Open(path string) (*Counters, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	page, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return (*Counters)(unsafe.Pointer(&page[0])), nil
}
