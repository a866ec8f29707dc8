// Package proxy is the data plane: a connection becomes exchanges or a tunnel,
// an exchange meets its route and a pool. Everything that depends on the
// configuration is in a Snapshot, which is loaded once for each connection
// decision and once for each exchange.
package proxy
