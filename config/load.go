package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Loader loads a configuration again and again and parses only files whose
// content changed since the last time. Sites of files that did not change keep
// their *Site while [defaults], [timeouts], [vms] and the listeners are the
// same too, and the certificate and CA files that they name. The zero value is
// ready; one goroutine at a time may use it.
type Loader struct {
	entries map[string]*entry // by file
	env     *environment      // of the last load
	files   []string
	dirs    []string
}

// Load reads the file and what it includes. The Config is nil when the file as
// a whole is refused; problems are sorted by position and hold everything that
// could be found, those of single sites too.
func (l *Loader) Load(file string) (*Config, []Problem) {
	w := &load{
		loader: l, shared: newShared(), opened: make(map[string]*entry),
		config: &Config{File: file, VMs: make(map[string]VM)},
		taken:  make(taken), extern: make(map[string]stamp),
	}
	if w.main = w.open(file); w.main.fault != nil {
		l.files = append([]string{file}, slices.DeleteFunc(l.files, func(f string) bool { return f == file })...)
		return nil, []Problem{*w.main.fault}
	}
	w.globals()
	w.include()
	w.environment()
	w.forwards()
	w.sites()
	l.entries = w.opened
	return w.finish()
}

// Watched are the files and directories that the last Load looked at, also
// when it refused: a change in one of them may change its result. Files are
// the configuration's and those that it names, there or not.
func (l *Loader) Watched() (files, dirs []string) { return l.files, l.dirs }

// load is one run of Load.
type load struct {
	loader *Loader
	shared *shared
	opened map[string]*entry // by file
	order  []*entry          // the main file first
	main   *entry
	found  []*report // but for the sites of each file
	config *Config
	taken  taken
	extern map[string]stamp // files that [vms], [defaults] and [[forward]] name
}

// open reads a file, or takes what is known of it if it did not change.
func (w *load) open(file string) *entry {
	return w.take(openEntry(file, w.loader.entries[file]))
}

// take makes an entry part of the load.
func (w *load) take(e *entry) *entry {
	w.opened[e.file] = e
	w.order = append(w.order, e)
	w.config.Files = append(w.config.Files, e.file)
	if e.fault != nil {
		w.found = append(w.found, &report{problems: []Problem{*e.fault}})
	}
	return e
}

// top is the table of everything in a file.
func (w *load) top(e *entry) *table {
	r := &report{find: e.find}
	w.found = append(w.found, r)
	return &table{report: r, dir: filepath.Dir(e.file), values: e.top}
}

// builder reads what belongs to no site.
func (w *load) builder(top *table) *builder {
	return &builder{env: w.loader.env, shared: w.shared, report: top.report, dir: top.dir, extern: w.extern}
}

func (w *load) globals() {
	top := w.top(w.main)
	readGlobals(w.config, top, w.taken)
	w.builder(top).vms(top, w.config.VMs)
	checkTables(top)
}

// checkTables reports a [sites] that is no table; its content is read later.
func checkTables(top *table) {
	if top.has("sites") {
		top.fault("sites", "must be a table of hostnames, not %s", kindOf(top.values["sites"]))
	}
}

// include opens the files that the patterns match and reads their [vms].
func (w *load) include() {
	top := w.top(w.main)
	patterns, _ := top.texts("include", "a list of file patterns")
	var found []string
	seen := map[string]bool{w.main.file: true, filepath.Clean(w.main.file): true}
	for _, p := range patterns {
		files, err := matches(filepath.Dir(w.main.file), p)
		if err != nil {
			top.fault("include", "%v", err)
		}
		for _, file := range files {
			if !seen[file] {
				seen[file] = true
				found = append(found, file)
			}
		}
		w.config.Dirs = append(w.config.Dirs, directories(resolve(filepath.Dir(w.main.file), p))...)
	}
	slices.Sort(w.config.Dirs)
	w.config.Dirs = slices.Compact(w.config.Dirs)
	entries := make([]*entry, len(found))
	inParallel(len(found), func() any { return nil }, func(_ any, i int) {
		entries[i] = openEntry(found[i], w.loader.entries[found[i]])
	})
	for _, e := range entries {
		w.included(w.take(e))
	}
}

func (w *load) included(e *entry) {
	if e.fault != nil {
		return
	}
	top := w.top(e)
	for _, key := range slices.Sorted(maps.Keys(e.top)) {
		switch {
		case slices.Contains(keysOf(inIncluded), key):
		case slices.Contains(keysOf(inTop), key):
			top.report.add("", []string{key}, "%s may stand only in %s: an included file holds [sites], [vms] and [[forward]]", key, w.main.file)
		default:
			top.unknown(key, inIncluded)
		}
	}
	w.builder(top).vms(top, w.config.VMs)
	checkTables(top)
}

// environment reads [defaults] and finds out whether sites can be kept.
func (w *load) environment() {
	env := &environment{vms: w.config.VMs, listeners: listeners(w.config.Listen)}
	times := w.config.Timeouts
	env.base.Settings = &Settings{
		HTTP: "redirect", Timeouts: &times, Balance: Balance{Method: BalanceRandom2},
		Queue: defaultQueue, QueueTimeout: defaultQueueTimeout,
	}
	top := w.top(w.main)
	defaults, _ := top.sub("defaults")
	defaults.label = "defaults."
	b := &builder{env: env, shared: w.shared, report: top.report, dir: top.dir, extern: make(map[string]stamp)}
	b.apply(&env.base, defaults)
	maps.Copy(w.extern, b.extern)
	vms := make(map[string]string, len(env.vms))
	for name, vm := range env.vms { // what a site takes from them
		vms[name] = fmt.Sprint(vm.Address, " ", vm.Discover != nil, vm.MaxConns > 0)
	}
	env.print = fmt.Sprintf("%+v %q %v %v %v", times, defaults.values, vms, env.listeners, b.extern)
	if last := w.loader.env; last != nil && last.print == env.print {
		env = last
	}
	w.loader.env = env
}

// sites builds the sites of all files and reports hosts that stand twice.
func (w *load) sites() {
	inParallel(len(w.order), newShared, func(own *shared, i int) { w.order[i].build(w.loader.env, own) })
	n := 0
	for _, e := range w.order {
		n += len(e.sites)
	}
	first := make(map[string]*Site, n)
	w.config.Sites = make([]*Site, 0, n)
	twice := new(report)
	w.found = append(w.found, twice)
	for _, e := range w.order {
		for _, s := range e.sites {
			if same := first[s.Host]; same != nil {
				twice.problems = append(twice.problems, Problem{s.Pos, "", fmt.Sprintf("host %q stands at %s already", s.Host, same.Pos)})
				continue
			}
			first[s.Host] = s
			w.config.Sites = append(w.config.Sites, s)
		}
	}
}

// finish sorts what was found and gives the Config unless it is refused.
func (w *load) finish() (*Config, []Problem) {
	extern := maps.Clone(w.extern)
	var problems []Problem
	for _, r := range w.found {
		problems = append(problems, r.problems...)
	}
	for _, e := range w.order {
		problems = append(problems, e.problems...)
		maps.Copy(extern, e.extern)
	}
	sortProblems(problems, w.config.Files)
	for _, issuer := range w.config.ACME.Issuers {
		if issuer.CAFile != "" {
			extern[issuer.CAFile] = stamp{}
		}
	}
	w.config.Files = append(w.config.Files, slices.Sorted(maps.Keys(extern))...)
	w.loader.files, w.loader.dirs = w.config.Files, w.config.Dirs
	if refuses(problems) {
		return nil, problems
	}
	return w.config, problems
}
