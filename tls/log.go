package tls

import (
	stdlog "log"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rs/zerolog"
)

// captureStandardLog has what libraries write to the standard logger written to
// ours, until the returned function is called.
func captureStandardLog(log zerolog.Logger) (restore func()) {
	flags, out := stdlog.Flags(), stdlog.Writer()
	stdlog.SetFlags(0)
	stdlog.SetOutput(standardLog{log})
	return func() {
		stdlog.SetFlags(flags)
		stdlog.SetOutput(out)
	}
}

// standardLog takes one line a Write.
type standardLog struct{ log zerolog.Logger }

func (s standardLog) Write(line []byte) (int, error) {
	level, text := zerolog.InfoLevel, strings.TrimSpace(string(line))
	for prefix, l := range map[string]zerolog.Level{
		"[ERROR] ": zerolog.ErrorLevel, "[WARNING] ": zerolog.WarnLevel, "[INFO] ": zerolog.InfoLevel,
		"panic: ": zerolog.ErrorLevel,
	} {
		if strings.HasPrefix(text, prefix) {
			level = l
		}
	}
	// Said when takenAddress had to take the wildcard, which is meant so.
	if strings.Contains(text, "be sure to set the ACMEIssuer.ListenHost field") {
		level = zerolog.DebugLevel
	}
	s.log.WithLevel(level).Str("from", "library").Msg(printable(text))
	return len(line), nil
}

// printable makes foreign text safe for a terminal and for one line of a log.
func printable(s string) string {
	const most = 2000
	if len(s) > most {
		s = s[:most] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r):
			return '\ufffd'
		}
		return r
	}, s)
}
