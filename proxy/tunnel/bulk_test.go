package tunnel

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"usher/proxy/message"
)

// pour writes size bytes that follow from seed, in pieces of many sizes, and
// ends with a FIN. It returns their sum.
func pour(t *testing.T, c *net.TCPConn, seed uint64, size int) [32]byte {
	block := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(block)
	pieces := rand.New(rand.NewPCG(seed, 1))
	sum := sha256.New()
	for size > 0 {
		from := pieces.IntN(len(block) - 1)
		n := min(size, 1+pieces.IntN(len(block)-from))
		if pieces.IntN(4) == 0 {
			n = min(n, 100)
		}
		p := block[from : from+n]
		sum.Write(p)
		if _, err := c.Write(p); err != nil {
			t.Error(err)
			break
		}
		size -= n
	}
	c.CloseWrite()
	return [32]byte(sum.Sum(nil))
}

// drain sums up all that comes.
func drain(t *testing.T, c *net.TCPConn) [32]byte {
	sum := sha256.New()
	if _, err := io.Copy(sum, c); err != nil {
		t.Error(err)
	}
	return [32]byte(sum.Sum(nil))
}

func TestBulkBothWaysAtOnce(t *testing.T) {
	size := 512 << 20
	if raceEnabled {
		size = 64 << 20
	}
	eachMode(t, func(t *testing.T, r *rig) {
		if _, copied := r.mode(nil).(hidden); copied {
			size = 64 << 20
		}
		_, pipes := descriptors(t)
		x := r.start(time.Minute)
		var up, down, gotUp, gotDown [32]byte
		var all sync.WaitGroup
		all.Go(func() { up = pour(t, x.client, 1, size) })
		all.Go(func() { down = pour(t, x.vm, 2, size+12345) })
		all.Go(func() { gotUp = drain(t, x.vm) })
		all.Go(func() { gotDown = drain(t, x.client) })
		all.Wait()
		if up != gotUp || down != gotDown {
			t.Error("other bytes arrived")
		}
		res := <-r.results
		if res.Up != int64(size) || res.Down != int64(size+12345) || res.Reason != "closed" {
			t.Errorf("%+v", res)
		}
		eventually(t, "all pipes given back", func() bool { _, now := descriptors(t); return now == pipes })
	})
}

// TestSlowReaders has many VMs that send without end to clients that do not
// read: nothing may pile up, and the other tunnels go on.
func TestSlowReaders(t *testing.T) {
	r := newRig(t, FromSocket)
	const n = 40
	before := inUse()
	var tunnels []*tunnel
	var senders sync.WaitGroup
	for range n {
		x := r.start(0)
		tunnels = append(tunnels, x)
		senders.Go(func() {
			block := make([]byte, 64<<10)
			for err := error(nil); err == nil; {
				_, err = x.vm.Write(block)
			}
		})
	}
	eventually(t, "all stuck", func() bool {
		sum := func() (s int64) {
			for _, x := range tunnels {
				_, down := x.Bytes()
				s += down
			}
			return s
		}
		a := sum()
		time.Sleep(200 * time.Millisecond)
		return a > 0 && sum() == a
	})
	if grown := int64(inUse()-before) / n; !raceEnabled && grown > 150<<10 { // the sender's block included
		t.Errorf("%d bytes per stuck tunnel", grown)
	}
	other := r.start(0)
	r.send(other.client, "still alive")
	r.receive(other.vm, "still alive")
	for _, x := range append(tunnels, other) {
		x.Abort("enough")
	}
	senders.Wait()
	for range n + 1 {
		if res := <-r.results; res.Side != message.UsherSide || res.Reason != "enough" {
			t.Errorf("%+v", res)
		}
	}
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestIdleTunnelsAreSmall opens many tunnels, moves enough bytes through some
// to have had buffers and pipes, and then looks at what they keep.
func TestIdleTunnelsAreSmall(t *testing.T) {
	r := newRig(t, FromSocket)
	const n = 2000
	var x [n]struct {
		client, vm *net.TCPConn
		near, far  message.Duplex
	}
	for i := range x {
		c, v, near, far := r.sockets()
		x[i].client, x[i].vm, x[i].near, x[i].far = c, v, FromSocket(near), FromSocket(far)
	}
	fds, others := descriptors(t)
	goroutines, heap := runtime.NumGoroutine(), inUse()
	done := func(Result) {}
	for i := range x {
		r.relay.Start(x[i].near, x[i].far, time.Hour, done)
		x[i].near, x[i].far = nil, nil
	}
	for i := 0; i < n; i += 100 {
		long(t, x[i].client, x[i].vm)
		long(t, x[i].vm, x[i].client)
	}
	now, pipes := descriptors(t)
	pipes -= others
	grown := (int64(inUse()) - int64(heap)) / n // less the two sockets, which are gone
	t.Logf("%d bytes more per tunnel than per pair of sockets, %d descriptors of pipes", grown, pipes)
	if grown > 500 && !raceEnabled {
		t.Errorf("%d bytes per tunnel", grown)
	}
	if now-pipes > fds || pipes > 2*8 {
		t.Errorf("%d descriptors more, %d of pipes", now-fds, pipes)
	}
	if more := runtime.NumGoroutine() - goroutines; more > 0 {
		t.Errorf("%d more goroutines", more)
	}
	for i := range x {
		x[i].client.Close()
		x[i].vm.Close()
	}
	eventually(t, "all ended", func() bool { return r.relay.Open() == 0 })
}

// long sends enough for a pipe to be borrowed.
func long(t *testing.T, from, to *net.TCPConn) {
	t.Helper()
	go from.Write(make([]byte, 4*spliceAfter))
	if _, err := io.ReadFull(to, make([]byte, 4*spliceAfter)); err != nil {
		t.Fatal(err)
	}
}
