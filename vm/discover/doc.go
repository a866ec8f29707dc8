// Package discover finds out where a VM is: it asks libvirt, Proxmox, Docker or
// a program of the user's, and keeps a names.Feed up to date with the answer.
// What can say where a VM is can often start and stop it as well (Power).
//
// An answer holds the addresses of one VM, or of several containers under one
// label. Loopback, link-local, multicast and unspecified addresses are left
// out (a program of the user's may say loopback), and IPv6 addresses where there
// is an IPv4 one: they would be the same VM twice. Guests are asked only for the
// interfaces that their host knows by MAC address: the bridges and tunnels
// inside a guest are nobody's backends. What a guest's agent says is believed
// within that: whoever controls a guest can name any address. Of one answer the
// first 256 are used.
//
// While a source fails its last answer is kept. A source that answers, and says
// that the VM is off, is no failure: then there is no address, since an address
// of a VM that is off may be another one's tomorrow.
package discover
