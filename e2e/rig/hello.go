package rig

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// Hello is the bytes of a ClientHello, records and all, as Go's client would
// send it.
func Hello(t testing.TB, conf *tls.Config) []byte {
	t.Helper()
	conf = conf.Clone()
	conf.InsecureSkipVerify = true
	ours, theirs := net.Pipe()
	defer ours.Close()
	go tls.Client(theirs, conf).Handshake() // ends when the pipe is closed
	ours.SetReadDeadline(time.Now().Add(10 * time.Second))
	var hello []byte
	for need := 4; len(Handshake(hello)) < need; {
		record := readRecord(t, ours)
		hello = append(hello, record...)
		if h := Handshake(hello); len(h) >= 4 {
			need = 4 + int(h[1])<<16 + int(h[2])<<8 + int(h[3])
		}
	}
	return hello
}

func readRecord(t testing.TB, r io.Reader) []byte {
	t.Helper()
	b := make([]byte, 5)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b[3:]))...)
	if _, err := io.ReadFull(r, b[5:]); err != nil {
		t.Fatal(err)
	}
	return b
}

// Handshake is the handshake bytes inside whole records.
func Handshake(records []byte) (h []byte) {
	for len(records) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(records[3:]))
		if n > len(records) {
			break
		}
		h, records = append(h, records[5:n]...), records[n:]
	}
	return h
}

// Records puts handshake bytes into records of at most size bytes each.
func Records(handshake []byte, size int) []byte {
	var b bytes.Buffer
	for len(handshake) > 0 {
		n := min(size, len(handshake))
		b.Write([]byte{22, 3, 1, byte(n >> 8), byte(n)})
		b.Write(handshake[:n])
		handshake = handshake[n:]
	}
	return b.Bytes()
}

// Fragmented is a connection whose first flight is put into small records, or
// sent in small segments, or both; 0 leaves the one or the other as it is.
type Fragmented struct {
	net.Conn
	Record, Segment int
	done            bool
}

// Write rewrites what it is given until a write holds no handshake record.
func (f *Fragmented) Write(p []byte) (int, error) {
	if f.done || len(p) == 0 || p[0] != 22 {
		f.done = true
		return f.Conn.Write(p)
	}
	b := p
	if f.Record > 0 {
		b = Records(Handshake(p), f.Record)
	}
	step := len(b)
	if f.Segment > 0 {
		step = f.Segment
	}
	for len(b) > 0 {
		n := min(step, len(b))
		if _, err := f.Conn.Write(b[:n]); err != nil {
			return 0, err
		}
		b = b[n:]
	}
	return len(p), nil
}
