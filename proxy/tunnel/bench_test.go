package tunnel

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"usher/proxy/socket"
)

// BenchmarkShortTunnels is a new connection with 300 bytes up and 1 KiB down
// through accept, dial and relay. cpu-µs/op is that of the whole process: the
// client and the VM included.
func BenchmarkShortTunnels(b *testing.B) {
	for name, mode := range modes {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, mode)
			go r.serve()
			go r.answer(make([]byte, 1<<10))
			addr := r.front.Addr().String()
			b.ReportAllocs()
			cpu := processor()
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				up, down := make([]byte, 300), make([]byte, 2<<10)
				for p.Next() {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						b.Error(err)
						return
					}
					c.Write(up)
					if n, err := io.ReadFull(c, down[:1<<10]); err != nil {
						b.Error(n, err)
					}
					c.Close()
				}
			})
			b.ReportMetric(float64((processor()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			b.StopTimer()
			eventually(b, "all ended", func() bool { return r.relay.Open() == 0 })
		})
	}
}

// serve relays all that comes to the VM.
func (r *rig) serve() {
	for {
		near, err := r.front.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := socket.Dial(context.Background(), "tcp", r.dialTo)
			if err != nil {
				near.Abort()
				return
			}
			r.relay.Start(r.mode(near), r.mode(far), time.Hour, func(Result) {})
		}()
	}
}

// answer is a VM that reads 300 bytes and writes its answer.
func (r *rig) answer(b []byte) {
	for {
		c, err := r.back.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			if _, err := io.ReadFull(c, make([]byte, 300)); err == nil {
				c.Write(b)
				io.Copy(io.Discard, c)
			}
		}()
	}
}

func processor() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBulk is one long flow.
func BenchmarkBulk(b *testing.B) {
	for name, mode := range modes {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, mode)
			x := r.start(time.Hour)
			block, sink := make([]byte, 256<<10), make([]byte, 256<<10)
			b.SetBytes(int64(len(block)))
			cpu := processor()
			go func() {
				for range b.N {
					x.client.Write(block)
				}
				x.client.CloseWrite()
			}()
			for {
				if _, err := x.vm.Read(sink); err != nil {
					break
				}
			}
			b.ReportMetric(float64((processor()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			b.StopTimer()
			x.client.Close()
			x.vm.Close()
			<-r.results
		})
	}
}
