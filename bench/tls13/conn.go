package tls13

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"encoding/binary"
	"errors"
	"fmt"
)

// Conn is one connection. It does no input or output.
type Conn struct {
	t          *Template
	in         []byte // an incomplete record
	messages   []byte // handshake messages that are not complete or not hashed yet
	transcript []byte
	handshake  []byte // its secret
	clientKeys keys   // of the client's own handshake messages, then of its data
	serverKeys keys
	clientHS   []byte
	master     []byte
	wantTicket bool
	resMaster  []byte

	Ready   bool     // the handshake is complete, data may be sealed
	Resumed bool     // by the template's session
	Closed  bool     // close_notify has come
	Session *Session // the first one that came, if it was asked for
}

// Conn begins a connection; tickets asks for its Session.
func (t *Template) Conn(tickets bool) *Conn {
	return &Conn{t: t, transcript: append(make([]byte, 0, 4096), t.hello[5:]...), wantTicket: tickets}
}

// Hello is what the connection sends first.
func (c *Conn) Hello() []byte { return c.t.hello }

// keys protect one direction.
type keys struct {
	aead cipher.AEAD
	iv   [12]byte
	seq  uint64
}

func newKeys(secret []byte) (k keys, err error) {
	block, err := aes.NewCipher(expand(secret, "key", nil, 16))
	if err != nil {
		return k, err
	}
	k.aead, err = cipher.NewGCM(block)
	copy(k.iv[:], expand(secret, "iv", nil, 12))
	return k, err
}

func (k *keys) nonce() (n [12]byte) {
	n = k.iv
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], k.seq)
	for i, b := range seq {
		n[4+i] ^= b
	}
	k.seq++
	return n
}

// Seal appends a record with data to dst.
func (c *Conn) Seal(dst, data []byte) []byte { return c.seal(dst, 23, data) }

func (c *Conn) seal(dst []byte, kind byte, data []byte) []byte {
	head := [5]byte{23, 3, 3}
	binary.BigEndian.PutUint16(head[3:], uint16(len(data)+1+16))
	dst = append(dst, head[:]...)
	start := len(dst)
	dst = append(append(dst, data...), kind)
	nonce := c.clientKeys.nonce()
	return c.clientKeys.aead.Seal(dst[:start], nonce[:], dst[start:], head[:])
}

// Receive takes what has arrived, which it overwrites. It passes data on, and
// returns what the client has to send when that completes the handshake.
func (c *Conn) Receive(p []byte, data func([]byte)) (reply []byte, err error) {
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	for len(p) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(p[3:]))
		if len(p) < n {
			break
		}
		r, err := c.record(p[0], p[:n], data)
		if err != nil {
			return nil, err
		}
		reply = append(reply, r...)
		p = p[n:]
	}
	c.in = append(c.in[:0], p...)
	return reply, nil
}

func (c *Conn) record(kind byte, p []byte, data func([]byte)) (reply []byte, err error) {
	switch {
	case kind == 20: // change_cipher_spec means nothing
		return nil, nil
	case kind == 22 && c.handshake == nil:
		return c.take(p[5:])
	case kind != 23 || c.serverKeys.aead == nil:
		return nil, fmt.Errorf("a record of type %d in between: %x", kind, p[5:min(len(p), 10)])
	}
	nonce := c.serverKeys.nonce()
	plain, err := c.serverKeys.aead.Open(p[5:5], nonce[:], p[5:], p[:5])
	if err != nil {
		return nil, err
	}
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 {
		end--
	}
	if end < 0 {
		return nil, errors.New("a record without a type")
	}
	switch plain[end] {
	case 21:
		c.Closed = true
		if end < 2 || plain[1] != 0 {
			return nil, fmt.Errorf("alert %v", plain[:end])
		}
	case 22:
		return c.take(plain[:end])
	case 23:
		data(plain[:end])
	}
	return nil, nil
}

// take handles handshake messages.
func (c *Conn) take(p []byte) (reply []byte, err error) {
	c.messages = append(c.messages, p...)
	for len(c.messages) >= 4 {
		n := 4 + int(c.messages[1])<<16 + int(c.messages[2])<<8 + int(c.messages[3])
		if len(c.messages) < n {
			break
		}
		m := c.messages[:n]
		if !c.Ready {
			c.transcript = append(c.transcript, m...)
		}
		switch m[0] {
		case 2:
			err = c.serverHello(m[4:])
		case 20:
			reply, err = c.finished()
		case 4:
			c.ticket(m[4:])
		}
		if err != nil {
			return nil, err
		}
		c.messages = append(c.messages[:0], c.messages[n:]...)
	}
	return reply, nil
}

func (c *Conn) serverHello(p []byte) error {
	if len(p) < 40 || len(p) < 40+int(p[34]) {
		return errors.New("a short ServerHello")
	}
	p = p[35+int(p[34]):]
	if suite := binary.BigEndian.Uint16(p); suite != 0x1301 {
		return fmt.Errorf("cipher suite %04x", suite)
	}
	var share []byte
	for p = p[5:]; len(p) >= 4; {
		kind, n := binary.BigEndian.Uint16(p), 4+int(binary.BigEndian.Uint16(p[2:]))
		if len(p) < n {
			return errors.New("a short extension")
		}
		switch {
		case kind == 51 && n == 4+4+32:
			share = p[8:n]
		case kind == 41:
			c.Resumed = true
		}
		p = p[n:]
	}
	key, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		return fmt.Errorf("key share: %w", err)
	}
	secret, err := c.t.share.ECDH(key)
	if err != nil {
		return err
	}
	early := c.t.early
	if c.t.psk && !c.Resumed {
		return errors.New("the session was not resumed")
	}
	c.handshake = extract(early, secret)
	hash := sum(c.transcript)
	c.clientHS = derive(c.handshake, "c hs traffic", hash)
	if c.clientKeys, err = newKeys(c.clientHS); err != nil {
		return err
	}
	c.serverKeys, err = newKeys(derive(c.handshake, "s hs traffic", hash))
	return err
}

// finished answers the server's, whose records the AEAD has authenticated.
func (c *Conn) finished() ([]byte, error) {
	hash := sum(c.transcript)
	verify := mac(expand(c.clientHS, "finished", nil, 32), hash)
	message := append([]byte{20, 0, 0, 32}, verify...)
	reply := c.seal([]byte{20, 3, 3, 0, 1, 1}, 22, message)
	c.master = extract(derive(c.handshake, "derived", sum(nil)), make([]byte, 32))
	var err error
	if c.clientKeys, err = newKeys(derive(c.master, "c ap traffic", hash)); err != nil {
		return nil, err
	}
	if c.serverKeys, err = newKeys(derive(c.master, "s ap traffic", hash)); err != nil {
		return nil, err
	}
	if c.wantTicket {
		c.resMaster = derive(c.master, "res master", sum(append(c.transcript, message...)))
	}
	c.Ready, c.transcript = true, nil
	return reply, nil
}

// ticket keeps the first NewSessionTicket.
func (c *Conn) ticket(p []byte) {
	if !c.wantTicket || c.Session != nil || len(p) < 9 || len(p) < 9+int(p[8])+2 {
		return
	}
	nonce, rest := p[9:9+int(p[8])], p[9+int(p[8]):]
	n := int(binary.BigEndian.Uint16(rest))
	if len(rest) < 2+n {
		return
	}
	c.Session = &Session{ticket: append([]byte(nil), rest[2:2+n]...), psk: expand(c.resMaster, "resumption", nonce, 32), ageAdd: binary.BigEndian.Uint32(p[4:])}
}
