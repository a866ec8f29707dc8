package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// vmVariable makes the test binary a VM.
const vmVariable = "USHER_TEST_HEALTH_VM"

// vmProcess serves until standard input ends: HTTP (HTTP/1.1 and h2c) and HTTPS, at the addresses that it
// prints.
func vmProcess() {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == "application/grpc" {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.Write([]byte(frame(8, 1)))
			w.Header().Set("Grpc-Status", "0")
		}
	})
	plain, secure := httptest.NewUnstartedServer(h), httptest.NewUnstartedServer(h)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(time.Hour)}}
	secure.StartTLS()
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetHTTP1(true)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	fmt.Println(plain.Listener.Addr(), secure.Listener.Addr())
	os.Stdin.Read(make([]byte, 1))
}

// startVMs starts a process that plays all VMs, so that what they cost is not
// counted.
func startVMs(b *testing.B) (plain, secure string) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), vmVariable+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	plain, secure, _ = strings.Cut(strings.TrimSpace(line), " ")
	return plain, secure
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkThousandTargets is what checking a thousand targets every 2 s
// costs: CPU time of this process in percent of one core, and for each check.
// One iteration is 6 s.
func BenchmarkThousandTargets(b *testing.B) {
	plain, secure := startVMs(b)
	_, dead, _ := net.SplitHostPort(closedPort(b))
	for _, kind := range []struct {
		name, address string
		Check
	}{
		{"tcp", plain, Check{}},
		{"refused", "127.0.0.1:" + dead, Check{}},
		{"http", plain, Check{Kind: HTTP, Path: "/healthz"}},
		{"tls", secure, Check{Kind: TLS, Host: "vm.example"}},
		{"https", secure, Check{Kind: HTTP, Secure: true, Insecure: true}},
		{"h2c", plain, Check{Kind: HTTP, HTTP2: true}},
		{"grpc", plain, Check{Kind: GRPC}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			c := New(Options{})
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			go func() { ended <- c.Run(ctx) }()
			_, port, _ := net.SplitHostPort(kind.address)
			var targets []*Target
			for i := range 1000 {
				check := kind.Check
				check.Fall = 1 + i // a check of its own
				targets = append(targets, c.Watch(check, "127.0.0.1:"+port, nil))
			}
			time.Sleep(3 * time.Second)
			total := func() (n uint64) {
				for _, t := range targets {
					s := t.Status()
					n += s.Passed + s.Failed
				}
				return n
			}
			checks, cpu := total(), cpuTime()
			b.ResetTimer()
			for range b.N {
				time.Sleep(6 * time.Second)
			}
			b.StopTimer()
			used, made := cpuTime()-cpu, total()-checks
			b.ReportMetric(100*used.Seconds()/b.Elapsed().Seconds(), "%core")
			b.ReportMetric(float64(used.Microseconds())/float64(made), "µs/check")
			b.ReportMetric(float64(made)/b.Elapsed().Seconds(), "checks/s")
			b.ReportMetric(0, "ns/op")
			if s := targets[0].Status(); s.Failed > 0 != (kind.name == "refused") {
				b.Errorf("%+v", s)
			}
			for _, t := range targets {
				t.Close()
			}
			cancel()
			<-ended
		})
	}
}
