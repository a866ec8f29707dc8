package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"usher/e2e/rig"
)

// TestHookEnvironment: a hook is run as from a shell: no signal is ignored, no
// descriptor of usher's is open, and it cannot speak to systemd for usher.
func TestHookEnvironment(t *testing.T) {
	t.Parallel()
	seen := filepath.Join(t.TempDir(), "seen")
	hook := script(t, "start", fmt.Sprintf("(cat /proc/self/status; ls -l /proc/self/fd; env | grep -c NOTIFY_SOCKET | sed 's/^/notify /') >%s.new; mv %[1]s.new %[1]s\n", seen))
	gone := rig.FreePort(t, rig.LoopbackIP())
	u := builds.Start(t, rig.Config{Env: []string{"NOTIFY_SOCKET=/nonexistent/notify"}, Body: fmt.Sprintf(`[defaults]
hold = "100ms"
http = "forward"
[vms]
web1 = { address = %q, start = %q, start_timeout = "1s" }
[sites]
"a.test" = "http://web1:%s"`, ip(gone), hook, port(gone))})
	if p := u.Dial().Get("a.test", "/"); p.Status != http.StatusServiceUnavailable {
		t.Errorf("status %d", p.Status)
	}
	text, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) (all []string) {
		for _, m := range regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(string(text), -1) {
			all = append(all, m[1])
		}
		return all
	}
	inherited := ignored(t)
	for _, mask := range append(find(`^SigIgn:\s+(\S+)`), find(`^SigBlk:\s+(\S+)`)...) {
		if n, err := strconv.ParseUint(mask, 16, 64); err != nil || n&^inherited != 0 {
			t.Errorf("signals are ignored or blocked: %s", mask)
		}
	}
	if open := find(`-> (.*(?:socket|anon_inode):.*)`); len(open) > 0 {
		t.Errorf("descriptors of usher's are open: %q", open)
	}
	if !strings.Contains(string(text), "notify 0") {
		t.Error("it has NOTIFY_SOCKET")
	}
}

// ignored is the mask of signals that this process ignores, as whoever runs the
// tests wants it (nohup, say), and so do all that it starts.
func ignored(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	mask := regexp.MustCompile(`(?m)^SigIgn:\s+(\S+)`).FindSubmatch(text)
	n, err := strconv.ParseUint(string(mask[1]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
