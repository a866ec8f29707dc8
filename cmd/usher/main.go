// Command usher owns ports 80 and 443 of a machine and hands each connection to
// the VM that owns the site.
package main

import "os"

func main() {
	usher := newRoot()
	usher.SetArgs(os.Args[1:])
	os.Exit(report(os.Stderr, usher.Execute()))
}
