// Package budget says how much trouble and how much patience a client costs:
// resets and frames that bring nothing, and bodies that trickle. It keeps
// numbers only; who acts on them holds the lock.
package budget
