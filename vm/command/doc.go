// Package command runs other programs: without a shell, with usher's
// environment but for its line to systemd, in a process group of their own,
// under a time limit. What they start may outlive them.
package command
