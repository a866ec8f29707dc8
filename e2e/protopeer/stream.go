package protopeer

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"time"
)

// Patience is how long anything may take.
const Patience = 20 * time.Second

// Field is one field line.
type Field struct{ Name, Value string }

// Fields are in order.
type Fields []Field

// Get returns the value of the first field called name, in any case, or "".
func (f Fields) Get(name string) string {
	if v := f.Values(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Values returns the values of all fields called name, in any case.
func (f Fields) Values(name string) (values []string) {
	for _, x := range f {
		if strings.EqualFold(x.Name, name) {
			values = append(values, x.Value)
		}
	}
	return values
}

// Request is the head of a request.
type Request struct {
	Method, Authority, Path string // the method is GET if empty, the path /
	Protocol                string // of an extended CONNECT; an upgrade in HTTP/1.1
	Fields                  Fields
	Raw                     Fields // if not nil, instead of all else, in HTTP/2 and 3
}

// pseudo is the whole field section in HTTP/2 and 3.
func (r *Request) pseudo() Fields {
	if r.Raw != nil {
		return r.Raw
	}
	r.defaults()
	f := Fields{{":method", r.Method}, {":scheme", "https"}, {":authority", r.Authority}, {":path", r.Path}}
	if r.Protocol != "" {
		f[0].Value = "CONNECT"
		f = append(f, Field{":protocol", r.Protocol})
	}
	if r.Method == "CONNECT" && r.Protocol == "" {
		f = Fields{{":method", "CONNECT"}, {":authority", r.Authority}}
	}
	return append(f, r.Fields...)
}

func (r *Request) defaults() {
	if r.Method == "" {
		r.Method = "GET"
	}
	if r.Path == "" {
		r.Path = "/"
	}
}

// Head is the head of a response.
type Head struct {
	Status int
	Fields Fields
}

// Reset is the error of a stream that the peer has reset.
type Reset struct{ Code uint64 }

func (r Reset) Error() string { return fmt.Sprintf("stream reset with code %d", r.Code) }

// Conn is one connection. In HTTP/1.1 it takes one stream after the other.
type Conn interface {
	// Open sends a request; end says that it has no body.
	Open(r Request, end bool) (Stream, error)
	// Close ends the connection at once.
	Close() error
	// Ended is closed when the peer has said that it takes no more streams, or
	// has ended the connection. In HTTP/1.1 nobody says so between responses.
	Ended() <-chan struct{}
}

// Stream is one exchange. Write is the request's body, or what follows an
// upgrade; Read is the response's, and io.EOF a clean end.
type Stream interface {
	io.ReadWriter
	// End ends the request.
	End(trailer ...Field) error
	// Cancel gives the exchange up; in HTTP/1.1 with the connection.
	Cancel()
	// Head is the next head, interim or final.
	Head() (Head, error)
	// Trailer is valid after io.EOF.
	Trailer() Fields
}

// Dial connects to addr. The configuration has roots and a server name.
func Dial(p Proto, addr string, conf *tls.Config) (Conn, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{p.ALPN()}
	switch p {
	case H1:
		return dialH1(addr, conf)
	case H2:
		return DialH2(addr, conf)
	default:
		return dialH3(addr, conf)
	}
}

// Answer is a whole response.
type Answer struct {
	Interim []Head
	Head
	Body    []byte
	Trailer Fields
}

// Finish reads a response to its end. What came before an error is returned
// with it.
func Finish(s Stream) (a Answer, err error) {
	for {
		h, err := s.Head()
		if err != nil {
			return a, err
		}
		if h.Status >= 200 || h.Status == 101 {
			a.Head = h
			break
		}
		a.Interim = append(a.Interim, h)
	}
	a.Body, err = io.ReadAll(s)
	a.Trailer = s.Trailer()
	return a, err
}

// Ask sends a request with a body and reads the answer.
func Ask(c Conn, r Request, body string) (Answer, error) {
	s, err := c.Open(r, body == "")
	if err != nil {
		return Answer{}, err
	}
	if body != "" {
		if _, err := io.WriteString(s, body); err == nil {
			s.End() // an early answer may have ended it
		}
	}
	return Finish(s)
}
