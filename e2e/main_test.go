package e2e

import (
	"fmt"
	"os"
	"testing"

	"usher/e2e/rig"
)

// builds holds the binaries of this run; TestMain fills it in before any test.
var builds *rig.Builds

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "usher-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	builds = &rig.Builds{Dir: dir}
	fatalAsPanic()
	return m.Run()
}

// start runs usher with a body of the configuration file.
func start(t testing.TB, format string, args ...any) *rig.Usher {
	t.Helper()
	return builds.Start(t, rig.Config{Body: fmt.Sprintf(format, args...)})
}

// port is the port of a host:port, as text.
func port(addr string) string { return fmt.Sprint(rig.Port(addr)) }
