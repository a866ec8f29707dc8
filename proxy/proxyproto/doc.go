// Package proxyproto reads and writes the PROXY protocol, versions 1 and 2, as
// HAProxy's proxy-protocol.txt defines it ("the specification" below).
//
// A header says who the client of a connection is. It is believed, and then
// required, only from peers that the configuration lists: that is the caller's
// business.
package proxyproto
