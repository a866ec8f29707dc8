package datagram

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize = 32
	largest   = 65535 // of a datagram, more than UDP over IP can carry
)

// header is struct mmsghdr of recvmmsg(2).
type header struct {
	unix.Msghdr
	length uint32
}

// name is room for the kernel's form of an IPv4 or IPv6 address.
type name struct{ unix.RawSockaddrInet6 }

func (n *name) pointer() *byte { return (*byte)(unsafe.Pointer(n)) }

// length is how much of it the kernel is to look at.
func (n *name) length() uint32 {
	if n.Family == unix.AF_INET {
		return unix.SizeofSockaddrInet4
	}
	return unix.SizeofSockaddrInet6
}

// control is room for one control message with the address a datagram was sent
// to, or is to come from: IP_PKTINFO or IPV6_PKTINFO, see ip(7) and ipv6(7).
type control struct {
	unix.Cmsghdr
	unix.Inet6Pktinfo
	_ [16]byte // alignment, and what else the kernel may want to tell
}

func (c *control) pointer() *byte { return (*byte)(unsafe.Pointer(c)) }

// inbox is room for the datagrams of one receiving call.
type inbox struct {
	headers  [batchSize]header
	vectors  [batchSize]unix.Iovec
	names    [batchSize]name
	controls [batchSize]control
	memory   []byte
}

func newInbox() *inbox {
	b := &inbox{memory: make([]byte, batchSize*largest)}
	for i := range b.headers {
		h, v := &b.headers[i], &b.vectors[i]
		v.Base = &b.memory[i*largest]
		v.SetLen(largest)
		h.Iov, h.Name, h.Control = v, b.names[i].pointer(), b.controls[i].pointer()
		h.SetIovlen(1)
	}
	return b
}

// receive fills the inbox with what is there now and returns how many
// datagrams that is. It does not wait: nothing is EAGAIN.
func (b *inbox) receive(fd int) (n int, err error) {
	for i := range b.headers {
		h := &b.headers[i]
		h.Namelen = uint32(unsafe.Sizeof(name{}))
		h.SetControllen(int(unsafe.Sizeof(control{})))
	}
	return call(unix.SYS_RECVMMSG, fd, &b.headers[0], batchSize)
}

func call(number uintptr, fd int, first *header, count int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(first)), uintptr(count), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// payload is valid until the next receive.
func (b *inbox) payload(i int) []byte {
	at := i * largest
	return b.memory[at : at+int(b.headers[i].length)]
}

// source is who sent a datagram, invalid if the kernel does not say.
func (b *inbox) source(i int) netip.AddrPort { return b.names[i].addrPort() }

// destination is the address of ours that a datagram was sent to, invalid if
// the kernel does not say.
func (b *inbox) destination(i int) netip.Addr {
	h, c := &b.headers[i], &b.controls[i]
	if uintptr(h.Controllen) < unsafe.Sizeof(unix.Cmsghdr{}) {
		return netip.Addr{}
	}
	switch {
	case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_PKTINFO:
		return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&c.Inet6Pktinfo)).Spec_dst)
	case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_PKTINFO:
		return netip.AddrFrom16(c.Addr).Unmap()
	}
	return netip.Addr{}
}

func (n *name) addrPort() netip.AddrPort {
	switch n.Family {
	case unix.AF_INET:
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swap(four.Port))
	case unix.AF_INET6:
		ip := netip.AddrFrom16(n.Addr).Unmap()
		if n.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(n.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, swap(n.Port))
	}
	return netip.AddrPort{}
}

// swap turns a port from or into network byte order.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// returnTo is the control message that has a datagram come from an address of
// ours, for a socket of that family.
func returnTo(local netip.Addr, family int) (c control, length int) {
	if family == unix.AF_INET {
		c.Level, c.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		c.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		(*unix.Inet4Pktinfo)(unsafe.Pointer(&c.Inet6Pktinfo)).Spec_dst = local.As4()
		return c, unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	}
	c.Level, c.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
	c.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	c.Addr = local.As16()
	return c, unix.CmsgSpace(unix.SizeofInet6Pktinfo)
}

// outbox is the datagrams of one sending call. They are not copied.
type outbox struct {
	headers [batchSize]header
	vectors [batchSize][2]unix.Iovec // one before the payload, and the payload
	count   int
}

// add puts a datagram in, which may come in two pieces. It must not be full.
func (b *outbox) add(before, payload []byte) *header {
	h, v := &b.headers[b.count], &b.vectors[b.count]
	b.count++
	pieces := v[:0]
	if len(before) > 0 {
		pieces = append(pieces, piece(before))
	}
	pieces = append(pieces, piece(payload))
	*h = header{}
	h.Iov = &v[0]
	h.SetIovlen(len(pieces))
	return h
}

func piece(b []byte) (v unix.Iovec) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
	return v
}

func (b *outbox) full() bool { return b.count == batchSize }

// send empties the outbox. It returns how many datagrams and bytes the kernel
// took and how many it did not, because there was no room, they were too
// large, or lenient is set; any other error ends it, and nothing is said of
// what was left.
func (b *outbox) send(fd int, lenient bool) (sent Traffic, dropped int64, err error) {
	defer b.clear()
	for at := 0; at < b.count; {
		n, err := call(unix.SYS_SENDMMSG, fd, &b.headers[at], b.count-at)
		for i := range n {
			sent.Datagrams++
			sent.Bytes += int64(b.headers[at+i].length)
		}
		at += n
		switch {
		case err == nil:
		case lenient, err == unix.EAGAIN, err == unix.ENOBUFS, err == unix.EMSGSIZE:
			dropped++
			at++
		default:
			return sent, dropped, err
		}
	}
	return sent, dropped, nil
}

// clear forgets the payloads, so that they can be collected.
func (b *outbox) clear() {
	for i := range b.count {
		b.headers[i].Msghdr = unix.Msghdr{}
		b.vectors[i] = [2]unix.Iovec{}
	}
	b.count = 0
}
