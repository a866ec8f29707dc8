// Package upstream keeps the pools: the backends of a site with their idle
// connections, and the rules by which a request is tried again. A Pool lives
// as long as some site of the published generation has an equal Spec.
package upstream
