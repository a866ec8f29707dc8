package h3

import (
	"fmt"

	"github.com/quic-go/quic-go"

	"usher/proxy/fields"
)

// Types of unidirectional streams (RFC 9114 section 6.2, RFC 9204 section 4.2).
const (
	streamControl = 0x0
	streamPush    = 0x1
	streamEncoder = 0x2
	streamDecoder = 0x3
)

// Settings (RFC 9114 section 7.2.4.1, RFC 9204 section 5, RFC 9220).
const (
	settingTable           = 0x1
	settingMaxFieldSection = 0x6
	settingBlocked         = 0x7
	settingConnectProtocol = 0x8
)

const (
	maxSettings    = 4 << 10 // bytes
	maxSettingsIDs = 64
)

// open opens our control stream and sends SETTINGS.
func (c *conn) open() error {
	s, err := c.q.OpenUniStream()
	if err != nil {
		return fmt.Errorf("open a control stream: %w", err)
	}
	var p []byte
	for _, v := range [...]uint64{settingTable, 0, settingMaxFieldSection, fields.MaxSize, settingBlocked, 0, settingConnectProtocol, 1} {
		p = appendVarint(p, v)
	}
	frame := append(appendVarint([]byte{streamControl, frameSettings}, uint64(len(p))), p...)
	c.mu.Lock()
	c.control = s
	c.tell(frame)
	switch c.draining {
	case firstWarning:
		c.goAway(maxStreamID)
	case lastStreams, lingering:
		c.goAway(c.limit)
	}
	c.mu.Unlock()
	c.arm()
	return nil
}

// acceptUni reads the client's unidirectional streams.
func (c *conn) acceptUni() {
	for {
		s, err := c.q.AcceptUniStream(c.ctx)
		if err != nil {
			return
		}
		c.owned.Go(func() {
			if err, ok := c.uni(s).(connError); ok {
				c.fail(err)
			}
			s.ReleaseStreamCredit()
		})
	}
}

// uni reads one unidirectional stream to its end.
func (c *conn) uni(s *quic.ReceiveStream) error {
	in := input{read: s.Read, buf: make([]byte, 128)}
	kind, err := in.varint()
	if err != nil {
		s.CancelRead(codeNone)
		return c.strange()
	}
	switch kind {
	case streamControl, streamEncoder, streamDecoder:
		return critical(c.essential(kind, &in))
	case streamPush:
		return connError{codeStreamCreation, errStreamType}
	}
	s.CancelRead(codeStreamCreation)
	return c.strange()
}

// strange counts a stream that nobody has a use for.
func (c *conn) strange() error {
	if !c.noise(16) {
		return connError{codeExcessive, errNoise}
	}
	return nil
}

// critical makes the end of a critical stream a fault (RFC 9114 section 6.2.1).
func critical(err error) error {
	if _, ok := err.(connError); ok {
		return err
	}
	return connError{codeClosedCritical, errCritical}
}

// essential reads a stream that a client has one of.
func (c *conn) essential(kind uint64, in *input) error {
	at := map[uint64]int{streamControl: 0, streamEncoder: 1, streamDecoder: 2}[kind]
	c.mu.Lock()
	twice := c.seen[at]
	c.seen[at] = true
	c.mu.Unlock()
	switch {
	case twice:
		return connError{codeStreamCreation, errStreamType}
	case kind == streamEncoder:
		return c.instructions(in)
	case kind == streamDecoder:
		return c.acknowledgements(in)
	}
	return (&controls{c: c, in: in}).read()
}

// instructions reads the client's encoder stream (RFC 9204 section 4.3): with
// a table of 0 bytes only its capacity can be set, to 0.
func (c *conn) instructions(in *input) error {
	for {
		for _, b := range in.unread() {
			if b != 0x20 {
				return connError{codeEncoderStream, errTable}
			}
		}
		if !c.noise(len(in.unread())) {
			return connError{codeExcessive, errNoise}
		}
		in.r = in.w
		if err := in.fill(); err != nil {
			return err
		}
	}
}

// acknowledgements reads the client's decoder stream (section 4.4): we insert
// nothing, so that there are only cancellations of streams.
func (c *conn) acknowledgements(in *input) error {
	for tail := false; ; {
		for _, b := range in.unread() {
			if !tail && b>>6 != 1 {
				return connError{codeDecoderStream, errTable}
			}
			tail = tail && b >= 0x80 || !tail && b&0x3f == 0x3f
		}
		if !c.noise(len(in.unread())) {
			return connError{codeExcessive, errNoise}
		}
		in.r = in.w
		if err := in.fill(); err != nil {
			return err
		}
	}
}

// controls reads the client's control stream (RFC 9114 section 7.2).
type controls struct {
	c       *conn
	in      *input
	settled bool   // SETTINGS have come
	pushes  uint64 // the MAX_PUSH_ID
	away    uint64 // the GOAWAY, plus 1
}

func (r *controls) read() error {
	for {
		kind, n, err := r.in.header()
		if err != nil {
			return err
		}
		switch {
		case kind == frameSettings && !r.settled:
			err = r.settings(n)
		case !r.settled:
			err = connError{codeNoSettings, errSettings}
		case kind == frameGoAway || kind == frameMaxPushID || kind == frameCancelPush:
			err = r.number(kind, n)
		case kind == framePriority || kind == framePriorityEnd:
			err = r.priority(kind, n)
		case !misplaced(kind) && kind != frameData && kind != frameHeaders:
			err = r.ignore(n)
		default:
			err = connError{codeUnexpected, errOrder}
		}
		if err != nil {
			return err
		}
	}
}

// ignore skips a frame that we have no use for.
func (r *controls) ignore(n uint64) error {
	if !r.c.noise(weight(n)) {
		return connError{codeExcessive, errNoise}
	}
	return r.in.skip(&n)
}

// settings reads SETTINGS. None of a client concerns a server that sends neither
// pushes nor references to a dynamic table.
func (r *controls) settings(n uint64) error {
	if n > maxSettings {
		return connError{codeExcessive, errSettings}
	}
	p, err := r.in.payload(int(n), func(int) error { return nil })
	if err != nil {
		return err
	}
	r.settled = true
	return checkSettings(p)
}

// checkSettings refuses what no client may send.
func checkSettings(p []byte) error {
	var ids []uint64
	for len(p) > 0 {
		id, n := parseVarint(p)
		value, m := parseVarint(p[n:])
		if n == 0 || m == 0 {
			return connError{codeFrame, errFrame}
		}
		p = p[n+m:]
		for _, other := range ids {
			if id == other {
				return connError{codeSettings, errSettings}
			}
		}
		if id >= 0x2 && id <= 0x5 || id == settingConnectProtocol && value > 1 || id == 0x33 && value > 1 {
			return connError{codeSettings, errSettings}
		}
		if ids = append(ids, id); len(ids) > maxSettingsIDs {
			return connError{codeExcessive, errSettings}
		}
	}
	return nil
}

// number reads a frame that is one identifier.
func (r *controls) number(kind, n uint64) error {
	if n < 1 || n > 8 {
		return connError{codeFrame, errFrame}
	}
	p, err := r.in.payload(int(n), func(int) error { return nil })
	if err != nil {
		return err
	}
	v, used := parseVarint(p)
	switch {
	case used != len(p):
		return connError{codeFrame, errFrame}
	case kind == frameCancelPush: // we have promised nothing
		return connError{codeID, errID}
	case kind == frameMaxPushID && v < r.pushes:
		return connError{codeID, errID}
	case kind == frameMaxPushID:
		r.pushes = v
	case r.away > 0 && v > r.away-1:
		return connError{codeID, errID}
	default:
		r.away = v + 1
	}
	if !r.c.noise(1) {
		return connError{codeExcessive, errNoise}
	}
	return nil
}
