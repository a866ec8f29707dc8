package strict

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Response is one response as a client received it.
type Response struct {
	Status  int
	Reason  string
	Interim []*Response // the 1xx that came before, when ReadResponse read it
	ToClose bool        // the body was ended by the end of the connection
	Message
}

// ReadResponseHead reads a status line and its fields.
func ReadResponseHead(r *bufio.Reader) (*Response, error) {
	l, err := line(r)
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(l, "HTTP/1.1 ")
	code, reason, spaced := strings.Cut(rest, " ")
	if !ok || !spaced || len(code) != 3 || strings.Trim(code, "0123456789") != "" || !fieldValue(reason) {
		return nil, fmt.Errorf("status line %q", l)
	}
	p := &Response{Reason: reason, Status: int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')}
	p.Header, err = fields(r)
	return p, err
}

// ReadResponse reads interim responses and the final one to a request of the
// method, with its body. After an error the response holds what came so far; a
// body that was cut short is io.ErrUnexpectedEOF.
func ReadResponse(r *bufio.Reader, method string) (*Response, error) {
	var interim []*Response
	for {
		p, err := ReadResponseHead(r)
		if err != nil {
			return nil, err
		}
		if p.Status >= 200 || p.Status == 101 {
			p.Interim = interim
			return p, p.ReadBody(r, method)
		}
		interim = append(interim, p)
	}
}

// ReadBody reads what follows a final head (RFC 9112 section 6.3).
func (p *Response) ReadBody(r *bufio.Reader, method string) error {
	f, err := frame(p.Header)
	if err != nil {
		return err
	}
	if method == "HEAD" || p.Status < 200 || p.Status == 204 || p.Status == 304 {
		return nil
	}
	if f.chunked || f.length >= 0 {
		return p.body(r, f)
	}
	p.ToClose = true
	p.Body, err = io.ReadAll(io.LimitReader(r, maxBody))
	return err
}
