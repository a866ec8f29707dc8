package telemetry

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// sink is where lines go. It is owned by the goroutine of Log.Run.
type sink struct {
	name    string
	w       io.Writer
	closer  io.Closer // nil for what was not opened here
	torn    bool      // the last write ended within a line
	failing bool
}

// openSink opens a destination of the configuration.
func openSink(dest string, o *Options) (*sink, error) {
	switch dest {
	case "stdout":
		return &sink{name: dest, w: o.Stdout}, nil
	case "stderr":
		return &sink{name: dest, w: o.Stderr}, nil
	case "off":
		return &sink{name: dest, w: io.Discard}, nil
	case "":
		return nil, fmt.Errorf("access log: no destination")
	}
	// Non-blocking, because opening a named pipe that nobody reads would hang.
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE | syscall.O_NONBLOCK
	f, err := os.OpenFile(dest, flags, 0o640)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return &sink{name: dest, w: f, closer: f}, nil
}

// write writes whole lines. After a write that failed within a line, the next
// one begins with a newline, so that no two lines run into one.
func (s *sink) write(b []byte) error {
	if s.torn {
		if _, err := s.w.Write([]byte{'\n'}); err != nil {
			return err
		}
		s.torn = false
	}
	n, err := s.w.Write(b)
	if err != nil && n > 0 {
		s.torn = b[n-1] != '\n'
	}
	return err
}

func (s *sink) close() {
	if s.closer != nil {
		s.closer.Close()
	}
}
