package config

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// entry is what a Loader keeps of one file.
type entry struct {
	file   string
	sum    [sha256.Size]byte
	data   []byte              // during a load only, if it did not have to be parsed
	source *source             // likewise, if it had to be
	fault  *Problem            // not readable, or a syntax error
	top    map[string]any      // everything but [sites]
	places map[string]Position // of everything but [sites]

	env      *environment // what the sites were built on
	extern   map[string]stamp
	sites    []*Site
	problems []Problem // of the sites
}

// openEntry reads a file; if its content is that of last, last is kept.
func openEntry(file string, last *entry) *entry {
	data, err := readFile(file)
	if err != nil {
		return &entry{file: file, fault: &Problem{Position: Position{file, 1, 1}, Message: err.Error()}}
	}
	sum := sha256.Sum256(data)
	if last != nil && last.sum == sum {
		last.data = data
		return last
	}
	e := &entry{file: file, sum: sum}
	if e.source, e.fault = parse(file, string(data)); e.fault != nil {
		return e
	}
	e.top = maps.Clone(e.source.tree)
	if _, ok := e.top["sites"].(map[string]any); ok {
		delete(e.top, "sites")
	}
	e.places = e.source.places()
	return e
}

// readFile reads a file, unless it has a size that no configuration has.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var data bytes.Buffer
	if info, err := f.Stat(); err == nil {
		data.Grow(int(min(info.Size(), maxFile)) + bytes.MinRead)
	}
	if _, err = data.ReadFrom(io.LimitReader(f, maxFile+1)); data.Len() > maxFile {
		err = fmt.Errorf("%s: larger than %d MiB", file, maxFile>>20)
	}
	return data.Bytes(), err
}

// places are the positions of all keys outside [sites], which are few.
func (s *source) places() map[string]Position {
	places := make(map[string]Position)
	inSites := func(key []string) bool { return key[0] == "sites" && len(key) > 1 }
	s.eachPart(inSites, func(path []string, p part) {
		if k := joined(path); places[k].Line == 0 {
			places[k] = s.at(p.offset)
		}
	})
	return places
}

// find is the position of a key outside [sites], or of the nearest one above it.
func (e *entry) find(path []string) Position {
	for n := len(path); n > 0; n-- {
		if p, ok := e.places[joined(path[:n])]; ok {
			return p
		}
	}
	return Position{e.file, 1, 1}
}

// build makes the sites, unless they can be kept, and lets the text go.
func (e *entry) build(env *environment, shared *shared) {
	if e.fault == nil && !e.current(env) {
		e.rebuild(env, shared)
	}
	e.data, e.source = nil, nil
}

// current reports whether what the sites depend on, the file aside, is as it
// was when they were built.
func (e *entry) current(env *environment) bool {
	if e.env != env {
		return false
	}
	for file, s := range e.extern {
		if stampOf(file) != s {
			return false
		}
	}
	return true
}

func (e *entry) rebuild(env *environment, shared *shared) {
	src := e.source
	if src == nil {
		src, _ = parse(e.file, string(e.data)) // it was good when it was seen first
	}
	b := &builder{
		env: env, shared: shared, report: &report{find: src.find},
		dir: filepath.Dir(e.file), extern: make(map[string]stamp),
	}
	e.env, e.sites = env, b.all(src)
	e.extern, e.problems = b.extern, b.report.problems
}

// all makes every site of a file, in document order.
func (b *builder) all(src *source) []*Site {
	values, _ := src.tree["sites"].(map[string]any)
	sites := make([]*Site, 0, len(values))
	add := func(name string, pos Position, bare bool) {
		if s := b.site(name, values[name], pos, bare); s != nil {
			sites = append(sites, s)
		}
		delete(values, name)
	}
	for i, key := range src.keys {
		if len(key) < 2 || key[0] != "sites" {
			continue
		}
		if _, ok := values[key[1]]; ok {
			add(key[1], src.at(src.offset(i, 1)), src.bare(i))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		// The library lists every key, so there should be none left; but a site
		// must not vanish in silence.
		add(name, src.find([]string{"sites", name}), false)
	}
	return sites
}

// bare reports whether the name of a site and a key below it were written as
// one dotted key without quotes.
func (s *source) bare(i int) bool {
	own := s.own(i)
	from := len(own) - (len(s.keys[i]) - 1) // of the name
	return from >= 0 && from+1 < len(own) && !own[from].quoted && !own[from+1].quoted
}
