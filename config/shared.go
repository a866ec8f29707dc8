package config

import "fmt"

// shared holds what the sites of one load have in common, so that equal values
// are checked and kept once, or once for each core that builds sites. One
// goroutine uses it.
type shared struct {
	lists  map[string][]Backend
	faults map[string]error
	times  map[Timeouts]*Timeouts
	sticky map[Sticky]*Sticky
	health map[Health]*Health

	settings map[Settings]*Settings
	latest   *Settings // that were asked for
}

// maxShared bounds what is looked up: where more are different, sharing them
// saves little.
const maxShared = 4096

func newShared() *shared {
	return &shared{
		make(map[string][]Backend), make(map[string]error), make(map[Timeouts]*Timeouts),
		make(map[Sticky]*Sticky), make(map[Health]*Health),
		make(map[Settings]*Settings), new(Settings),
	}
}

// intern gives one pointer for equal values.
func intern[T comparable](known map[T]*T, value T) *T {
	one := known[value]
	if one == nil {
		one = new(value)
		if len(known) < maxShared {
			known[value] = one
		}
	}
	return one
}

// backends parses a single address into a list of one.
func (s *shared) backends(text string, vms map[string]VM) ([]Backend, error) {
	if list, ok := s.lists[text]; ok {
		return list, nil
	}
	b, err := parseBackend(text, vms)
	if err != nil {
		return nil, fmt.Errorf("backend %q: %w", text, err)
	}
	list := []Backend{b}
	if len(s.lists) < maxShared {
		s.lists[text] = list
	}
	return list, nil
}

// once gives the verdict on a file, found out at its first use.
func (s *shared) once(key string, verdict func() error) error {
	err, known := s.faults[key]
	if !known {
		err = verdict()
		s.faults[key] = err
	}
	return err
}

// settingsOf gives one pointer for equal values.
func (s *shared) settingsOf(values Settings) *Settings {
	if *s.latest != values {
		s.latest = intern(s.settings, values)
	}
	return s.latest
}

// timeouts gives one pointer for equal values, current if that has them.
func (s *shared) timeouts(current *Timeouts, values Timeouts) *Timeouts {
	if *current == values {
		return current
	}
	return intern(s.times, values)
}
