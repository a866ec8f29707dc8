// Command bulk moves much through usher, as the client and as the VM, in a
// process of its own: under the race detector, which the tests run with, it
// would take minutes.
//
//	bulk vm                           serves HTTP/1.1 and h2c and prints where
//	bulk h2|h3 ADDR HOST CA.PEM SIZE  sends SIZE bytes and gets as many
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"

	"usher/e2e/protopeer"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch len(args) {
	case 1:
		return serve()
	case 5:
		return move(protopeer.Proto(args[0]), args[1], args[2], args[3], args[4])
	}
	return fmt.Errorf("wrong usage: %q", args)
}

// zeros is an endless cheap body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s.Serve(l)
}

// answer counts an upload, and sends as many bytes as the path says.
func answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == "PUT" {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			n = -1
		}
		fmt.Fprint(w, n)
		return
	}
	n, _ := strconv.ParseInt(r.URL.Path[1:], 10, 64)
	w.Header().Set("Content-Length", fmt.Sprint(n))
	io.CopyN(w, zeros{}, n)
}

func move(p protopeer.Proto, addr, host, ca, size string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	t, err := protopeer.NewTransport(p, addr, &tls.Config{RootCAs: roots})
	if err != nil {
		return err
	}
	c := &http.Client{Transport: t}
	if err := up(c, host, n); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if err := down(c, host, n); err != nil {
		return fmt.Errorf("down: %w", err)
	}
	return nil
}

func up(c *http.Client, host string, n int64) error {
	q, err := http.NewRequest("PUT", "https://"+host+"/", io.LimitReader(zeros{}, n))
	if err != nil {
		return err
	}
	q.ContentLength = n
	p, err := c.Do(q)
	if err != nil {
		return err
	}
	defer p.Body.Close()
	b, err := io.ReadAll(p.Body)
	if err != nil || string(b) != fmt.Sprint(n) {
		return fmt.Errorf("the VM got %q, %w", b, err)
	}
	return nil
}

func down(c *http.Client, host string, n int64) error {
	p, err := c.Get(fmt.Sprintf("https://%s/%d", host, n))
	if err != nil {
		return err
	}
	defer p.Body.Close()
	got, err := io.Copy(io.Discard, p.Body)
	if err != nil || got != n {
		return fmt.Errorf("%d bytes came, %w", got, err)
	}
	return nil
}
