// Package message is the vocabulary of the data plane: requests, responses,
// bodies, the client's side of an exchange, and errors that know whose fault
// they are. It does no I/O. The codecs (h1, later h2 and h3) fill an Exchange
// and implement Stream; proxy routes it; upstream sends it to a VM.
package message

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"usher/proxy/socket"
)

// Unknown is the Length of a body that ends only with itself (chunked).
const Unknown = -1

// Body is read until io.EOF by one goroutine. A Body that ends early returns
// an *Error, never a clean io.EOF.
type Body interface {
	io.Reader
	// Stop says that no more is wanted and why. It may be called from any
	// goroutine, more than once, also after io.EOF, and unblocks a Read, which
	// then returns the error. h1 later drains at most 64 KiB or closes.
	Stop(error)
}

// Request is one request as it arrived, later as it leaves. The slices are
// views, see Field.
type Request struct {
	Method, Scheme, Authority []byte // Authority as sent (Host or :authority), port included; Scheme "http" or "https"
	Path                      []byte // origin form with query, or "*"
	Header                    Header
	Length                    int64  // of Body; 0 with a nil Body, Unknown when chunked
	Body                      Body   // nil when the request has none
	Trailer                   Header // valid after Body's io.EOF
	Upgrade                   []byte // the protocol asked for by Upgrade or :protocol, else nil
	ExpectContinue            bool   // the client waits for a 100 before it sends the body
	AcceptTrailers            bool   // TE: trailers
}

// Response is one final or interim response head with its body.
type Response struct {
	Status  int
	Header  Header
	Length  int64  // of Body. Unknown: chunked or until close. For HEAD and 304 the length that was declared, or Unknown
	Body    Body   // nil when there is none (HEAD, 1xx, 204, 304, zero length)
	Trailer Header // valid after Body's io.EOF
	Upgrade []byte // the protocol switched to, with Status 101
	Close   bool   // usher wants the client connection to end after this response
}

// Duplex is raw bytes both ways: after an upgrade, an extended CONNECT, or on
// a passthrough connection. Close frees it; Abort does so with a reset.
type Duplex interface {
	io.ReadWriteCloser
	CloseWrite() error
	Abort(error)
	// Socket returns the bare socket, for a relay in the kernel or an event
	// loop, and the bytes read ahead of it, which come first. A nil socket
	// (TLS, h2, h3) means that the relay copies through Read and Write.
	Socket() (*socket.Socket, []byte)
}

// Stream is the client's side of one exchange.
type Stream interface {
	// WriteHead writes any number of 1xx and then one final head. It does not
	// keep the Response.
	WriteHead(*Response) error
	// Write sends body bytes; it may hold them back until Flush or CloseWrite.
	io.Writer
	// Flush sends what Write held back. The relay calls it before it waits.
	Flush() error
	// CloseWrite completes the response. trailer may be nil.
	CloseWrite(trailer *Header) error
	// Abort makes it visible to the client that the response cannot be
	// completed. After it nothing may be written.
	Abort(error)
	// Upgrade hands over the raw connection after WriteHead of a 101. The
	// codec stops using the connection; the caller closes the Duplex.
	Upgrade() (Duplex, error)
	// Watch calls gone at most once, from another goroutine, when the client
	// closes its connection or cancels the exchange; gone must not block.
	// Watch(nil) ends that, and when it returns gone is not running. It costs
	// a system call, so it is armed only for exchanges that have to wait.
	Watch(gone func())
}

// Proto is the protocol of a client connection.
type Proto uint8

const (
	HTTP1 Proto = iota + 1
	HTTP2
	HTTP3
	Passthrough
)

func (p Proto) String() string {
	return [...]string{"", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0", "passthrough"}[p]
}

// Client is what is known of a client connection; fixed before its first
// exchange.
type Client struct {
	Addr, Local netip.AddrPort // after the PROXY header, IPv4-mapped addresses as IPv4
	Peer        netip.Addr     // who connected, the load balancer when there was a PROXY header
	Proto       Proto
	TLS         bool
	ServerName  string // canonical SNI; empty when there was none
	ALPN        string
	TLSVersion  uint16
	CipherSuite uint16
	// Covers reports whether the certificate that was shown is valid for a
	// canonical host; nil on plain connections.
	Covers func(host string) bool

	mu       sync.Mutex
	attached map[any]io.Closer
	closed   bool
	lent     bool // by Borrow
}

var clients = sync.Pool{New: func() any { return &Client{Proto: HTTP1, lent: true} }} // of Borrow

// Borrow is the Client of a plain connection of which nothing is known but its
// addresses, for as long as it has something to do. Give gives it back.
func Borrow(addr, local netip.AddrPort) *Client {
	c := clients.Get().(*Client)
	c.Addr, c.Local, c.Peer = addr, local, addr.Addr()
	return c
}

// Give ends the use of a Client that Borrow returned, unless something is
// attached to it. It reports whether it did; another Client has to be kept.
// Nobody may use c any more.
func (c *Client) Give() bool {
	if !c.lent || c.closed || len(c.attached) > 0 {
		return false
	}
	clients.Put(c)
	return true
}

// Lent reports whether c came from Borrow.
func (c *Client) Lent() bool { return c.lent }

// Attach keeps c, a backend connection that carries this client's identity,
// under key until Detach or Close. On a closed client, c is closed at once.
func (c *Client) Attach(key any, conn io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return
	}
	if c.attached == nil {
		c.attached = make(map[any]io.Closer)
	}
	if old := c.attached[key]; old != nil {
		old.Close()
	}
	c.attached[key] = conn
}

// Detach takes back what Attach kept, or nil.
func (c *Client) Detach(key any) io.Closer {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.attached[key]
	delete(c.attached, key)
	return conn
}

// Close closes everything attached. The owner of the connection calls it once,
// at the end.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.attached {
		conn.Close()
	}
	c.attached = nil
}

// Timeouts are those a site may override. The codec starts each exchange with
// the defaults; proxy sets the site's once it is routed. Zero means none.
type Timeouts struct {
	RequestBody   time.Duration // idle while waiting for the client, before a response head
	ResponseWrite time.Duration // without any write progress towards the client
}

// Handler serves exchanges of every protocol.
type Handler interface {
	// Serve answers one exchange and returns when nothing of it is used any
	// more. The context ends with the client connection. It never panics on
	// account of the client or a VM.
	Serve(context.Context, *Exchange)
	// Malformed is told of a request that the codec refused and answered
	// itself, for the log; the exchange holds whatever could be read.
	Malformed(*Exchange, *Error)
}

// Exchange is one request and its response. A codec owns and reuses it.
type Exchange struct {
	Client   *Client
	From     netip.Addr // the client: rightmost untrusted address. Logs and policies use only this
	Host     []byte     // Request.Authority as router.Canonical gives it, set when the exchange is routed
	Request  Request
	Response Response
	Stream   Stream
	Timeouts Timeouts
	Trace    Trace
	arena    []byte
}

// Trace is what the access log and the counters want to know of an exchange.
type Trace struct {
	Start     time.Time     // first byte of the request head
	Tried     time.Time     // the latest attempt at a backend began; zero when there was none
	Head      time.Duration // from Start to the final response head; 0 when there was none
	Total     time.Duration // from Start until all was written; 0 before
	Site      string        // canonical host of the site; empty when none matched
	Backend   string        // address that answered or failed last
	RequestID []byte        // view, see Field
	Method    []byte        // as received; Request may be rewritten
	Path      []byte
	Host      []byte
	Status    int   // what the client was told; 0 when it was told nothing
	Sent      int64 // body bytes to the client
	Received  int64 // body bytes from the client
	Attempts  int   // backends tried
	Side      Side  // who failed
	Reason    string
}

// Reset readies the exchange for the next request on the same connection and
// keeps its memory.
func (ex *Exchange) Reset() {
	ex.Request.Header.Reset()
	ex.Request.Trailer.Reset()
	ex.Response.Header.Reset()
	ex.Response.Trailer.Reset()
	// Each by itself: a copy of what was just put together stalls the processor.
	header, trailer := ex.Request.Header, ex.Request.Trailer
	ex.Request = Request{}
	ex.Request.Header, ex.Request.Trailer = header, trailer
	header, trailer = ex.Response.Header, ex.Response.Trailer
	ex.Response = Response{}
	ex.Response.Header, ex.Response.Trailer = header, trailer
	ex.Trace = Trace{}
	ex.From, ex.Host, ex.arena = netip.Addr{}, nil, ex.arena[:0]
}

// Scratch returns n zero-length bytes of capacity n that live as long as the
// exchange. Append to it at most n bytes.
func (ex *Exchange) Scratch(n int) []byte {
	if cap(ex.arena)-len(ex.arena) < n {
		ex.arena = make([]byte, 0, max(1024, n))
	}
	at := len(ex.arena)
	ex.arena = ex.arena[:at+n]
	return ex.arena[at : at : at+n]
}

// Interactive reports whether a person waits for a page, who can be shown one
// that asks again by itself: a browser's GET or HEAD.
func (ex *Exchange) Interactive() bool {
	if m := string(ex.Request.Method); m != "GET" && m != "HEAD" {
		return false
	}
	accept, _ := ex.Request.Header.Get(Accept)
	return bytes.Contains(accept, []byte("text/html"))
}

// Side is who failed.
type Side uint8

const (
	Nobody Side = iota
	ClientSide
	VMSide
	UsherSide
)

func (s Side) String() string { return [...]string{"", "client", "vm", "usher"}[s] }

// Error is a failure of an exchange or a connection: who failed, what to
// answer, and whether it may be tried again on another connection.
type Error struct {
	Side   Side
	Status int  // to answer, while no head was sent
	Replay bool // nothing was sent to the VM: any request may be tried again
	// RetryAfter is what a 503 says (RFC 9110 section 10.2.3); 0 says nothing.
	RetryAfter time.Duration
	Starting   bool // the VM is being started: a browser may ask again soon
	Err        error
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Side, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an *Error of a side, a status and a message.
func Fail(side Side, status int, format string, a ...any) *Error {
	return &Error{Side: side, Status: status, Err: fmt.Errorf(format, a...)}
}

// ErrClientGone is the Err of an Error for a client that vanished or cancelled.
var ErrClientGone = errors.New("client closed the connection")
