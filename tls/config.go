package tls

import (
	"crypto/sha256"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// alpnChallenge is the protocol of a TLS-ALPN-01 validation (RFC 8737).
const alpnChallenge = "acme-tls/1"

var errNotChallenge = errors.New("not a hello of an ACME validation")

// ServerConfig is the one configuration of every handshake that is not a
// validation: TLS 1.2 and 1.3, Go's own choice of everything else. It must not
// be changed; clones share its ticket keys, which crypto/tls replaces every
// day and forgets after a week.
//
// A name that is not wanted is answered unrecognized_name, one that has no
// certificate to show internal_error.
func (c *Certificates) ServerConfig() *cryptotls.Config { return c.tickets }

// ChallengeConfig answers TLS-ALPN-01 validations (RFC 8737) of names that are
// wanted from ACME and nothing else. It must not be changed.
func (c *Certificates) ChallengeConfig() *cryptotls.Config { return c.challenge }

func (c *Certificates) serverConfig() *cryptotls.Config {
	cfg := &cryptotls.Config{
		MinVersion:     cryptotls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1", "http/1.0"},
		GetCertificate: c.getCertificate,
		// The codecs gather what belongs together; small first records would
		// cost a system call each.
		DynamicRecordSizingDisabled: true,
	}
	cfg.WrapSession = func(cs cryptotls.ConnectionState, ss *cryptotls.SessionState) ([]byte, error) {
		if bond := c.bond(cs.ServerName); bond != "" {
			ss.Extra = append(ss.Extra, []byte(bond))
		}
		return cfg.EncryptTicket(cs, ss)
	}
	cfg.UnwrapSession = func(ticket []byte, cs cryptotls.ConnectionState) (*cryptotls.SessionState, error) {
		ss, err := cfg.DecryptTicket(ticket, cs)
		if err != nil || ss == nil || !c.bound(ss, cs.ServerName) {
			return nil, err
		}
		return ss, nil
	}
	return cfg
}

// getCertificate returns no error for a name that is not wanted: crypto/tls
// turns that into unrecognized_name, and any error into internal_error.
func (c *Certificates) getCertificate(h *cryptotls.ClientHelloInfo) (*cryptotls.Certificate, error) {
	s := c.find(h.ServerName)
	if s == nil {
		return nil, nil
	}
	now, err := c.show(s, h.ServerName, localAddr(h.Conn))
	if err != nil {
		return nil, err
	}
	return now.cert, nil
}

const bondPrefix = "usher "

// bond ties a ticket to the name it was given for and to the certificate that
// was shown with it. A resumed session shows no certificate, so it may only
// stand for a handshake that would show the same one for the same name. There
// is no bond, and so no resumption, without a name.
func (c *Certificates) bond(serverName string) string {
	s := c.find(serverName)
	if s == nil || serverName == "" {
		return ""
	}
	now, err := c.show(s, serverName, netip.Addr{})
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(append(now.print[:], strings.ToLower(serverName)...))
	return bondPrefix + string(sum[:])
}

func (c *Certificates) bound(ss *cryptotls.SessionState, serverName string) bool {
	bond := c.bond(serverName)
	for _, extra := range ss.Extra {
		if strings.HasPrefix(string(extra), bondPrefix) {
			return string(extra) == bond
		}
	}
	return false
}

func (c *Certificates) challengeConfig() *cryptotls.Config {
	return &cryptotls.Config{
		MinVersion:             cryptotls.VersionTLS12,
		NextProtos:             []string{alpnChallenge},
		SessionTicketsDisabled: true,
		GetCertificate:         c.getChallenge,
	}
}

func (c *Certificates) getChallenge(h *cryptotls.ClientHelloInfo) (*cryptotls.Certificate, error) {
	if len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != alpnChallenge {
		return nil, errNotChallenge
	}
	s := c.find(h.ServerName)
	if s == nil {
		return nil, nil
	}
	if s.want.Kind != KindACME {
		return nil, fmt.Errorf("%q does not get its certificate from ACME", h.ServerName)
	}
	return c.orders.challengeCertificate(h)
}

// HTTPChallenge is the answer to GET /.well-known/acme-challenge/token
// (RFC 8555 section 8.3), if the token is one of ours for this very host:
// ordered by this process, or by another one that shares the state directory.
func (c *Certificates) HTTPChallenge(host, token string) (keyAuth string, ok bool) {
	s := c.find(host)
	if s == nil || s.want.Kind != KindACME || !isToken(token) {
		return "", false
	}
	return c.orders.httpChallenge(host, token)
}

// isToken: base64url without padding (RFC 8555 section 8.3).
func isToken(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '_':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 512
}
