package tls

import (
	"errors"
	stdlog "log"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/zap"
)

func TestLibrariesLogIntoOurs(t *testing.T) {
	var out logLines
	log := zerolog.New(&out).Level(zerolog.DebugLevel)
	z := zap.New(zapCore{log}).Named("x").With(zap.String("with", "w"))
	z.Debug("unseen")
	z.Info("step", zap.Strings("names", []string{"a", "b"}))
	z.Error("bad\x9b31m", zap.Error(errors.New("a\nb")))
	z.Error("tls-alpn challenge")
	z.Named("acme_client").Error("challenge failed")
	restore := captureStandardLog(log)
	stdlog.Print("[WARNING] line\x1b[1m")
	restore()
	want := `{"level":"debug","with":"w","names":"[a b]","from":"certmagic","message":"step"}
{"level":"warn","with":"w","error":"a b","from":"certmagic","message":"bad` + "\ufffd" + `31m"}
{"level":"debug","with":"w","from":"certmagic","message":"tls-alpn challenge"}
{"level":"debug","with":"w","from":"certmagic","message":"challenge failed"}
{"level":"warn","from":"library","message":"[WARNING] line` + "\ufffd" + `[1m"}
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"plain", "a\r\nb", "\x9b", "\xc2\x9b", "\u202e", strings.Repeat("é", 2000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable(s) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q has %U", printable(s), r)
			}
		}
	})
}
