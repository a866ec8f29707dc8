// Package watch notices that configuration files changed: by notification
// where the system gives it, and always by polling too, because a bind mount of
// a single file, a network file system or a full notification queue tells
// nothing. What counts is the fingerprint of what a path leads to (symlinks
// followed), so it does not matter how a file was replaced. A change is told
// once it has been stable for a moment, since a half-written file parses
// surprisingly often.
package watch
