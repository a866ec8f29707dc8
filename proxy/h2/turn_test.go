package h2

import (
	"bytes"
	"io"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// full fills the output with frames that mean nothing, so that nobody may add
// to it.
func (m *mux) full() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.out.b) < maxOut {
		m.fr.WritePing(true, [8]byte{})
	}
}

// queued waits until n streams wait for their turn.
func (m *mux) queued(t testing.TB, n int) {
	t.Helper()
	eventually(t, "streams wait for their turn", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.waiting) == n
	})
}

// answers waits for the end of a call.
func answers(t testing.TB, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// TestReservedCallOutlivesADrain: a connection that takes no more calls serves
// those that it has promised.
func TestReservedCallOutlivesADrain(t *testing.T) {
	cc, p := fake(t)
	call := open(t, cc)
	cc.Drain()
	done := make(chan error, 1)
	go func() { done <- call.RoundTrip(t.Context(), exchangeFor("GET", "/", nil, 0), 0) }()
	p.headers(p.request().StreamID, true, ":status", "204")
	if err := answers(t, done); err != nil {
		t.Error(err)
	}
	if call.Finish() {
		t.Error("the connection takes further calls")
	}
}

// TestFullOutputIsWritten: whoever finds no room has the output written, if
// nobody else is at it.
func TestFullOutputIsWritten(t *testing.T) {
	cc, p := fake(t)
	cc.occupy(t)
	cc.full()
	cc.mu.Lock()
	cc.flushing = false
	cc.mu.Unlock()
	call, done := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	p.headers(p.request().StreamID, true, ":status", "204")
	if err := answers(t, done); err != nil {
		t.Error(err)
	}
	call.Finish()
}

// TestWhoFillsTheOutputWritesIt and does not wait for somebody who is about to,
// but leaves what comes then to him.
func TestWhoFillsTheOutputWritesIt(t *testing.T) {
	cc, p := fake(t)
	first, done1 := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	id := p.request().StreamID
	cc.occupy(t)
	cc.full()
	cc.mu.Lock()
	cc.flushing, cc.yielding = false, true
	cc.mu.Unlock()
	second, done2 := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	eventually(t, "what filled the output is written", func() bool {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return second.opened && !cc.flushing && len(cc.out.b) > 0 && len(cc.out.b) < maxOut
	})
	cc.mu.Lock()
	cc.yielding = false
	cc.flush()
	cc.mu.Unlock()
	p.headers(id, true, ":status", "204")
	p.headers(p.request().StreamID, true, ":status", "204")
	for _, done := range []<-chan error{done1, done2} {
		if err := answers(t, done); err != nil {
			t.Error(err)
		}
	}
	first.Finish()
	second.Finish()
}

// TestTurnThatIsNotUsed goes to the next: a call that is granted its turn just
// after the VM's GOAWAY does not begin.
func TestTurnThatIsNotUsed(t *testing.T) {
	cc, p := fake(t)
	leave := cc.occupy(t)
	r, w := io.Pipe()
	first, done1 := begin(t, cc, exchangeFor("POST", "/", pipeBody{r}, message.Unknown), 0)
	eventually(t, "the first call has a stream", func() bool { return cc.Calls() == 1 && cc.busy.Load() == 1 })
	cc.full()
	second, done2 := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	cc.queued(t, 1)
	go func() {
		io.WriteString(w, "x")
		w.Close()
	}()
	cc.queued(t, 2)
	p.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
	eventually(t, "GOAWAY has arrived", func() bool { return !cc.Usable() })
	leave()
	if side, _, replay := blamed(answers(t, done2)); side != message.VMSide || !replay {
		t.Error(side, replay)
	}
	second.Finish()
	if got := p.ending(1); got != "HD." && got != "HDE." {
		t.Errorf("the request was %q", got)
	}
	p.headers(1, true, ":status", "204")
	if err := answers(t, done1); err != nil {
		t.Error(err)
	}
	first.Finish()
}

// TestSettingsWhileACallWaits count for it: it has no stream yet that they
// could have changed. A VM may not renew a window that it takes for half full.
func TestSettingsWhileACallWaits(t *testing.T) {
	cc, p := fake(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	leave := cc.occupy(t)
	cc.full()
	body := bytesBody{bytes.NewReader(make([]byte, 50))}
	call, done := begin(t, cc, exchangeFor("POST", "/", body, message.Unknown), 0)
	cc.queued(t, 1)
	p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50})
	eventually(t, "SETTINGS are applied", func() bool {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return cc.initial == 50
	})
	leave()
	if r := p.await(1); len(r.body) != 50 || r.reset != nil {
		t.Errorf("%+v", r)
	}
	p.headers(1, true, ":status", "204")
	if err := answers(t, done); err != nil {
		t.Error(err)
	}
	call.Finish()
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.lent != lentWindow {
		t.Errorf("%d bytes of window are lent to nobody", lentWindow-cc.lent)
	}
}

// tightBody is at hand, and uses the window up just before it is sent.
type tightBody struct {
	bytesBody
	before func()
}

func (b tightBody) Buffered() int { return b.Len() }
func (b tightBody) Ready() bool   { return true }
func (b tightBody) Read(p []byte) (int, error) {
	b.before()
	return b.bytesBody.Read(p)
}

// TestEarlyAnswerToABodyAtHand: the answer counts, not the reset after it.
func TestEarlyAnswerToABodyAtHand(t *testing.T) {
	cc, p := fake(t)
	body := tightBody{bytesBody{bytes.NewReader([]byte("hello"))}, func() {
		cc.mu.Lock()
		defer cc.mu.Unlock()
		cc.send = 0
	}}
	ex := exchangeFor("POST", "/", body, 5)
	call, done := begin(t, cc, ex, 0)
	id := p.request().StreamID
	p.headers(id, true, ":status", "413")
	p.fr.WriteRSTStream(id, http2.ErrCodeNo)
	if err := answers(t, done); err != nil || ex.Response.Status != 413 {
		t.Error(err, ex.Response.Status)
	}
	call.Finish()
}
