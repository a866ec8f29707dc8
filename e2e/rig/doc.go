// Package rig runs the real binary and the real peers around it: it builds
// usher, writes its configuration, starts and stops the process and asks it
// things on the command line. Every process gets a loopback address of its
// own, so that ports never clash.
package rig
