package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// table reads the values of one TOML table and reports those of a wrong type.
// Every getter returns false for a key that is absent or wrong.
type table struct {
	report *report
	site   string   // whose fault a bad value is; empty: of the whole file
	dir    string   // that paths are relative to
	path   []string // of the table in its file
	label  string   // put before a key in messages
	values map[string]any
	bare   bool // a site whose name and first key may be an unquoted hostname
}

// has reports whether the key is there, whatever its value. A nil table has
// none.
func (t *table) has(key string) bool {
	if t == nil {
		return false
	}
	_, ok := t.values[key]
	return ok
}

func (t *table) at(key string) []string { return append(slices.Clip(t.path), key) }

// fault reports a bad value.
func (t *table) fault(key, format string, args ...any) {
	t.report.add(t.site, t.at(key), "%s%s: %s", t.label, key, fmt.Sprintf(format, args...))
}

// missing reports what a table must have.
func (t *table) missing(format string, args ...any) {
	t.report.add(t.site, t.path, "%s: %s", strings.TrimSuffix(t.label, "."), fmt.Sprintf(format, args...))
}

// get reads a value of one Go type.
func get[T any](t *table, key, want string) (T, bool) {
	v, there := t.values[key]
	value, ok := v.(T)
	if there && !ok {
		t.fault(key, "must be %s, not %s", want, kindOf(v))
	}
	return value, ok
}

// kindOf names the TOML type of a value.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date or time"
	case map[string]any:
		return "a table"
	}
	return "a list"
}

func (t *table) text(key string) (string, bool) {
	s, ok := get[string](t, key, "a string")
	return strings.Clone(s), ok // else it would keep the whole file in memory
}

// required reads a string that may not be empty.
func (t *table) required(key string) (string, bool) {
	s, ok := t.text(key)
	if ok && s == "" {
		t.fault(key, "is empty")
		return "", false
	}
	return s, ok
}

// flag reads a boolean into target.
func (t *table) flag(key string, target *bool) {
	if v, ok := get[bool](t, key, "true or false"); ok {
		*target = v
	}
}

// choice reads a string that must be one of a few.
func (t *table) choice(key string, choices ...string) (string, bool) {
	s, ok := t.text(key)
	if !ok || slices.Contains(choices, s) {
		return s, ok
	}
	t.fault(key, "%q is not %s%s", s, alternatives(choices), didYouMean(s, choices))
	return "", false
}

// alternatives is "a", "b" or "c".
func alternatives(choices []string) string {
	quoted := make([]string, len(choices))
	for i, c := range choices {
		quoted[i] = fmt.Sprintf("%q", c)
	}
	if last := len(quoted) - 1; last > 0 {
		return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
	}
	return quoted[0]
}

func (t *table) port(key string) (uint16, bool) {
	n, ok := get[int64](t, key, "a port number")
	if ok && (n < 1 || n > 65535) {
		t.fault(key, "%d is not a port between 1 and 65535", n)
		return 0, false
	}
	return uint16(n), ok
}

// integer reads a number from least to most into target.
func (t *table) integer(key string, target *int, least, most int) {
	n, ok := get[int64](t, key, "an integer")
	switch {
	case !ok:
	case n < int64(least) || n > int64(most):
		t.fault(key, "%d is not between %d and %d", n, least, most)
	default:
		*target = int(n)
	}
}

// between reads a duration that has bounds into target.
func (t *table) between(key string, target *time.Duration, least, most time.Duration) {
	var d time.Duration
	switch ok := t.duration(key, &d); {
	case !ok:
	case d < least || d > most:
		t.fault(key, "%q is not between %q and %q", t.values[key], brief(least), brief(most))
	default:
		*target = d
	}
}

// brief is a duration without the units that it has none of.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// duration reads a duration into target; "0s" means none.
func (t *table) duration(key string, target *time.Duration) bool {
	s, ok := get[string](t, key, `a duration with a unit such as "90s", "5m" or "1h30m"`)
	if !ok {
		return false
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		t.fault(key, `%q is not a duration such as "90s", "5m" or "1h30m"`, s)
	case d < 0:
		t.fault(key, `%q is negative; "0s" means none`, s)
	default:
		*target = d
		return true
	}
	return false
}

// list reads a list of anything; a lone string is a list of one.
func (t *table) list(key, want string) ([]any, bool) {
	switch v := t.values[key].(type) {
	case nil:
		return nil, false
	case []any:
		return v, true
	case string:
		return []any{v}, true
	case []map[string]any: // [[key]]
		tables := make([]any, len(v))
		for i := range v {
			tables[i] = v[i]
		}
		return tables, true
	default:
		t.fault(key, "must be %s, not %s", want, kindOf(v))
		return nil, false
	}
}

// texts reads a list of strings; want says of which.
func (t *table) texts(key, want string) ([]string, bool) {
	values, ok := t.list(key, want)
	texts := make([]string, 0, len(values))
	for _, v := range values {
		s, isText := v.(string)
		if !isText {
			t.fault(key, "must be %s, but holds %s", want, kindOf(v))
			return nil, false
		}
		texts = append(texts, s)
	}
	return texts, ok
}

// sub reads a table below this one; an absent one is empty.
func (t *table) sub(key string) (*table, bool) {
	values, ok := get[map[string]any](t, key, "a table")
	return &table{report: t.report, site: t.site, dir: t.dir, path: t.at(key), label: t.label + key + ".", values: values}, ok
}

// element is the i-th of a list of tables.
func (t *table) element(key string, i int, values map[string]any) *table {
	path := append(t.at(key), element(i))
	return &table{report: t.report, site: t.site, dir: t.dir, path: path, label: t.label + key + ".", values: values}
}

// file reads a path, relative to the file that names it.
func (t *table) file(key string) (string, bool) {
	s, ok := t.required(key)
	return resolve(t.dir, s), ok
}

func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
