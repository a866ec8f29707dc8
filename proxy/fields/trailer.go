package fields

import "usher/proxy/message"

// Trailer copies the fields of a trailer section into h, but for those that
// mean something only in a head (RFC 9113 section 8.1, RFC 9114 section 4.1).
func Trailer(s *Section, h *message.Header) *message.Error {
	if s.TooLarge {
		return Malformed(ErrTooLarge)
	}
	arena := make([]byte, 0, s.text())
	for i := range s.Lines {
		l := &s.Lines[i]
		value := trim(l.Value)
		id := message.Classify(bytesOf(l.Name))
		switch {
		case l.pseudo():
			return Malformed(ErrPseudo)
		case !all(l.Name, tokenL, nameH):
			return Malformed(ErrName)
		case !isText(bytesOf(value)):
			return Malformed(ErrValue)
		case id.HopByHop():
			return Malformed(ErrHop)
		case !message.AllowedInTrailer(&message.Field{Name: bytesOf(l.Name), ID: id}):
			continue
		}
		var name, kept []byte
		arena, name = keep(arena, l.Name)
		arena, kept = keep(arena, value)
		h.AddField(id, name, kept)
	}
	return nil
}
