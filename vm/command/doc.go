// Package command runs other programs: without a shell, with usher's
// environment, in a process group of their own, under a time limit. What they
// start may outlive them.
package command
