package h2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

const (
	compression = http2.ErrCodeCompression
	frameHeader = 9
)

// frame handles the frame that h announces. The frequent ones are read in
// place, without an object of the Framer's.
func (m *mux) frame(h http2.FrameHeader) error {
	if !m.settled && h.Type != http2.FrameSettings {
		return protocolError(errPreface)
	}
	switch h.Type {
	case http2.FrameData, http2.FrameHeaders, http2.FrameContinuation, http2.FrameWindowUpdate, http2.FrameRSTStream, http2.FramePing:
		if h.Type == http2.FrameHeaders && (!h.Flags.Has(http2.FlagHeadersEndHeaders) || !m.in.has(int(h.Length))) {
			m.blockSince.Store(time.Now().UnixNano())
		}
		p, err := m.in.payload(int(h.Length))
		if err != nil {
			return err
		}
		return m.frequent(h, p)
	}
	f, err := m.fr.ReadFrameForHeader(h)
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := err.(http2.StreamError); ok {
		return m.induce(e.StreamID, e.Code, errOrder)
	}
	if err != nil {
		return cut(err)
	}
	return m.rare(f)
}

func (m *mux) frequent(h http2.FrameHeader, p []byte) error {
	switch h.Type {
	case http2.FrameHeaders:
		return m.headers(h, p)
	case http2.FrameContinuation:
		return m.fragment(h, p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch h.Type {
	case http2.FrameData:
		return m.data(h, p)
	case http2.FrameWindowUpdate:
		return m.windowUpdate(h, p)
	case http2.FramePing:
		return m.ping(h, p)
	}
	return m.rstStream(h, p)
}

// rare handles the frames that nobody sends often. mu is held.
func (m *mux) rare(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return m.settings(f)
	case *http2.GoAwayFrame:
		m.side.goneAway(f.LastStreamID)
		return m.noise()
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			if m.streams[f.StreamID] == nil {
				return protocolError(errDependency)
			}
			return m.induce(f.StreamID, http2.ErrCodeProtocol, errDependency)
		}
	case *http2.PriorityUpdateFrame:
		if s := m.streams[f.PrioritizedStreamID]; s != nil {
			s.prioritise([]byte(f.Priority))
		} else {
			m.side.reprioritised(f.PrioritizedStreamID, f.Priority)
		}
	case *http2.PushPromiseFrame:
		return protocolError(errPush)
	}
	return m.noise()
}

// settings applies the peer's SETTINGS (RFC 9113 section 6.5).
func (m *mux) settings(f *http2.SettingsFrame) error {
	if err := m.noise(); err != nil {
		return err
	}
	if f.IsAck() {
		if !m.settled {
			return protocolError(errPreface)
		}
		m.acknowledged()
		return nil
	}
	if !m.settled {
		m.settled = true
		m.blockSince.Store(0)
	}
	if err := f.ForeachSetting(m.setting); err != nil {
		return err
	}
	m.side.applied()
	m.fr.WriteSettingsAck()
	return m.answered()
}

// acknowledged is told that the peer uses our initial window from now on; it
// may have used the default for streams that are open already.
func (m *mux) acknowledged() {
	if m.acked {
		return
	}
	m.acked = true
	for _, s := range m.streams {
		s.credit -= defaultWindow - initialWindow
		s.window -= defaultWindow - initialWindow
		m.lent += defaultWindow - initialWindow
	}
}

func (m *mux) setting(s http2.Setting) error {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		m.enc.limit(s.Val)
	case http2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return connError{http2.ErrCodeFlowControl, errSetting}
		}
		return m.resize(int64(s.Val))
	case http2.SettingMaxFrameSize:
		if s.Val < maxFrame || s.Val > 1<<24-1 {
			return protocolError(errSetting)
		}
	case http2.SettingEnablePush, http2.SettingEnableConnectProtocol, http2.SettingNoRFC7540Priorities:
		if s.Val > 1 {
			return protocolError(errSetting)
		}
	}
	return m.side.setting(s)
}

// resize changes the windows of all streams (RFC 9113 section 6.9.2).
func (m *mux) resize(initial int64) error {
	by := initial - m.initial
	m.initial = initial
	for _, s := range m.streams {
		if s.send += by; s.send > maxWindow {
			return connError{http2.ErrCodeFlowControl, errIncrement}
		}
		s.writable.Signal()
	}
	return nil
}

// maxUnread is how many bytes of answers to the peer's frames may wait while
// it reads nothing, beyond what streams have to say.
const maxUnread = maxOut + 96<<10

// answered sends what the reader has put into the output, without waiting.
func (m *mux) answered() error {
	if len(m.out.b) > maxUnread {
		return calm(errUnread)
	}
	m.kick()
	return nil
}

func (m *mux) ping(h http2.FrameHeader, p []byte) error {
	switch {
	case len(p) != 8:
		return connError{http2.ErrCodeFrameSize, errFrameSize}
	case h.StreamID != 0:
		return protocolError(errStreamID)
	case h.Flags.Has(http2.FlagPingAck):
		if [8]byte(p) == drainPing {
			m.side.pinged()
		}
		return m.noise()
	}
	m.fr.WritePing(true, [8]byte(p))
	if err := m.noise(); err != nil {
		return err
	}
	return m.answered()
}

// windowUpdate gives us more to send (RFC 9113 section 6.9).
func (m *mux) windowUpdate(h http2.FrameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, errFrameSize}
	}
	if err := m.noise(); err != nil {
		return err
	}
	inc := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if h.StreamID == 0 {
		if m.send += inc; inc == 0 || m.send > maxWindow {
			return connError{windowCode(inc), errIncrement}
		}
		m.grant()
		return nil
	}
	s := m.streams[h.StreamID]
	if s == nil {
		if m.side.idle(h.StreamID) {
			return protocolError(errStreamID)
		}
		return nil
	}
	if s.send += inc; inc == 0 || s.send > maxWindow {
		return m.induce(s.id, windowCode(inc), fields.Malformed(errIncrement))
	}
	s.writable.Signal()
	return nil
}

func windowCode(inc int64) http2.ErrCode {
	if inc == 0 {
		return http2.ErrCodeProtocol
	}
	return http2.ErrCodeFlowControl
}

// rstStream ends a stream that the peer does not want any more.
func (m *mux) rstStream(h http2.FrameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, errFrameSize}
	}
	if m.side.idle(h.StreamID) {
		return protocolError(errStreamID)
	}
	s := m.streams[h.StreamID]
	if s == nil {
		return m.noise()
	}
	m.tell = append(m.tell, s)
	s.owner.resetBy(http2.ErrCode(binary.BigEndian.Uint32(p)))
	m.remove(s)
	return m.countReset()
}

// data takes body bytes (RFC 9113 section 6.1).
func (m *mux) data(h http2.FrameHeader, p []byte) error {
	if h.StreamID == 0 {
		return protocolError(errStreamID)
	}
	data, ok := unpad(h, p)
	if !ok {
		return protocolError(errFrameSize)
	}
	if m.credit -= int64(len(p)); m.credit < 0 {
		return connError{http2.ErrCodeFlowControl, errWindow}
	}
	if m.credit < connWindow/2 {
		m.fr.WriteWindowUpdate(0, uint32(connWindow-m.credit))
		m.credit = connWindow
		m.kick()
	}
	s := m.streams[h.StreamID]
	if s == nil {
		return m.stray(h.StreamID)
	}
	end := h.Flags.Has(http2.FlagDataEndStream)
	if len(data) == 0 && !end {
		if err := m.noise(); err != nil {
			return err
		}
	}
	if code, why := s.arrived(data, int64(len(p)), end); why != nil {
		return m.induce(s.id, code, why)
	}
	return nil
}

// unpad removes the padding of a DATA or HEADERS frame.
func unpad(h http2.FrameHeader, p []byte) (rest []byte, ok bool) {
	const padded = http2.FlagDataPadded // the same bit in both
	if !h.Flags.Has(padded) {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

// headers begins a header block (RFC 9113 section 6.2).
func (m *mux) headers(h http2.FrameHeader, p []byte) error {
	if h.StreamID == 0 {
		return protocolError(errStreamID)
	}
	p, ok := unpad(h, p)
	if !ok {
		return protocolError(errFrameSize)
	}
	m.block.begin(h.StreamID, h.Flags.Has(http2.FlagHeadersEndStream))
	if h.Flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return connError{http2.ErrCodeFrameSize, errFrameSize}
		}
		m.block.selfDep = binary.BigEndian.Uint32(p)&maxWindow == h.StreamID
		p = p[5:]
	}
	return m.fragment(h, p)
}

// fragment takes a part of a header block; the Framer has checked that it
// belongs to the one that was begun.
func (m *mux) fragment(h http2.FrameHeader, p []byte) error {
	b := &m.block
	if err := b.write(p); err != nil {
		return err
	}
	if !h.Flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	if m.blockSince.Load() != 0 {
		m.blockSince.Store(0)
	}
	if err := b.close(); err != nil {
		return err
	}
	err := m.side.headers(b)
	b.done()
	return err
}

// clientGone is why a stream ends that the client cancelled.
func clientGone() error {
	return &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
}
