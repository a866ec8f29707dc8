package fields

import "usher/proxy/message"

// Response fills r from the section of a response head, all but its Body (RFC
// 9113 section 8.3.2). Length is message.Unknown unless it was declared. The
// names and values are copied into arena, which has room for s.Size bytes and
// is returned longer. The error is a Fault.
func Response(s *Section, arena []byte, r *message.Response) ([]byte, error) {
	if s.TooLarge {
		return arena, ErrTooLarge
	}
	r.Status, r.Length = 0, message.Unknown
	r.Header.Reset()
	for i := range s.Lines {
		l := &s.Lines[i]
		if l.pseudo() {
			if l.Name != ":status" || i > 0 {
				return arena, ErrPseudo
			}
			n, ok := decimal(l.Value)
			if !ok || len(l.Value) != 3 || n < 100 {
				return arena, ErrStatus
			}
			r.Status = int(n)
			continue
		}
		value := trim(l.Value)
		id, err := responseField(l.Name, value, r)
		if err != nil {
			return arena, err
		}
		if id == message.ContentLength || id.HopByHop() {
			continue
		}
		var name, kept []byte
		arena, name = keep(arena, l.Name)
		arena, kept = keep(arena, value)
		r.Header.AddField(id, name, kept)
	}
	if r.Status == 0 {
		return arena, ErrPseudo
	}
	return arena, nil
}

// responseField judges one regular field of a response.
func responseField(name, value string, r *message.Response) (id message.ID, err error) {
	if !all(name, tokenL, nameH) {
		return id, ErrName
	}
	if !isText(bytesOf(value)) {
		return id, ErrValue
	}
	id = message.Classify(bytesOf(name))
	switch {
	case id.HopByHop() && id != message.ProxyAuthenticate && id != message.ProxyAuthorization:
		return id, ErrHop
	case id == message.ContentLength:
		n, ok := decimal(value)
		if !ok || r.Length != message.Unknown {
			return id, ErrLength
		}
		r.Length = n
	}
	return id, nil
}
