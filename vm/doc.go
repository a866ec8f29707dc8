// Package vm is the life of the machines behind usher: drained or not, asleep,
// starting, idle, to be restarted; and where discovery says that they are.
package vm
