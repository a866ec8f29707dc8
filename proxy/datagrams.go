package proxy

import (
	"context"
	"errors"
	"time"

	"usher/proxy/datagram"
	"usher/proxy/message"
	"usher/proxy/proxyproto"
	"usher/proxy/upstream"
	"usher/telemetry"
)

// Datagrams chooses the VMs of the raw UDP port with that name.
func (p *Proxy) Datagrams(name string) datagram.Opener { return datagrams{p, name} }

type datagrams struct {
	proxy *Proxy
	name  string
}

var errForwardGone = errors.New("the forward was removed")

// Open implements datagram.Opener.
func (d datagrams) Open(ctx context.Context, s *datagram.Session) (datagram.Target, error) {
	p, at := d.proxy, s.Client()
	f := p.Snapshot().Forwards[d.name]
	if f == nil {
		return datagram.Target{}, errForwardGone
	}
	lease, err := f.Rest.Pool.Assign(ctx, at.Addr())
	if err != nil {
		if ctx.Err() == nil {
			if vmFailed(err) {
				f.Counters.Failed(faultOf(err))
			}
			p.refusedBy(telemetry.UDP, &message.Client{Addr: at}, telemetry.BackendDown, err.Error())
		}
		return datagram.Target{}, err
	}
	o := &conversation{proxy: p, forward: f, session: s, lease: lease, start: time.Now()}
	return o.begin(), nil
}

// conversation is a session of a raw UDP port with its VM.
type conversation struct {
	proxy   *Proxy
	forward *Forward
	session *datagram.Session
	lease   *upstream.Lease
	start   time.Time
	done    func() // of live
}

func (o *conversation) begin() datagram.Target {
	p, f := o.proxy, o.forward
	p.Metrics.Accepted(telemetry.UDP)
	p.Metrics.TunnelOpened(telemetry.Forward)
	o.done = p.track(&live{forward: f.Name, backend: o.lease.Backend().Source(), abort: o.session.Abort})
	t := datagram.Target{
		VM: o.lease.Addr(), Idle: f.TunnelIdle, Refused: o.refused, Answered: o.lease.Answered, Ended: o.end,
	}
	if f.Transparent {
		t.From = o.session.Client().Addr()
	}
	if f.ProxyHeader {
		t.Header = proxyproto.AppendV2Datagram(nil, o.session.Client(), o.session.Local())
	}
	return t
}

func (o *conversation) refused(err error) {
	o.forward.Counters.Failed(telemetry.FaultConnect)
	o.lease.Refused(err)
}

// end counts and logs the session.
func (o *conversation) end(r datagram.Result) {
	p, f, at := o.proxy, o.forward, o.session.Client()
	o.done()
	o.lease.Done()
	f.Counters.Tunnel(r.Up.Bytes, r.Down.Bytes)
	p.Metrics.TunnelClosed(telemetry.Forward)
	p.Metrics.Closed(telemetry.UDP)
	p.Access.Tunnel(&telemetry.Tunnel{
		Time: o.start, Client: at.Addr(), Port: at.Port(), Site: f.Name, Backend: o.lease.Backend().String(),
		BytesIn: r.Up.Bytes, BytesOut: r.Down.Bytes,
		Datagrams: telemetry.Datagrams{In: r.Up.Datagrams, Out: r.Down.Datagrams, Dropped: r.Dropped},
		Duration:  time.Since(o.start), ClosedBy: r.Side.String(), Reason: r.Reason,
	})
}
