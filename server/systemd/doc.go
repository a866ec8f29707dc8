// Package systemd speaks the two protocols that a service needs to be a good
// citizen under systemd: telling its state (sd_notify) and taking over sockets
// (sd_listen_fds). Outside systemd all of it does nothing.
package systemd
