package peer

import (
	"fmt"
	"io"
	"strings"

	"usher/e2e/strict"
)

// OK is a small whole response.
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Answer answers every request on a connection with the same bytes.
func Answer(bytes string) Script {
	return Each(func(l *Link, _ *strict.Request) bool { return l.Say(bytes) })
}

// Name answers every request with a short name, so that a test sees which VM
// it was.
func Name(name string) Script { return Answer(Text(name)) }

// Text is a whole response with a text body.
func Text(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// Each reads request after request and has f answer; f says whether the
// connection goes on.
func Each(f func(*Link, *strict.Request) bool) Script {
	return func(l *Link) {
		for {
			q, err := l.Request()
			if err != nil || !f(l, q) {
				return
			}
		}
	}
}

// Echo answers with the request as it arrived: its line, fields and body.
func Echo(l *Link) {
	Each(func(l *Link, q *strict.Request) bool {
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s\n", q.Method, q.Target)
		for _, f := range q.Header {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
		fmt.Fprintf(&b, "\n%s", q.Body)
		return l.Say(Text(b.String()))
	})(l)
}

// Mirror sends every byte back until the other side ends.
func Mirror(l *Link) { io.Copy(l.Conn, l.R) }

// Silent reads and never says anything.
func Silent(l *Link) { io.Copy(io.Discard, l.R) }
