package proxy

import (
	"errors"
	"io"

	"usher/proxy/message"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/telemetry"
)

// relay sends the response to the client: head, body, trailers. It is the one
// loop for bodies of every protocol.
func (p *Proxy) relay(site *Site, lease *upstream.Lease, ex *message.Exchange) {
	err := p.relayResponse(lease, ex)
	ex.Trace.Status = ex.Response.Status
	if err != nil {
		lease.Fail()
		p.broken(ex, err)
		if ex.Trace.Side == message.VMSide {
			site.Counters.Failed(faultOf(err))
		}
		return
	}
	ex.Trace.Total = lease.Release().Sub(ex.Trace.Start)
}

// relayResponse returns when nothing of the response is under way any more and
// the lease may be given back.
func (p *Proxy) relayResponse(lease *upstream.Lease, ex *message.Exchange) error {
	r := &ex.Response
	if r.Length == message.Unknown && r.Body != nil {
		defer p.track(endless(lease, ex))()
	}
	if err := ex.Stream.WriteHead(r); err != nil {
		return err
	}
	if r.Body != nil {
		if err := p.relayBody(ex); err != nil {
			return err
		}
	}
	return ex.Stream.CloseWrite(&r.Trailer)
}

// endless is the registration of a response that may never end.
func endless(lease *upstream.Lease, ex *message.Exchange) *live {
	body := ex.Response.Body
	return &live{
		key: string(ex.Host), backend: lease.Backend().Source(),
		abort: func(reason string) { body.Stop(message.Fail(message.UsherSide, 0, "%s", reason)) },
	}
}

// relayBody copies until the body's end. What was written is flushed before a
// Read that would wait.
func (p *Proxy) relayBody(ex *message.Exchange) error {
	if w, ok := ex.Response.Body.(interface{ Whole() []byte }); ok {
		if body := w.Whole(); body != nil {
			ex.Trace.Sent = int64(len(body))
			_, err := ex.Stream.Write(body)
			return err
		}
	}
	if b, ok := ex.Response.Body.(interface {
		SpliceTo(message.Stream) (int64, error)
	}); ok {
		n, err := b.SpliceTo(ex.Stream)
		if ex.Trace.Sent += n; err != nil {
			return ended(ex, err)
		}
	}
	c := copier{body: ex.Response.Body, stream: ex.Stream}
	c.start(ex.Response.Length)
	defer c.end()
	for {
		n, err := c.read()
		if n > 0 {
			ex.Trace.Sent += int64(n)
			if _, e := ex.Stream.Write(c.buf[:n]); e != nil {
				return e
			}
			c.grow(n)
		}
		if err != nil {
			return ended(ex, err)
		}
	}
}

// ended is the error of a body that err ended. What is good of a broken one is
// not held back.
func ended(ex *message.Exchange, err error) error {
	if err == io.EOF {
		return nil
	}
	ex.Stream.Flush()
	return err
}

// broken ends an exchange whose head was sent and whose body cannot be
// completed, so that the client sees it.
func (p *Proxy) broken(ex *message.Exchange, err error) {
	p.blame(ex, err)
	ex.Stream.Abort(err)
}

// blame notes who failed and why.
func (p *Proxy) blame(ex *message.Exchange, err error) {
	var e *message.Error
	if !errors.As(err, &e) {
		// Only writes to the client fail without saying so.
		e = &message.Error{Side: message.ClientSide, Err: err}
	}
	ex.Trace.Side, ex.Trace.Reason = e.Side, e.Err.Error()
}

// fail answers an exchange that got no head from a VM. The status of one whose
// client left before is 499, which only the log sees.
func (p *Proxy) fail(site *Site, ex *message.Exchange, err error) {
	p.blame(ex, err)
	if ex.Trace.Side == message.VMSide {
		site.Counters.Failed(faultOf(err))
	}
	var e *message.Error
	if errors.As(err, &e) && e.Status != 0 {
		p.answerFailure(site, ex, e)
		return
	}
	ex.Trace.Status = 499
	ex.Stream.Abort(err)
}

// upgrade turns the exchange into a tunnel and waits for its end.
func (p *Proxy) upgrade(site *Site, lease *upstream.Lease, ex *message.Exchange) {
	defer lease.Done()
	vm := lease.Duplex()
	ex.Trace.Status = 101
	err := ex.Stream.WriteHead(&ex.Response)
	var client message.Duplex
	if err == nil {
		client, err = ex.Stream.Upgrade()
	}
	if err != nil {
		vm.Abort(err)
		p.broken(ex, err)
		return
	}
	p.Metrics.TunnelOpened(telemetry.Upgrade)
	defer p.Metrics.TunnelClosed(telemetry.Upgrade)
	ended := make(chan tunnel.Result, 1)
	t := p.Tunnels.Start(client, vm, site.Timeouts.TunnelIdle, func(r tunnel.Result) { ended <- r })
	done := p.track(&live{key: string(ex.Host), backend: lease.Backend().Source(), abort: t.Abort})
	r := <-ended
	done()
	ex.Trace.Received, ex.Trace.Sent = r.Up, r.Down
	ex.Trace.Side, ex.Trace.Reason = r.Side, r.Reason
}
