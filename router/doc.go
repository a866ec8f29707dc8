// Package router finds the site of a hostname and the route of a path. It is
// pure: no HTTP, no TLS, no other package of ours.
//
// Every hostname, wherever it comes from, goes through Canonical (or Pattern,
// for the names that the configuration spells) and is compared as the bytes
// that come out. A Table maps those keys to sites; Paths maps the path of a
// request to one of a site's routes and refuses paths that a VM might read as
// another route.
package router
