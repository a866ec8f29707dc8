package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// schedstat is the sum over the threads that live, in nanoseconds.
func schedstat(t *testing.T) (sum time.Duration) {
	t.Helper()
	files, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var ran int64
		fmt.Sscan(string(text), &ran)
		sum += time.Duration(ran)
	}
	return sum
}

func burn() {
	for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
	}
}

func TestCPUTimeIsThatOfTheScheduler(t *testing.T) {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(burn)
	}
	wg.Wait()
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	sum := schedstat(t)
	after, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Threads that have ended are in the clock alone; this process has none yet
	// or few, which have done nothing.
	if slack := 20 * time.Millisecond; sum < before-slack || sum > after+slack {
		t.Errorf("schedstat says %v, the clock %v to %v", sum, before, after)
	}
}

// running reports whether a process is there and has not ended.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

func TestStartAndStop(t *testing.T) {
	s, err := NewStarter(0)
	if err != nil {
		t.Fatal(err)
	}
	cores, err := Cores()
	if err != nil {
		t.Fatal(err)
	}
	core := cores[len(cores)-1]
	p, err := s.Start(Command{Args: []string{"/bin/sh", "-c", "trap 'kill $!' TERM; grep Cpus_allowed_list /proc/self/status; sleep 60 & wait"}, Core: core})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(p.Family()) < 2 || p.Output() == ""; {
		if time.Now().After(deadline) {
			t.Fatal("no child in 10 s")
		}
	}
	family := p.Family()
	if !strings.HasSuffix(p.Output(), fmt.Sprint("\t", core)) {
		t.Errorf("on core %d: %q", core, p.Output())
	}
	p.Stop(syscall.SIGTERM)
	for _, pid := range family {
		for deadline := time.Now().Add(5 * time.Second); running(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", pid)
			}
		}
	}
	if _, err := CPUTime(p.PID()); err == nil {
		t.Error("a process that has ended has a CPU time")
	}
}

func TestMemoryAndPorts(t *testing.T) {
	rss, err := Memory([]int{os.Getpid()}, "VmRSS")
	if err != nil || rss < 1<<20 || rss > 1<<30 {
		t.Errorf("RSS %d, %v", rss, err)
	}
	ports, err := FreePorts(5)
	if err != nil || len(ports) != 5 {
		t.Fatal(ports, err)
	}
}
