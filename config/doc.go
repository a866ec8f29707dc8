// Package config turns TOML files into checked plain values. It collects every
// problem with file, line and column. Values never carry runtime state.
//
// A Loader reads the main file and those that it includes (load.go, entry.go).
// The library decodes each into nested maps (source.go), which have no
// positions; scan.go finds those of the keys, in the order in which the library
// lists them. A table (table.go) reads the values of one TOML table and reports
// what is of a wrong type or unknown; schema.go lists the keys. What stands
// outside of [sites] is read at every load (globals.go, listen.go, vms.go,
// forward.go, timeouts.go). element.go tells the tables of a list apart. Sites are built file by file on an environment of [defaults],
// [timeouts] and [vms] (site.go, pool.go, finish.go) and kept while file and
// environment stay the same.
package config
