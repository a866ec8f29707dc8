// Package machine reads what the kernel knows about processes and cores, and
// starts processes where they belong.
package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime is what a process has run for, by the scheduler's own accounting, in
// nanoseconds: all its threads, those that have ended included. It is the sum
// of /proc/PID/task/*/schedstat and of what ended threads leave behind, in one
// system call (CLOCK_PROCESS_CPUTIME_ID of another process).
func CPUTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Family is a process and everything below it, such as the workers of nginx.
func Family(pid int) []int {
	all := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		text, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, Family(child)...)
			}
		}
	}
	return all
}

// FamilyCPUTime is the CPUTime of several processes.
func FamilyCPUTime(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		t, err := CPUTime(pid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// Waited is how long the threads of some processes have been runnable without
// running, because others had the core.
func Waited(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, file := range files {
			text, _ := os.ReadFile(file)
			if fields := strings.Fields(string(text)); len(fields) > 1 {
				n, _ := strconv.ParseInt(fields[1], 10, 64)
				sum += time.Duration(n)
			}
		}
	}
	return sum
}

// Idle is how long a core has been idle since the machine started.
func Idle(core int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	name := fmt.Sprintf("cpu%d ", core)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			idle, _ := strconv.ParseInt(fields[3], 10, 64)
			wait, _ := strconv.ParseInt(fields[4], 10, 64)
			return time.Duration(idle+wait) * 10 * time.Millisecond, nil
		}
	}
	return 0, fmt.Errorf("/proc/stat has no core %d", core)
}

// Dropped is how many packets the loopback device has dropped since the machine
// started, because the queue of a core was full.
func Dropped() (sum int64) {
	text, _ := os.ReadFile("/proc/net/softnet_stat")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			n, _ := strconv.ParseInt(fields[1], 16, 64)
			sum += n
		}
	}
	return sum
}

// Memory is a field of /proc/PID/status such as VmRSS or VmHWM, in bytes,
// summed over several processes.
func Memory(pids []int, field string) (sum int64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, field+":"); ok {
				kilo, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				sum += kilo << 10
			}
		}
	}
	return sum, nil
}

// Cores are those that this process may run on.
func Cores() (cores []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for core := range 1024 {
		if set.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores, nil
}

// Pin moves every thread of this process to one core.
func Pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("sched_setaffinity: %w", err)
		}
	}
	return nil
}

// pinThread moves the calling thread alone; the caller has locked it.
func pinThread(core int) error {
	var set unix.CPUSet
	set.Set(core)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.SchedSetaffinity(0, &set)
}
