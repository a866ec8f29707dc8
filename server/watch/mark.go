package watch

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mark is what one path leads to at one moment, all symlinks followed. Two
// equal marks mean that nothing happened that stat can tell: a link that was
// swapped leads to another inode.
type mark struct {
	there  bool
	device uint64
	inode  uint64
	size   int64
	mtime  int64 // nanoseconds
	ctime  int64 // also changes where mtime was set back, and with the mode
}

// stat takes the mark of a path, the zero mark if it leads to nothing.
func stat(path string) mark {
	info, err := os.Stat(path)
	if err != nil {
		return mark{}
	}
	m := mark{there: true, size: info.Size(), mtime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		m.device, m.inode = sys.Dev, sys.Ino
		m.ctime = sys.Ctim.Nano()
	}
	return m
}

// maxLinks is where Linux gives up too.
const maxLinks = 40

// resolve follows the symlinks of a path, in every component, and returns where
// it ends and each link that was met. It goes as far as there are links, also
// when the end does not exist.
func resolve(path string) (final string, links []string) {
	todo := split(absolute(path))
	done := "/"
	for len(todo) > 0 {
		next := filepath.Join(done, todo[0])
		todo = todo[1:]
		target, err := os.Readlink(next)
		if err != nil || len(links) == maxLinks {
			done = next
			continue
		}
		links = append(links, next)
		if filepath.IsAbs(target) {
			done = "/"
		}
		todo = append(split(target), todo...)
	}
	return done, links
}

// split is the components of a path.
func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
