package telemetry

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Level is how much the program's log says; it may change while the log is in
// use. The zero value is "info".
type Level struct{ below atomic.Int32 } // relative to info

// Set changes the level by one of zerolog's names: "debug", "info", "warn", …
func (v *Level) Set(name string) error {
	l, err := zerolog.ParseLevel(name)
	if err != nil || l == zerolog.NoLevel {
		return fmt.Errorf("unknown log level %q", name)
	}
	v.below.Store(int32(l - zerolog.InfoLevel))
	return nil
}

// Run implements zerolog.Hook.
func (v *Level) Run(e *zerolog.Event, l zerolog.Level, _ string) {
	if l < zerolog.InfoLevel+zerolog.Level(v.below.Load()) {
		e.Discard()
		return
	}
	// Not zerolog's own timestamp, whose layout is a variable of the process.
	var b [len(timeLayout)]byte
	e.Bytes("time", time.Now().UTC().AppendFormat(b[:0], timeLayout))
}

// Logger is the program's own log: JSON lines with a level and a time. Lines
// are written at once and whole, w needs no lock of its own.
func Logger(w io.Writer, level *Level) zerolog.Logger {
	return zerolog.New(zerolog.SyncWriter(&escaper{w: w})).Hook(level)
}

// escaper writes C1 controls and Unicode's line separators, which zerolog
// passes on, as JSON escapes. In a line of JSON they can only stand within a
// string.
type escaper struct {
	w   io.Writer
	buf []byte
}

func (s *escaper) Write(p []byte) (int, error) {
	if _, err := s.w.Write(s.escape(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *escaper) escape(p []byte) []byte {
	ascii := true
	for _, b := range p {
		ascii = ascii && b < 0x80
	}
	if ascii {
		return p
	}
	s.buf = s.buf[:0]
	for _, r := range string(p) {
		if r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			s.buf = escapeRune(s.buf, r)
			continue
		}
		s.buf = append(s.buf, string(r)...)
	}
	return s.buf
}
