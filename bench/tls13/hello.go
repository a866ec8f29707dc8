// Package tls13 is a TLS 1.3 client for load: one cipher suite, one group, one
// key share for all connections, no look at the certificate. It does what the
// server cannot do without and spares itself the rest, so that a handshake costs
// it a third of what it costs the server. It is good for nothing else.
package tls13

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// Template is what many connections have in common: the ClientHello and what
// follows from it.
type Template struct {
	hello []byte // a whole record
	share *ecdh.PrivateKey
	early []byte // the early secret, derived for the next step (RFC 8446, 7.1)
	psk   bool
}

// New makes the template of full handshakes for a server name.
func New(name string) (*Template, error) {
	share, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &Template{share: share, early: derive(extract(nil, make([]byte, 32)), "derived", sum(nil))}
	t.hello = record(22, t.clientHello(name, nil))
	return t, nil
}

// Session is what a server gave for resumption.
type Session struct {
	ticket, psk []byte
	ageAdd      uint32
}

// Resume makes the template of handshakes that resume a session. The hello is
// the same each time, its binder too.
func (t *Template) Resume(name string, s *Session) *Template {
	early := extract(nil, s.psk)
	r := &Template{share: t.share, psk: true, early: derive(early, "derived", sum(nil))}
	hello := r.clientHello(name, s)
	const binders = 2 + 1 + 32
	whole := len(hello)
	key := expand(derive(early, "res binder", sum(nil)), "finished", nil, 32)
	copy(hello[whole-32:], mac(key, sum(hello[:whole-binders])))
	r.hello = record(22, hello)
	return r
}

// clientHello is the handshake message, with room for a binder at its end if
// there is a session.
func (t *Template) clientHello(name string, s *Session) []byte {
	random := make([]byte, 64) // with the session ID of the compatibility mode
	rand.Read(random)
	var ext []byte
	add := func(kind uint16, body []byte) {
		ext = binary.BigEndian.AppendUint16(ext, kind)
		ext = append(binary.BigEndian.AppendUint16(ext, uint16(len(body))), body...)
	}
	add(0, vector2(append([]byte{0}, vector2([]byte(name))...)))                     // server_name
	add(10, vector2([]byte{0, 29}))                                                  // supported_groups: x25519
	add(13, vector2([]byte{4, 3, 8, 4, 4, 1}))                                       // signature_algorithms
	add(16, vector2(vector1([]byte("http/1.1"))))                                    // ALPN
	add(43, vector1([]byte{3, 4}))                                                   // supported_versions
	add(45, vector1([]byte{1}))                                                      // psk_dhe_ke
	add(51, vector2(append([]byte{0, 29}, vector2(t.share.PublicKey().Bytes())...))) // key_share
	if s != nil {
		identity := binary.BigEndian.AppendUint32(vector2(s.ticket), s.ageAdd) // 0 ms old
		add(41, append(vector2(identity), vector2(vector1(make([]byte, 32)))...))
	}
	body := append([]byte{3, 3}, random[:32]...)
	body = append(body, vector1(random[32:])...)
	body = append(body, vector2([]byte{0x13, 0x01})...) // TLS_AES_128_GCM_SHA256
	body = append(body, 1, 0)
	body = append(body, vector2(ext)...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func vector1(p []byte) []byte { return append([]byte{byte(len(p))}, p...) }

func vector2(p []byte) []byte { return append([]byte{byte(len(p) >> 8), byte(len(p))}, p...) }

// record frames a plaintext record.
func record(kind byte, p []byte) []byte { return append([]byte{kind, 3, 1}, vector2(p)...) }

// sum is the hash of a transcript.
func sum(p []byte) []byte {
	h := sha256.Sum256(p)
	return h[:]
}

func mac(key, p []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(p)
	return h.Sum(nil)
}

func extract(salt, secret []byte) []byte {
	if salt == nil {
		salt = make([]byte, 32)
	}
	return mac(salt, secret)
}

// derive is Derive-Secret with the hash of the messages.
func derive(secret []byte, label string, hash []byte) []byte { return expand(secret, label, hash, 32) }

// expand is HKDF-Expand-Label.
func expand(secret []byte, label string, context []byte, length int) []byte {
	info := append([]byte{0, byte(length)}, vector1([]byte("tls13 "+label))...)
	info = append(info, vector1(context)...)
	out, err := hkdf.Expand(sha256.New, secret, string(info), length)
	if err != nil {
		panic(err) // the lengths are constants
	}
	return out
}
