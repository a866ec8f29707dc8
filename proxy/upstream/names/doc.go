// Package names keeps the addresses of backends up to date: DNS names in the
// background, and whatever else can tell where a VM is through a Feed.
package names
