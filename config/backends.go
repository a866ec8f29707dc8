package config

import (
	"errors"
	"fmt"
)

// Bounds of what can be said of a backend.
const (
	maxWeight = 1000
	maxConns  = 1_000_000
)

// parser makes a backend of its address.
type parser func(text string) (Backend, error)

// list reads one backend or several, with check for what belongs together.
func (t *table) backends(key string, parse parser) ([]Backend, bool) {
	values, ok := t.entries(key)
	if !ok {
		return nil, false
	}
	before := len(t.report.problems)
	list := make([]Backend, 0, len(values))
	for i, v := range values {
		var one Backend
		switch v := v.(type) {
		case string:
			one = t.address(key, v, parse)
		case map[string]any:
			entry := t.element(key, i, v)
			if _, lone := t.values[key].(map[string]any); lone {
				entry, _ = t.sub(key)
			}
			one = entry.backend(parse)
		default:
			t.fault(key, "must be an address or a list of addresses, but holds %s", kindOf(v))
			return nil, false
		}
		list = append(list, one)
	}
	if len(t.report.problems) > before {
		return nil, false
	}
	if err := checkTogether(list); err != nil {
		t.fault(key, "%v", err)
		return nil, false
	}
	return list, true
}

// entries are the values of a list of backends; one may stand alone.
func (t *table) entries(key string) ([]any, bool) {
	if one, ok := t.values[key].(map[string]any); ok {
		return []any{one}, true
	}
	values, ok := t.list(key, "an address or a list of addresses")
	if ok && len(values) == 0 {
		t.fault(key, "is empty")
		return nil, false
	}
	return values, ok
}

func (t *table) address(key, text string, parse parser) Backend {
	b, err := parse(text)
	if err != nil {
		t.fault(key, "backend %q: %v", text, err)
	}
	return b
}

// backend reads { to = "ADDRESS", weight = 2, … }.
func (t *table) backend(parse parser) Backend {
	t.known(inBackend)
	text, ok := t.text("to")
	if !ok {
		if !t.has("to") {
			t.missing("to is missing: the address of the backend")
		}
		return Backend{}
	}
	b := t.address("to", text, parse)
	t.integer("weight", &b.Weight, 0, maxWeight)
	t.flag("backup", &b.Backup)
	t.integer("max_conns", &b.MaxConns, 0, maxConns)
	if b.Scheme == Redirect || b.Scheme == Whoami {
		for _, key := range []string{"weight", "backup", "max_conns"} {
			if t.has(key) {
				t.fault(key, "matters only towards a VM, and %s:// is none", b.Scheme)
			}
		}
	}
	return b
}

// checkTogether checks what may stand in one list.
func checkTogether(list []Backend) error {
	seen := make(map[Backend]bool, len(list))
	works := false
	for _, b := range list {
		bare := b
		bare.Weight, bare.Backup, bare.MaxConns = 0, false, 0
		works = works || !b.Backup && b.Weight > 0
		switch {
		case len(list) > 1 && (b.Scheme == Redirect || b.Scheme == Whoami):
			return fmt.Errorf("%s:// stands alone, not in a list with others", b.Scheme)
		case b.Scheme != list[0].Scheme && b.Scheme != Passthrough && list[0].Scheme != Passthrough:
			return fmt.Errorf("%q beside %q: the backends of one list speak the same", b, list[0])
		case seen[bare]:
			return fmt.Errorf("%q stands twice", b)
		}
		seen[bare] = true
	}
	if !works {
		return errors.New("needs a backend that is no backup and has a weight above 0")
	}
	return nil
}
