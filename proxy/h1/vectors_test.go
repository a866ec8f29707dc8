package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// vector is one entry of testdata/h1, see the README there.
type vector struct {
	name    string
	in      string
	asked   string
	out     string
	trailer string
	verdict []string
}

func vectors(t testing.TB, pattern string) []vector {
	t.Helper()
	files, err := filepath.Glob("../../testdata/h1/" + pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors %q: %v", pattern, err)
	}
	var all []vector
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "\n\n") {
			if v := parseVector(t, block); v.name != "" {
				v.name = strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + v.name
				all = append(all, v)
			}
		}
	}
	return all
}

func parseVector(t testing.TB, block string) (v vector) {
	for _, line := range strings.Split(strings.Trim(block, "\n"), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		mark, text := line[0], unescape(t, strings.TrimPrefix(line[1:], " "))
		switch {
		case v.name == "":
			v.name = line
		case mark == '>':
			v.in += text
		case mark == '?':
			v.asked += text
		case mark == '<':
			v.out += text
		case mark == '^':
			v.trailer += text + "\n"
		case mark == '=':
			v.verdict = strings.Fields(text)
		default:
			t.Fatalf("vector %q: line %q", v.name, line)
		}
	}
	if v.name != "" && v.verdict == nil {
		t.Fatalf("vector %q has no verdict", v.name)
	}
	return v
}

func unescape(t testing.TB, s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		switch s[1] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '\\':
			b.WriteByte('\\')
		case 'x':
			n, err := strconv.ParseUint(s[2:4], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteByte(byte(n))
			s = s[2:]
		case '{':
			end := closing(s)
			count, text, _ := strings.Cut(s[2:end], ":")
			n, err := strconv.Atoi(count)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(strings.Repeat(unescape(t, text), n))
			s = s[end-1:]
		default:
			t.Fatalf("escape in %q", s)
		}
		s = s[2:]
	}
	return b.String()
}

// closing is the index of the brace that ends the repetition s begins with.
func closing(s string) int {
	depth := 0
	for i := range s {
		switch {
		case strings.HasPrefix(s[i:], `\{`):
			depth++
		case s[i] == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

var statusLine = regexp.MustCompile(`HTTP/1\.1 (\d{3}) `)

// short keeps failures of large vectors readable.
func short(s string) string {
	if len(s) > 600 {
		return fmt.Sprintf("%q… (%d bytes)", s[:600], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// recorder is a VM that answers 200 to everything that Go's own parser takes
// for a request, and keeps every byte it got.
type recorder struct {
	mu  sync.Mutex
	got bytes.Buffer
	bad []error
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.Write(p)
}

func (r *recorder) serve(c net.Conn) {
	in := bufio.NewReader(io.TeeReader(c, r))
	for {
		req, err := http.ReadRequest(in)
		if err == nil {
			_, err = io.Copy(io.Discard, req.Body)
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			r.mu.Lock()
			r.bad = append(r.bad, err)
			r.mu.Unlock()
			c.Close()
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

func TestRequestVectors(t *testing.T) {
	for _, v := range vectors(t, "request-*.txt") {
		for _, piece := range []int{1 << 20, 7} {
			if piece < 100 && len(v.in) > 4000 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", v.name, piece), func(t *testing.T) { requestVector(t, v, piece) })
		}
	}
}

func requestVector(t *testing.T, v vector, piece int) {
	s := newScene(t, &defaults).start()
	var rec recorder
	var done sync.WaitGroup
	done.Go(func() {
		for vm := range s.vms {
			rec.serve(vm)
		}
	})
	go func() {
		for rest := v.in; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := io.WriteString(s.client, rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		s.client.CloseWrite()
	}()
	s.client.SetReadDeadline(time.Now().Add(5 * time.Second))
	answer, err := io.ReadAll(s.client)
	if err != nil {
		t.Errorf("the connection did not end in order: %v", err)
	}
	<-s.served
	close(s.vms)
	done.Wait()
	got := "none"
	var statuses []string
	for _, m := range statusLine.FindAllSubmatch(answer, -1) {
		statuses = append(statuses, string(m[1]))
	}
	if len(statuses) > 0 {
		got = strings.Join(statuses, " ")
	}
	if want := strings.Join(v.verdict, " "); got != want {
		t.Errorf("status %s, want %s; the VM got %s", got, want, short(rec.got.String()))
	}
	cut := piece < 100 && strings.Contains(v.out, "chunked") // chunk borders follow the pieces
	if rec.got.String() != v.out && !cut {
		t.Errorf("the VM got %s\nwant %s", short(rec.got.String()), short(v.out))
	}
	for _, err := range rec.bad {
		t.Errorf("net/http refuses what was forwarded: %v", err)
	}
	checkMalformed(t, s.relay, v)
}

// checkMalformed wants the handler told of each refusal, once.
func checkMalformed(t *testing.T, r *relay, v vector) {
	want := 0
	last := v.verdict[len(v.verdict)-1]
	if last[0] == '4' || last[0] == '5' || last == "none" && strings.Trim(v.in, "\r\n") != "" {
		want = 1
	}
	if len(r.malformed) != want {
		t.Errorf("Malformed was called %d times, want %d", len(r.malformed), want)
	}
}

var dateField = regexp.MustCompile(`Date: [^\r]*\r\n`)

func TestResponseVectors(t *testing.T) {
	for _, v := range vectors(t, "response-*.txt") {
		for _, piece := range []int{1 << 20, 5} {
			if piece < 100 && len(v.in) > 4000 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", v.name, piece), func(t *testing.T) { responseVector(t, v, piece) })
		}
	}
}

func responseVector(t *testing.T, v vector, piece int) {
	s := newScene(t, &defaults).start()
	asked := v.asked
	if asked == "" {
		asked = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	}
	s.send(asked)
	vm := s.vm()
	if _, err := http.ReadRequest(bufio.NewReader(vm)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for rest := v.in; len(rest) > 0; {
			n := min(piece, len(rest))
			if _, err := io.WriteString(vm, rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		if v.verdict[len(v.verdict)-1] != "open" {
			vm.CloseWrite()
		}
	}()
	got, broken := readAnswer(t, s, asked)
	s.client.CloseWrite()
	<-s.served
	judgeResponse(t, s, v, got, broken, piece)
}

// readAnswer reads what the client gets: a whole response, or what there is of
// a broken one.
func readAnswer(t *testing.T, s *scene, asked string) (got string, broken bool) {
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(asked)))
	if err != nil {
		t.Fatal(err)
	}
	s.client.SetReadDeadline(time.Now().Add(5 * time.Second))
	var all bytes.Buffer
	in := bufio.NewReader(io.TeeReader(s.client, &all))
	for {
		r, err := http.ReadResponse(in, request)
		if err != nil {
			return all.String(), true
		}
		if r.StatusCode >= 200 || r.StatusCode == 101 {
			_, err = io.Copy(io.Discard, r.Body)
			return dateField.ReplaceAllString(all.String(), ""), err != nil
		}
	}
}

func judgeResponse(t *testing.T, s *scene, v vector, got string, broken bool, piece int) {
	m := statusLine.FindAllStringSubmatch(got, -1)
	if len(m) == 0 || m[len(m)-1][1] != v.verdict[0] {
		t.Fatalf("got %s, want status %s", short(got), v.verdict[0])
	}
	want := strings.Join(v.verdict[1:], " ")
	if broken != strings.HasPrefix(want, "broken") {
		t.Errorf("broken is %v, want %q: %s", broken, want, short(got))
	}
	if s.relay.reused != strings.HasPrefix(want, "reused") {
		// Whether a surplus is seen depends on when it comes; in pieces it
		// comes later, and Idle sees it.
		if piece > 100 || strings.HasPrefix(want, "reused") {
			t.Errorf("reused is %v, want %q", s.relay.reused, want)
		}
	}
	if v.out != "" && piece > 100 && got != v.out {
		t.Errorf("the client got %s\nwant %s", short(got), short(v.out))
	}
}
