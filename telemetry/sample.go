package telemetry

import (
	"crypto/tls"
	"sync"
	"time"
)

// perSecond is how many refusals of one cause are logged in a second.
const perSecond = 10

// sample lets through the first lines of every second.
type sample struct {
	mu      sync.Mutex
	second  int64
	passed  int
	skipped int64 // since the last line that passed
}

func (s *sample) allow(now time.Time) (ok bool, skipped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sec := now.Unix(); sec != s.second {
		s.second, s.passed = sec, 0
	}
	if s.passed == perSecond {
		s.skipped++
		return false, 0
	}
	s.passed++
	skipped, s.skipped = s.skipped, 0
	return true, skipped
}

// versionName is a TLS version as logs of other servers spell it.
func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS10:
		return "TLSv1.0"
	}
	return "unknown"
}

// cipherNames is made once per log: crypto/tls builds its list anew for every
// look-up.
func cipherNames() map[uint16]string {
	names := make(map[uint16]string)
	for _, s := range tls.CipherSuites() {
		names[s.ID] = s.Name
	}
	for _, s := range tls.InsecureCipherSuites() {
		names[s.ID] = s.Name
	}
	return names
}
