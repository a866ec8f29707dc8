package telemetry

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgramLog(t *testing.T) {
	var out bytes.Buffer
	var level Level
	log := Logger(&out, &level)
	log.Debug().Msg("unseen")
	log.Warn().Str("sni", "a\u0085b\u2028\n\xff").Msg("hello")
	line := out.String()
	if strings.Count(line, "\n") != 1 {
		t.Fatalf("got %q", line)
	}
	checkText(t, strings.TrimSuffix(line, "\n"))
	m := decode(t, out.Bytes())
	if m["level"] != "warn" || m["message"] != "hello" {
		t.Errorf("line %v", m)
	}
	if _, err := time.Parse(time.RFC3339, m["time"].(string)); err != nil {
		t.Error(err)
	}
}

func TestProgramLevelChanges(t *testing.T) {
	var out bytes.Buffer
	var level Level
	log := Logger(&out, &level)
	for _, name := range []string{"debug", "error", "disabled"} {
		if err := level.Set(name); err != nil {
			t.Fatal(err)
		}
		log.Debug().Msg(name + " debug")
		log.Error().Msg(name + " error")
	}
	got := out.String()
	for _, want := range []string{"debug debug", "debug error", "error error"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Count(got, "\n") != 3 {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{"", "loud"} {
		if level.Set(name) == nil {
			t.Errorf("level %q was taken", name)
		}
	}
}
