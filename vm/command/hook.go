package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// outputLimit is how much of a hook's output is kept: the end of it.
const outputLimit = 4 << 10

// Hook runs a program that does something, and returns when it has ended, with
// the last 4 KiB of what it printed. env is added to usher's environment. The
// error is an *exec.ExitError where the program said that it failed. When ctx
// ends the program is ended: asked first, killed 2 s later. What it started
// lives on in any case, is not waited for, and can go on printing without being
// killed for it; nobody reads it any more.
func Hook(ctx context.Context, argv, env []string) (output string, err error) {
	p, err := openPipe()
	if err != nil {
		return "", fmt.Errorf("a pipe for the output of %s: %w", argv[0], err)
	}
	defer p.close()
	cmd := command(ctx, argv, env)
	cmd.Stdout, cmd.Stderr = p.child, p.child
	if err := cmd.Start(); err != nil {
		return "", err
	}
	printed := &tail{limit: outputLimit}
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.read(printed)
	}()
	err = cmd.Wait()
	p.stop()
	<-read
	p.rest(printed)
	return printed.text(), explain(ctx, argv, err)
}

// pipe is a pipe of which the writer holds both ends. So a child that outlives
// its hook is not sent SIGPIPE when the reader goes; and since what it writes
// then fails once the pipe is full, it does not block for ever either.
type pipe struct {
	reader *os.File
	child  *os.File // standard output and error of the program; blocking
}

func openPipe() (*pipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	raw, err := w.SyscallConn()
	if err != nil {
		r.Close()
		return nil, err
	}
	p := &pipe{reader: r}
	var opened error
	err = raw.Control(func(fd uintptr) {
		var both int
		both, opened = syscall.Open("/proc/self/fd/"+strconv.Itoa(int(fd)), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if opened == nil {
			p.child = os.NewFile(uintptr(both), "output")
		}
	})
	if err = errors.Join(err, opened); err != nil {
		r.Close()
		return nil, err
	}
	return p, nil
}

// read copies until stop is called.
func (p *pipe) read(to *tail) {
	buffer := make([]byte, 8<<10)
	for {
		n, err := p.reader.Read(buffer)
		to.Write(buffer[:n])
		if err != nil {
			return
		}
	}
}

// stop ends read and leaves what is in the pipe to rest.
func (p *pipe) stop() { p.reader.SetReadDeadline(time.Unix(1, 0)) }

// rest copies what is in the pipe, within reason: a child may go on writing.
func (p *pipe) rest(to *tail) {
	p.reader.SetReadDeadline(time.Time{})
	raw, err := p.reader.SyscallConn()
	if err != nil {
		return
	}
	buffer := make([]byte, 8<<10)
	raw.Read(func(fd uintptr) bool {
		for range 16 {
			n, err := syscall.Read(int(fd), buffer)
			if n <= 0 || err != nil {
				break
			}
			to.Write(buffer[:n])
		}
		return true
	})
}

func (p *pipe) close() {
	syscall.SetNonblock(int(p.child.Fd()), true) // for the children, who share it
	p.child.Close()
	p.reader.Close()
}
