package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"usher/proxy/message"
)

// Windows of flow control, see the memory of a connection in doc.go.
const (
	streamWindow    = 32 << 10
	maxStreamWindow = 1 << 20
	connWindow      = 8 << 20
)

// Options are what a Server is made of.
type Options struct {
	Conn *Socket // the Server closes it
	// TLS returns what serves a server name, which is in lower case without a
	// dot at its end and empty if the client sent none. nil refuses the
	// connection with the alert unrecognized_name. It is asked once for each
	// connection, from any goroutine; its NextProtos are not used.
	TLS func(serverName string) *tls.Config
	// Config is asked for each connection.
	Config func() *Config
	// Client fills in what only the caller knows of a client, before its
	// first exchange.
	Client  func(*message.Client)
	Handler message.Handler
	// StateDir is where the keys of stateless resets and tokens are kept; if
	// it is empty they last as long as the process.
	StateDir   string
	InstanceID byte // the first byte of every Connection ID
	// Opened and Closed are called once for each connection that completes
	// its handshake or has early data. Both may be nil.
	Opened, Closed func()
	// Ended is told why a connection ended, unless in good order. It may be
	// nil.
	Ended func(*message.Client, error)
}

// Server is HTTP/3 on one UDP socket.
type Server struct {
	Options
	keys       *keys
	handshakes handshakes
	transport  *quic.Transport
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	owned      sync.WaitGroup

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	over     bool // the grace of the drain
	grace    *time.Timer
	served   chan struct{} // closed when Serve has returned, nil before it began
}

// errNotTaken refuses a connection while the Server drains.
var errNotTaken = errors.New("draining")

// New prepares a Server; it starts nothing. It fails if the keys can neither
// be read nor stored.
func New(o Options) (*Server, error) {
	k, err := loadKeys(o.StateDir)
	if err != nil {
		return nil, err
	}
	s := &Server{Options: o, keys: k, conns: make(map[*conn]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.transport = &quic.Transport{
		Conn:                  o.Conn,
		ConnectionIDGenerator: connIDs{o.InstanceID},
		StatelessResetKey:     &k.reset,
		TokenGeneratorKey:     &k.token,
		VerifySourceAddress:   func(net.Addr) bool { return s.handshakes.begin(time.Now()) },
	}
	return s, nil
}

// quicConfig is asked for each connection attempt.
func (s *Server) quicConfig(*quic.ClientInfo) (*quic.Config, error) {
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return nil, errNotTaken
	}
	c := s.Config()
	return &quic.Config{
		HandshakeIdleTimeout:           c.Handshake / 2, // in all twice as long
		MaxIdleTimeout:                 idle(c.KeepAlive),
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     connWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxUniStreams,
		RequireStreamCreditRelease:     true,
		Allow0RTT:                      true,
	}, nil
}

// idle is QUIC's own timeout, which ends a connection without a word. It leaves
// time for one.
func idle(keepAlive time.Duration) time.Duration {
	if keepAlive == 0 {
		return time.Hour
	}
	return keepAlive + 2*minLinger
}

// Serve takes connections until Close, the end of ctx or of a Drain, or until
// the socket fails. It returns when all handlers have and the socket is
// closed; nil unless the socket failed. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	s.served = make(chan struct{})
	s.mu.Unlock()
	defer close(s.served)
	defer context.AfterFunc(ctx, s.cancel)()
	l, err := s.transport.ListenEarly(tlsConfig(s.TLS), &quic.Config{GetConfigForClient: s.quicConfig, Allow0RTT: true})
	if err == nil {
		err = s.accept(l)
	}
	s.shut()
	return err
}

// accept takes connections until s.ctx ends.
func (s *Server) accept(l *quic.EarlyListener) error {
	for {
		q, err := l.Accept(s.ctx)
		if s.ctx.Err() != nil {
			if err == nil {
				q.CloseWithError(codeNone, "")
			}
			return nil
		}
		if err != nil {
			return err
		}
		s.owned.Go(func() { s.serve(q) })
	}
}

// shut ends what is left.
func (s *Server) shut() {
	s.cancel()
	s.owned.Wait()
	s.transport.Close()
	s.Conn.Close()
}

// serve serves one connection to its end.
func (s *Server) serve(q *quic.Conn) {
	defer context.AfterFunc(s.ctx, func() { q.CloseWithError(codeNone, "") })()
	if q.ConnectionState().Used0RTT {
		s.owned.Go(func() { s.settle(q) })
	} else if !s.settle(q) {
		return
	}
	client := introduce(q)
	if s.Client != nil {
		s.Client(client)
	}
	c := newConn(q, s.Config(), client, s.Handler)
	s.add(c)
	defer s.remove(c)
	err := c.serve()
	client.Close()
	if err != nil && s.Ended != nil {
		s.Ended(client, err)
	}
}

// settle waits for the end of a handshake and reports whether it is complete.
func (s *Server) settle(q *quic.Conn) bool {
	select {
	case <-q.HandshakeComplete():
		s.handshakes.done()
		return true
	case <-q.Context().Done():
		return false
	}
}

func (s *Server) add(c *conn) {
	if s.Opened != nil {
		s.Opened()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if s.draining {
		c.drain(c.config.DrainGrace)
	}
}

func (s *Server) remove(c *conn) {
	if s.Closed != nil {
		s.Closed()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.drained()
}

// Drain refuses new connections, asks the clients of the others to send new
// requests elsewhere, and lets Serve return when the last exchange has ended.
func (s *Server) Drain() {
	grace := max(s.Config().DrainGrace, minGrace)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return
	}
	s.draining = true
	for c := range s.conns {
		c.drain(grace)
	}
	s.grace = time.AfterFunc(grace, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true // handshakes that had begun are complete, or will not be
		s.drained()
	})
}

// drained ends a drain once nothing is left. mu is held.
func (s *Server) drained() {
	if s.over && len(s.conns) == 0 {
		s.cancel()
	}
}

// Close ends all connections and waits for Serve to return.
func (s *Server) Close() error {
	s.cancel()
	s.mu.Lock()
	served := s.served
	if s.grace != nil {
		s.grace.Stop()
	}
	s.mu.Unlock()
	if served == nil {
		return errors.Join(s.transport.Close(), s.Conn.Close())
	}
	<-served
	return nil
}
