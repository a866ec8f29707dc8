package watch

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// notices is the notification half; without a watcher it says nothing.
type notices struct {
	watcher *fsnotify.Watcher
	fault   func(error)
	paths   map[string]bool // files, links on the way to them, and their ends
	dirs    map[string]bool // whose every entry counts
}

func (n *notices) open(o Options) {
	n.fault = o.Fault
	if o.PollOnly {
		return
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		n.failed(err)
		return
	}
	n.watcher = watcher
}

func (n *notices) failed(err error) {
	n.fault(err)
	n.fault = func(error) {}
}

func (n *notices) close() {
	if n.watcher != nil {
		n.watcher.Close()
	}
}

// burst is how long notices are collected before anybody looks.
const burst = 20 * time.Millisecond

// wait returns after a notice that concerns us or the poll time, and false when
// ctx ended.
func (n *notices) wait(ctx context.Context, poll time.Duration) bool {
	events, errors := n.channels()
	timer := time.NewTimer(poll)
	defer timer.Stop()
	hurried := false
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case e := <-events:
			if !hurried && n.concerns(e) {
				hurried = true
				timer.Reset(burst)
			}
		case <-errors: // events were lost
			return true
		}
	}
}

func (n *notices) channels() (chan fsnotify.Event, chan error) {
	if n.watcher == nil {
		return nil, nil
	}
	return n.watcher.Events, n.watcher.Errors
}

// watch listens to the directories of all files and of the links on the way:
// a watch on a file itself would follow it when it is renamed away.
func (n *notices) watch(files, dirs []string) {
	if n.watcher == nil {
		return
	}
	n.paths, n.dirs = make(map[string]bool), make(map[string]bool)
	listen := make(map[string]bool)
	for _, path := range files {
		n.path(path, listen)
	}
	for _, path := range dirs {
		final := n.path(path, listen)
		n.dirs[final] = true
		listen[final] = true
	}
	n.listen(listen)
}

func (n *notices) path(path string, listen map[string]bool) (final string) {
	final, links := resolve(path)
	for _, p := range append(links, final) {
		n.paths[p] = true
		listen[filepath.Dir(p)] = true
	}
	return final
}

// listen changes which directories are listened to. Those that are there
// already are added again, since another directory may have taken the name.
func (n *notices) listen(dirs map[string]bool) {
	for _, old := range n.watcher.WatchList() {
		if !dirs[old] {
			n.watcher.Remove(old) // gone already is fine
		}
	}
	for dir := range dirs {
		if err := n.watcher.Add(dir); err != nil && stat(dir).there {
			n.failed(err)
		}
	}
}

// concerns leaves out other files beside ours, such as a log that is written
// all the time.
func (n *notices) concerns(e fsnotify.Event) bool {
	if n.paths[e.Name] || n.dirs[e.Name] {
		return true
	}
	entries := fsnotify.Create | fsnotify.Remove | fsnotify.Rename
	return e.Op&entries != 0 && n.dirs[filepath.Dir(e.Name)]
}
