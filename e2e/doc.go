// Package e2e drives the real binary from outside: its file, its command line
// and its sockets, with real peers and with scripted ones. It is a module of
// its own, so that what the peers need stays out of usher's.
package e2e
