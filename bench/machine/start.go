package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Starter starts processes from one thread that lives as long as the program:
// the kernel ends the children when the thread that made them is gone, even if
// the program was killed.
type Starter struct {
	jobs chan func()
	nice int
}

// NewStarter starts the thread. Its children run at a niceness, 0 being usual.
func NewStarter(nice int) (*Starter, error) {
	s := &Starter{make(chan func()), nice}
	go s.run()
	result := make(chan error)
	s.jobs <- func() { result <- syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice) } // of the thread
	if err := <-result; err != nil {
		return nil, fmt.Errorf("niceness %d: %w", nice, err)
	}
	return s, nil
}

func (s *Starter) run() {
	runtime.LockOSThread() // never unlocked
	for job := range s.jobs {
		job()
	}
}

// Command is a process to be.
type Command struct {
	Args   []string
	Env    []string // besides those of this process
	Dir    string
	Core   int
	Stdout *os.File // default: to Output
	Stdin  bool     // there will be Sends
}

// Process is a running command. Stop ends it.
type Process struct {
	Args []string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	output tail
	done   chan struct{}
	err    error // of Wait, after done
	once   sync.Once
}

// Start runs a command on its core.
func (s *Starter) Start(c Command) (*Process, error) {
	p := &Process{Args: c.Args, cmd: exec.Command(c.Args[0], c.Args[1:]...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	if c.Stdin {
		var err error
		if p.stdin, err = p.cmd.StdinPipe(); err != nil {
			return nil, err
		}
	}
	// A session of its own: ^C is for the bench, which ends the others in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	s.jobs <- func() {
		if err := pinThread(c.Core); err != nil {
			started <- fmt.Errorf("core %d: %w", c.Core, err)
			return
		}
		started <- p.cmd.Start()
	}
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	if s.nice != 0 {
		// Where the scheduler groups by session, niceness is the group's.
		group := fmt.Sprintf("/proc/%d/autogroup", p.PID())
		if _, err := os.Stat(group); err == nil {
			os.WriteFile(group, []byte(strconv.Itoa(s.nice)), 0)
		}
	}
	go p.wait()
	return p, nil
}

func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Family is the process and its children.
func (p *Process) Family() []int { return Family(p.PID()) }

// Exited is closed when the process is gone.
func (p *Process) Exited() <-chan struct{} { return p.done }

// Output is the last of what the process wrote.
func (p *Process) Output() string { return p.output.String() }

// Wait waits for the end of a process that ends by itself.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(p.Args, " "), p.err, p.Output())
	}
	return nil
}

// Send writes a line to the process's standard input.
func (p *Process) Send(line []byte) error {
	_, err := p.stdin.Write(append(line, '\n'))
	return err
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the process and all that it started, with s first, by force after
// 3 s, and waits for it.
func (p *Process) Stop(s os.Signal) {
	p.once.Do(func() {
		p.cmd.Process.Signal(s)
		select {
		case <-p.done:
		case <-time.After(3 * time.Second):
		}
		syscall.Kill(-p.PID(), syscall.SIGKILL)
		<-p.done
	})
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text = append(t.text, p...); len(t.text) > 128<<10 {
		t.text = append(t.text[:0], t.text[len(t.text)-64<<10:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// FreePorts finds n TCP and UDP ports that nobody listens on, at a loopback
// address that is most likely nobody else's, below the ports that the system
// gives to outgoing connections.
func FreePorts(n int) (ports []netip.AddrPort, err error) {
	host := netip.AddrFrom4([4]byte{127, byte(64 + rand.IntN(128)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
	seen := map[uint16]bool{}
	for tries := 0; len(ports) < n; tries++ {
		if tries > 10_000 {
			return nil, fmt.Errorf("no free ports at %s", host)
		}
		at := netip.AddrPortFrom(host, uint16(12_000+rand.IntN(18_000)))
		if seen[at.Port()] || !free(at.String()) {
			continue
		}
		seen[at.Port()] = true
		ports = append(ports, at)
	}
	return ports, nil
}

func free(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	u, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	u.Close()
	return true
}
