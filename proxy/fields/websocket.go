package fields

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"

	"usher/proxy/message"
)

// webSocketKey makes an extended CONNECT for a WebSocket one that an HTTP/1.1
// VM understands: HTTP/2 and HTTP/3 have no Sec-WebSocket-Key (RFC 8441
// section 5, RFC 9220 section 3), so usher is the client that chooses it, and
// checks the answer to it.
func webSocketKey(req *message.Request) *message.Error {
	versions, thirteen := 0, false
	for _, f := range req.Header.All() {
		if f.ID == message.SecWebSocketVersion {
			versions, thirteen = versions+1, string(f.Value) == "13"
		}
	}
	if versions != 1 || !thirteen {
		return Refuse(426, ErrSocketVer)
	}
	req.Header.DeleteFunc(func(f *message.Field) bool { return f.ID == message.SecWebSocketKey })
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.AppendEncode(make([]byte, 0, 24), nonce[:])
	req.Header.AddField(message.SecWebSocketKey, keyName, key)
	return nil
}

var keyName = []byte("sec-websocket-key")

// Accepted reports whether a 101 answers the key (RFC 6455 section 4.1). A
// protocol that is no WebSocket has none.
func Accepted(req *message.Request, resp *message.Response) bool {
	key, ok := req.Header.Get(message.SecWebSocketKey)
	if !ok {
		return true
	}
	got, _ := resp.Header.Lookup("Sec-WebSocket-Accept")
	return string(got) == string(Acceptance(key))
}

// Accept makes a response one that answers the key, if there is one: a VM of
// HTTP/2 was not asked.
func Accept(req *message.Request, resp *message.Response) {
	if key, ok := req.Header.Get(message.SecWebSocketKey); ok {
		resp.Header.Add(acceptName, Acceptance(key))
	}
}

var acceptName = []byte("sec-websocket-accept")

// Acceptance is the Sec-WebSocket-Accept for a key.
func Acceptance(key []byte) []byte {
	const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	sum := sha1.Sum(append(append(make([]byte, 0, 64), key...), guid...))
	return base64.StdEncoding.AppendEncode(make([]byte, 0, 28), sum[:])
}

// OfHandshake reports a field that only the HTTP/1.1 handshake has.
func OfHandshake(f *message.Field) bool {
	return message.EqualFold(f.Name, "sec-websocket-accept")
}
