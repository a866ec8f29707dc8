package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is where the sockets begin (SD_LISTEN_FDS_START).
const firstFD = 3

// Socket is one socket that systemd opened.
type Socket struct {
	Name string // FileDescriptorName= of its unit, which several may share
	File *os.File
}

// Listeners takes over the sockets that systemd handed to this process, none
// without socket activation. The caller closes the files. The variables are
// unset, so that neither a second call nor a child takes them again.
func Listeners() ([]Socket, error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			os.Unsetenv(name)
		}
	}()
	value := os.Getenv("LISTEN_FDS")
	if value == "" || !ours("LISTEN_PID", false) {
		return nil, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > 4096 {
		return nil, fmt.Errorf("systemd: LISTEN_FDS %q is not a number of sockets", value)
	}
	var names []string
	if v := os.Getenv("LISTEN_FDNAMES"); v != "" {
		names = strings.Split(v, ":")
	}
	return take(n, names)
}

func take(n int, names []string) ([]Socket, error) {
	sockets := make([]Socket, 0, n)
	for i := range n {
		fd := firstFD + i
		if err := syscall.Fstat(fd, new(syscall.Stat_t)); err != nil {
			return nil, fmt.Errorf("systemd: LISTEN_FDS says %d sockets, but descriptor %d is not open", n, fd)
		}
		syscall.CloseOnExec(fd)
		name := "unknown" // what systemd calls those without a name
		if i < len(names) {
			name = names[i]
		}
		sockets = append(sockets, Socket{name, os.NewFile(uintptr(fd), name)})
	}
	return sockets, nil
}
