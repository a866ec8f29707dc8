package h1

var crlf = []byte("\r\n") // never changed

// writeChunk sends p as one chunk (RFC 9112 section 7.1), which is held back if
// it is small.
func (s *stream) writeChunk(p []byte) (int, error) {
	s.out = appendChunkSize(s.buffer(), len(p))
	if len(s.out)+len(p)+len(crlf) <= mediumBuffer {
		s.out = append(append(s.out, p...), crlf...)
		return len(p), nil
	}
	return len(p), s.gather(p, crlf)
}
