package config

import "strings"

// withoutBackend settles the certificate of a site whose backend, value, is no
// use: with one it can tell visitors so in TLS as well. Where it is not clear
// that TLS ends here none is ordered, it may be the VM's to get.
func (b *builder) withoutBackend(s *Site, t *table, value any) {
	switch meant(value) {
	case Passthrough:
		s.Certificate, s.CertFile, s.KeyFile = "", "", ""
	case "":
		if t.has("certificate") {
			return
		}
		if s.Certificate == CertACME {
			s.Certificate = ""
		}
		if s.Certificate == "" && uncertifiable(s.Host) {
			s.Certificate = CertLocal
		}
	default:
		b.finishCertificate(s, t)
	}
}

// meant is the scheme that the first backend of a value has, or nearly has;
// empty if that cannot be told.
func meant(value any) Scheme {
	if list, ok := value.([]any); ok && len(list) > 0 {
		value = list[0]
	}
	text, ok := value.(string)
	if !ok {
		return ""
	}
	scheme, _, found := strings.Cut(text, "://")
	if !found {
		return HTTP
	}
	if known := knownScheme(scheme); known != "" {
		return known
	}
	near, _ := nearest(scheme, schemeNames())
	return Scheme(near)
}
