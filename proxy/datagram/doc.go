// Package datagram relays UDP between clients and VMs.
//
// UDP knows no connections, so the relay makes sessions: all datagrams from one
// client address and port to one address of ours. A session has a socket of
// its own that is connected to its VM, which tells the answers of sessions
// apart and reports that a VM's port is closed.
//
// One event loop serves all listeners and sessions, in batches of one system
// call, so a session costs a descriptor and under a KiB but no goroutine and
// no buffer. Only while its VM is being chosen, which may wait for a name or
// for a machine that starts, does a session have a goroutine; what the client
// sends meanwhile is held, within bounds.
//
// A session ends when nothing has come either way for its idle time, when its
// VM's port turns out to be closed, when it is aborted, or when it has to make
// room for another one. What cannot be delivered at once is dropped, as any
// router would do.
package datagram
