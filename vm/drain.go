package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// drainedFile is where the names of drained VMs are kept, in the state
// directory: a JSON array.
const drainedFile = "drained.json"

// Drain gives a VM no new work until Undrain, over reloads and restarts. It
// fails, and changes nothing, when there is no such VM or that cannot be kept.
func (f *Fleet) Drain(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.members[name]; b == nil || !b.configured {
		return f.unknown(name)
	}
	return f.setDrained(name, true)
}

// Undrain takes Drain back; also for a VM that was drained and is not
// configured any more.
func (f *Fleet) Undrain(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.members[name]; !f.drained[name] && (b == nil || !b.configured) {
		return f.unknown(name)
	}
	return f.setDrained(name, false)
}

// Drained is the names of the drained VMs, sorted; also of those that are not
// configured now.
func (f *Fleet) Drained() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.drained))
}

// setDrained keeps it first, then does it. mu is held.
func (f *Fleet) setDrained(name string, yes bool) error {
	if f.drained[name] == yes {
		return nil
	}
	next := maps.Clone(f.drained)
	if yes {
		next[name] = true
	} else {
		delete(next, name)
	}
	if err := f.writeDrained(next); err != nil {
		return fmt.Errorf("VM %q: %w", name, err)
	}
	f.drained = next
	if b := f.members[name]; b != nil {
		b.machine.setDrained(yes)
	}
	return nil
}

func (m *Machine) setDrained(yes bool) {
	m.mu.Lock()
	m.drained.Store(yes)
	m.life.idleFrom = time.Now()
	m.life.born = time.Now()
	m.nudge()
	m.mu.Unlock()
	text := "undrained"
	if yes {
		text = "drained"
	}
	m.tell(Event{Text: text})
}

func (f *Fleet) readDrained(path string) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var all []string
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		f.tell(Event{Text: "who is drained is not known any more", Err: fmt.Errorf("%s: %w", path, err)})
	}
	for _, name := range all {
		f.drained[name] = true
	}
}

// writeDrained replaces the file as a whole, and is done when it is on disk.
func (f *Fleet) writeDrained(all map[string]bool) error {
	if f.options.StateDir == "" {
		return nil
	}
	text, err := json.Marshal(slices.Sorted(maps.Keys(all)))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.options.StateDir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(f.options.StateDir, drainedFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(f.options.StateDir, drainedFile))
}

// unknown is the error for a name that no VM has. mu is held.
func (f *Fleet) unknown(name string) error {
	var near, all []string
	for _, known := range slices.Sorted(maps.Keys(f.members)) {
		if !f.members[known].configured {
			continue
		}
		all = append(all, known)
		if alike(name, known) {
			near = append(near, known)
		}
	}
	switch {
	case len(near) > 0:
		return fmt.Errorf("there is no VM %q (did you mean %s?)", name, quoted(near))
	case len(all) > 0:
		return fmt.Errorf("there is no VM %q; there are %s", name, quoted(all))
	}
	return fmt.Errorf("there is no VM %q: the configuration names none in [vms]", name)
}

// quoted lists at most ten names.
func quoted(all []string) string {
	shown := make([]string, 0, 10)
	for _, name := range all[:min(len(all), 10)] {
		shown = append(shown, fmt.Sprintf("%q", name))
	}
	if len(all) > 10 {
		return strings.Join(shown, ", ") + fmt.Sprintf(" and %d more", len(all)-10)
	}
	return strings.Join(shown, ", ")
}

// alike reports whether somebody who wrote one name may have meant the other:
// one holds the other, or two letters at most differ.
func alike(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	if a != "" && (strings.Contains(b, a) || strings.Contains(a, b)) {
		return true
	}
	return distance(a, b) <= min(2, max(len(a), len(b))/2)
}

// distance is how many insertions, deletions and replacements turn a into b.
func distance(a, b string) int {
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		diagonal := last[0]
		last[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = last[j+1]
			last[j+1] = min(replaced, last[j]+1, last[j+1]+1)
		}
	}
	return last[len(b)]
}
