package h1

var crlf = []byte("\r\n") // never changed

// writeChunk sends p as one chunk (RFC 9112 section 7.1), or as several that
// each fit the buffer where the kernel cannot gather the pieces.
func (s *stream) writeChunk(p []byte) (int, error) {
	const frame = chunkHead + len("\r\n")
	total := len(p)
	if len(s.out)+len(p)+frame > mediumBuffer && s.x.conn.bare != nil {
		s.out = appendChunkSize(s.buffer(), len(p))
		_, err := s.x.conn.bare.WriteBuffers(s.out, p, crlf)
		s.drop()
		return total, s.wrote(err)
	}
	for len(p) > 0 {
		room := mediumBuffer - frame - len(s.out)
		if room <= 0 || len(p) > room && room < leastRoom {
			if err := s.Flush(); err != nil {
				return total - len(p), err
			}
			continue
		}
		n := min(len(p), room)
		s.out = append(appendChunkSize(s.buffer(), n), p[:n]...)
		s.out = append(s.out, "\r\n"...)
		p = p[n:]
	}
	return total, nil
}
