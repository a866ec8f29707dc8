package health

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const maxReason = 200 // bytes

// failure is a fault of the VM in words that need no more.
type failure string

func (f failure) Error() string { return string(f) }

// stage is what was being done when something failed.
type stage struct {
	name string
	err  error
}

func (s stage) Error() string { return s.name + ": " + s.err.Error() }
func (s stage) Unwrap() error { return s.err }

// reason says for people why a check failed, in a few words and without
// anything that a terminal or a log would take for its own.
func reason(err error, timeout time.Duration) string {
	before := ""
	if s, ok := errors.AsType[stage](err); ok {
		before = s.name + ": "
	}
	var f failure
	var call *os.SyscallError
	var errno syscall.Errno
	switch {
	case errors.As(err, &f):
		return clean(before + string(f))
	case isTimeout(err):
		return fmt.Sprintf("%sno answer within %v", before, timeout)
	case errors.As(err, &call): // "connect: connection refused"
		return strings.TrimPrefix(before, call.Syscall+": ") + call.Error()
	case errors.As(err, &errno):
		return before + errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return before + "closed without an answer"
	}
	return clean(strings.Replace(err.Error(), "TLS: tls: ", "TLS: ", 1))
}

// clean takes out what does not print and what is too long.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
