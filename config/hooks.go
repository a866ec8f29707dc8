package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hooks reads the commands of a VM with their times.
func (v *VM) hooks(t *table) {
	v.Start = v.command(t, "start")
	v.Stop = v.command(t, "stop")
	v.Restart = v.command(t, "restart")
	for _, need := range [][2]string{
		{"stop", "start"}, {"start_timeout", "start"}, {"idle_stop", "stop"}, {"restart_after", "restart"}, {"restart_every", "restart"},
	} {
		if t.has(need[0]) && !t.has(need[1]) {
			t.fault(need[0], "needs %s as well", need[1])
		}
	}
	if v.Start != nil {
		v.StartTimeout = time.Minute
	}
	if v.Restart != nil {
		v.RestartAfter, v.RestartEvery = time.Minute, 10*time.Minute
	}
	t.between("start_timeout", &v.StartTimeout, time.Second, time.Hour)
	if text, _ := t.values["idle_stop"].(string); text != "0s" {
		t.between("idle_stop", &v.IdleStop, time.Second, mostWait)
	}
	t.between("restart_after", &v.RestartAfter, time.Second, mostWait)
	t.between("restart_every", &v.RestartEvery, time.Second, mostWait)
}

// mostWait bounds the times of hooks; a year is never.
const mostWait = 365 * 24 * time.Hour

// command reads a hook.
func (v *VM) command(t *table, key string) []string {
	words := t.command(key)
	faulty := v.Discover == nil && t.has("discover") // that was reported
	if slices.Equal(words, []string{Builtin}) && !faulty && !v.Discover.controls() {
		t.fault(key, "%q needs discover by %q or %q", Builtin, SourceLibvirt, SourceProxmox)
	}
	return words
}

// command reads a command: a string that is split, or a list of words. A
// program with a slash is relative to the file.
func (t *table) command(key string) []string {
	var words []string
	var err error
	switch v := t.values[key].(type) {
	case nil:
		return nil
	case string:
		words, err = splitCommand(v)
	case []any:
		if words, _ = t.texts(key, "a command"); words == nil {
			return nil
		}
		err = checkWords(words)
	default:
		t.fault(key, "must be a command, not %s", kindOf(v))
		return nil
	}
	if err != nil {
		t.fault(key, "%v", err)
		return nil
	}
	for i := range words {
		words[i] = strings.Clone(words[i])
	}
	if strings.Contains(words[0], "/") && !filepath.IsAbs(words[0]) {
		words[0] = program(t.dir, words[0])
	}
	return words
}

// program is a path that is never looked up as a name.
func program(dir, path string) string {
	full := resolve(dir, path)
	if strings.Contains(full, "/") {
		return full
	}
	return "./" + full
}
