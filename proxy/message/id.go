package message

// ID names the header fields that some part of usher acts on; all others are
// Other.
type ID uint8

const (
	Other ID = iota
	// Framing and connection: never in a Header, see there.
	Connection
	ContentLength
	Expect
	Host
	HTTP2Settings
	KeepAlive
	ProxyConnection
	TE
	TransferEncoding
	Upgrade
	// Between one hop and the next: a proxy never passes them on.
	ProxyAuthenticate
	ProxyAuthorization
	// Said of the client by us, believed only from a trusted proxy. The
	// underscore spellings classify as these too.
	Forwarded
	XForwarded // any X-Forwarded-* that has no ID of its own
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XRealIP
	XRequestID
	// Others that something looks at.
	Accept
	AltSvc
	Authorization
	ContentEncoding
	ContentRange
	ContentType
	Cookie
	Date
	EarlyData
	Location
	Referer
	RetryAfter
	SecWebSocketKey
	SecWebSocketVersion
	Server
	SetCookie
	StrictTransportSecurity
	Trailer
	UserAgent
	Via
	WWWAuthenticate
)

// Classify finds the ID of a field name in any case. An underscore counts as
// a dash only for the forwarding family, because some VMs read
// X_Forwarded_For as the real one: for anything else my_field and my-field
// are two fields.
func Classify(name []byte) ID {
	switch len(name) {
	case 2:
		switch {
		case is(name, "te"):
			return TE
		}
	case 3:
		switch {
		case is(name, "via"):
			return Via
		}
	case 4:
		switch {
		case is(name, "date"):
			return Date
		case is(name, "host"):
			return Host
		}
	case 6:
		switch {
		case is(name, "accept"):
			return Accept
		case is(name, "cookie"):
			return Cookie
		case is(name, "expect"):
			return Expect
		case is(name, "server"):
			return Server
		}
	case 7:
		switch {
		case is(name, "alt-svc"):
			return AltSvc
		case is(name, "referer"):
			return Referer
		case is(name, "trailer"):
			return Trailer
		case is(name, "upgrade"):
			return Upgrade
		}
	case 8:
		switch {
		case is(name, "location"):
			return Location
		}
	case 9:
		switch {
		case spells(name, "forwarded"):
			return Forwarded
		case spells(name, "x-real-ip"):
			return XRealIP
		}
	case 10:
		switch {
		case is(name, "connection"):
			return Connection
		case is(name, "early-data"):
			return EarlyData
		case is(name, "keep-alive"):
			return KeepAlive
		case is(name, "set-cookie"):
			return SetCookie
		case is(name, "user-agent"):
			return UserAgent
		}
	case 11:
		switch {
		case is(name, "retry-after"):
			return RetryAfter
		}
	case 12:
		switch {
		case is(name, "content-type"):
			return ContentType
		case spells(name, "x-request-id"):
			return XRequestID
		}
	case 13:
		switch {
		case is(name, "authorization"):
			return Authorization
		case is(name, "content-range"):
			return ContentRange
		}
	case 14:
		switch {
		case is(name, "content-length"):
			return ContentLength
		case is(name, "http2-settings"):
			return HTTP2Settings
		}
	case 15:
		switch {
		case spells(name, "x-forwarded-for"):
			return XForwardedFor
		}
	case 16:
		switch {
		case is(name, "content-encoding"):
			return ContentEncoding
		case is(name, "proxy-connection"):
			return ProxyConnection
		case is(name, "www-authenticate"):
			return WWWAuthenticate
		case spells(name, "x-forwarded-host"):
			return XForwardedHost
		case spells(name, "x-forwarded-port"):
			return XForwardedPort
		}
	case 17:
		switch {
		case is(name, "sec-websocket-key"):
			return SecWebSocketKey
		case is(name, "transfer-encoding"):
			return TransferEncoding
		case spells(name, "x-forwarded-proto"):
			return XForwardedProto
		}
	case 18:
		switch {
		case is(name, "proxy-authenticate"):
			return ProxyAuthenticate
		}
	case 19:
		switch {
		case is(name, "proxy-authorization"):
			return ProxyAuthorization
		}
	case 21:
		switch {
		case is(name, "sec-websocket-version"):
			return SecWebSocketVersion
		}
	case 25:
		switch {
		case is(name, "strict-transport-security"):
			return StrictTransportSecurity
		}
	}
	if len(name) >= len(forwardedFamily) && spells(name[:len(forwardedFamily)], forwardedFamily) {
		return XForwarded
	}
	return Other
}

const forwardedFamily = "x-forwarded-"

// is compares a name of the right length; most differ in the first letter.
func is(name []byte, lower string) bool { return name[0]|0x20 == lower[0] && EqualFold(name, lower) }

// spells is like is, with underscores for dashes.
func spells(name []byte, lower string) bool {
	if name[0]|0x20 != lower[0] {
		return false
	}
	for i, c := range name {
		if c-'A' < 26 {
			c |= 0x20
		} else if c == '_' {
			c = '-'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// Forwarding reports whether the field says something of the client that only
// a proxy may say.
func (id ID) Forwarding() bool { return id >= Forwarded && id <= XRealIP }

// Managed reports whether usher writes the field itself, so that no
// Connection field and no trailer may name it.
func (id ID) Managed() bool {
	return id >= Connection && id <= XRequestID || id == Via || id == AltSvc || id == Trailer ||
		id == Authorization || id == Cookie || id == EarlyData || id == StrictTransportSecurity
}

// HopByHop reports whether the field belongs to one connection and is dropped
// by every codec (RFC 9110 section 7.6.1).
func (id ID) HopByHop() bool {
	switch id {
	case Connection, KeepAlive, ProxyConnection, TE, TransferEncoding, Upgrade, HTTP2Settings, ProxyAuthenticate, ProxyAuthorization:
		return true
	}
	return false
}

// AllowedInTrailer reports whether a trailer field may be passed on (RFC 9110
// section 6.5.1): none that frames, routes, authenticates or controls a
// message, and none that usher manages, spelled with dashes or underscores.
func AllowedInTrailer(f *Field) bool {
	if f.ID.HopByHop() || f.ID.Managed() {
		return false
	}
	for _, name := range [...]string{
		"accept-ranges", "age", "authentication-info", "cache-control", "clear-site-data", "connection",
		"content-encoding", "content-length", "content-location", "content-range", "content-type", "cookie",
		"date", "expect", "expires", "host", "http2-settings", "keep-alive", "location", "max-forwards", "pragma",
		"proxy-connection", "range", "retry-after", "set-cookie", "strict-transport-security", "te", "trailer",
		"transfer-encoding", "upgrade", "vary", "via", "warning", "www-authenticate", "x-request-id",
	} {
		if len(name) == len(f.Name) && spells(f.Name, name) {
			return false
		}
	}
	for _, family := range [...]string{"if-", "proxy-", "sec-websocket-", "authorization"} {
		if len(f.Name) >= len(family) && spells(f.Name[:len(family)], family) {
			return false
		}
	}
	return true
}
