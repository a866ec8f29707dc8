// Package health asks VMs whether they work. A check that several sites want
// of the same address is made once.
package health
