package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// store is a place for images of a test.
type store struct {
	t    *testing.T
	args []string
}

// buildah runs a command on the store and returns what it printed.
func (s store) buildah(command string, args ...string) string {
	s.t.Helper()
	all := append(append(append([]string{}, s.args...), command), args...)
	out, err := rig.Tool(s.t, "buildah", all...)
	if err != nil {
		s.t.Fatalf("buildah %s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// TestImage builds the Dockerfile for real, without a network, on a base that
// is put together from this machine's own toolchain, and runs what came out of
// it as the user that it names.
func TestImage(t *testing.T) {
	dir, err := os.MkdirTemp("", "usher-image-") // not t.TempDir: its parents are private
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := store{t, []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}}
	if out, err := exec.Command("go", "-C", "..", "mod", "download").CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	s.base(dir, "usher-test-base")
	s.buildah("build", append(mounts(t), "--isolation", "chroot", "--format", "docker", "--network", "host",
		"--build-arg", "BASE=localhost/usher-test-base", "--env", "GOPROXY=off", "-t", "usher-test", "..")...)

	image := s.buildah("inspect", "--type", "image", "localhost/usher-test")
	for _, want := range []string{`"65532:65532"`, `"/usr/local/bin/usher"`, `"status"`, `"/var/lib/usher"`, `"443/udp"`} {
		if !strings.Contains(image, want) {
			t.Errorf("the image says nothing of %s", want)
		}
	}
	container := s.buildah("from", "localhost/usher-test")
	root := s.buildah("mount", container)
	t.Cleanup(func() { s.buildah("umount", container) })
	binary := filepath.Join(root, "usr/local/bin/usher")
	if out, err := rig.Tool(t, "getcap", binary); err != nil || !strings.Contains(out, "cap_net_bind_service") {
		t.Errorf("the capability did not survive: %q, %v", out, err)
	}
	wantStatic(t, binary)
	wantOwned(t, root)
	runImage(t, s, container)
}

// base makes an image of the few programs that the build stage uses. Go itself
// and its modules are mounted.
func (s store) base(dir, name string) {
	s.t.Helper()
	tree := filepath.Join(dir, "base")
	for _, d := range []string{"tmp", "usr/local/go", "go/pkg/mod", "etc/ssl/certs", "cache"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, tool := range []string{"sh", "mkdir", "setcap"} {
		s.install(tree, tool)
	}
	copyFile(s.t, "/etc/ssl/certs/ca-certificates.crt", filepath.Join(tree, "etc/ssl/certs/ca-certificates.crt"))
	c := s.buildah("from", "scratch")
	s.buildah("copy", "--quiet", c, tree, "/")
	s.buildah("config", "--env", "PATH=/usr/local/go/bin:/bin", "--env", "GOPATH=/go", "--env", "GOTOOLCHAIN=local", "--env", "GOCACHE=/cache", c)
	s.buildah("commit", "--quiet", c, name)
	s.buildah("rm", c)
}

// install copies a program and the libraries that it loads.
func (s store) install(tree, tool string) {
	s.t.Helper()
	path, err := filepath.EvalSymlinks(rig.Find(s.t, tool))
	if err != nil {
		s.t.Fatal(err)
	}
	copyFile(s.t, path, filepath.Join(tree, "bin", tool))
	libraries, err := rig.Tool(s.t, "ldd", path)
	if err != nil {
		s.t.Fatalf("ldd %s: %v %s", path, err, libraries)
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(libraries, -1) {
		copyFile(s.t, strings.TrimSuffix(lib, ":"), filepath.Join(tree, strings.TrimSuffix(lib, ":")))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// mounts lends the build this machine's Go, its modules and its build cache.
func mounts(t *testing.T) []string {
	t.Helper()
	env := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	return []string{"--volume", env("GOROOT") + ":/usr/local/go:ro", "--volume", env("GOMODCACHE") + ":/go/pkg/mod",
		"--volume", env("GOCACHE") + ":/cache"}
}

func wantStatic(t *testing.T, binary string) {
	t.Helper()
	if out, err := rig.Tool(t, "ldd", binary); err == nil {
		t.Errorf("the binary loads libraries: %s", out)
	}
}

// wantOwned: the process can write where it must.
func wantOwned(t *testing.T, root string) {
	t.Helper()
	for _, d := range []string{"var/lib/usher", "run/usher", "etc/usher"} {
		info, err := os.Stat(filepath.Join(root, d))
		if err != nil {
			t.Error(err)
			continue
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 65532 || st.Gid != 65532 {
			t.Errorf("/%s belongs to %d:%d", d, st.Uid, st.Gid)
		}
	}
}

// runImage starts the container on a port that only the capability opens, asks
// it for a page and for its health, and stops it.
func runImage(t *testing.T, s store, container string) {
	t.Helper()
	ip, conf := rig.LoopbackIP(), filepath.Join(t.TempDir(), "etc")
	text := fmt.Sprintf("[listen]\nhttp = [\"%[1]s:80\"]\nhttps = [\"%[1]s:443\"]\n[sites.\"test.localhost\"]\nto = \"whoami://\"\nhttp = \"forward\"\n", ip)
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	peer.Replace(t, filepath.Join(conf, "config.toml"), []byte(text))
	for d := conf; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // the container's user is nobody here
	}
	os.Chmod(filepath.Join(conf, "config.toml"), 0o644)
	run := append(append([]string{}, s.args...), "run", "--isolation", "chroot", "--volume", conf+":/etc/usher:ro", container, "--")
	log := rig.Daemon(t, nil, ip+":443", rig.Find(t, "buildah"), append(run, "/usr/local/bin/usher", "run")...)
	req, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+ip+"/", nil)
	req.Host = "test.localhost"
	if p, err := http.DefaultClient.Do(req); err != nil || p.StatusCode != 200 {
		t.Errorf("no page from the image: %+v, %v\n%s", p, err, log)
	} else {
		p.Body.Close()
	}
	if out, err := rig.Tool(t, "buildah", append(run, "/usr/local/bin/usher", "status")...); err != nil {
		t.Errorf("the health check fails: %v %s", err, out)
	}
	if out, err := rig.Tool(t, "buildah", append(run, "/usr/local/bin/usher", "certs")...); err != nil || !strings.Contains(out, "/var/lib/usher/") {
		t.Errorf("no state in the volume: %v %s", err, out)
	}
}
