// Package server is the control plane: it builds a snapshot from a
// configuration, opens listeners, reloads, drains and answers the admin API.
// It owns the goroutines of the process.
package server
