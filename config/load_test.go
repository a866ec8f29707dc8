package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a configuration of several files in a directory of its own.
type tree struct {
	t      *testing.T
	dir    string
	loader Loader
}

func newTree(t *testing.T, files map[string]string) *tree {
	tr := &tree{t: t, dir: t.TempDir()}
	for name, text := range files {
		tr.write(name, text)
	}
	return tr
}

func (tr *tree) path(name string) string { return filepath.Join(tr.dir, name) }

func (tr *tree) write(name, text string) {
	tr.t.Helper()
	write(tr.t, tr.path(name), text)
}

// load loads config.toml and gives the sites by host.
func (tr *tree) load() map[string]*Site {
	tr.t.Helper()
	c, problems := tr.loader.Load(tr.path("config.toml"))
	if refuses(problems) {
		tr.t.Fatal(problems)
	}
	sites := make(map[string]*Site)
	for _, s := range c.Sites {
		sites[s.Host] = s
	}
	return sites
}

// kept are the hosts whose *Site is the same in both.
func kept(before, after map[string]*Site) string {
	var hosts []string
	for host, s := range after {
		if before[host] == s {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	return strings.Join(hosts, " ")
}

func threeFiles(t *testing.T) *tree {
	return newTree(t, map[string]string{
		"config.toml":    "include = ['sites.d/*.toml']\n[vms]\nweb1 = '10.0.0.1'\n[sites]\n'm.test' = 'web1'\n",
		"sites.d/a.toml": "[sites]\n'a.test' = 'web1'\n",
		"sites.d/b.toml": "[sites]\n'b.test' = 'web1'\n",
	})
}

// TestLoaderKeepsSites changes one thing after the other and names the sites
// that stay what they were.
func TestLoaderKeepsSites(t *testing.T) {
	const main = "include = ['sites.d/*.toml']\n[vms]\nweb1 = '10.0.0.1'\n[sites]\n'm.test' = 'web1'\n"
	for name, c := range map[string]struct{ file, text, kept string }{
		"nothing":              {"config.toml", main, "a.test b.test m.test"},
		"an included file":     {"sites.d/a.toml", "[sites]\n'a.test' = 'web1:81'\n", "b.test m.test"},
		"a new file":           {"sites.d/c.toml", "[sites]\n'c.test' = 'web1'\n", "a.test b.test m.test"},
		"a comment in main":    {"config.toml", "# comment\n" + main, "a.test b.test"},
		"the log":              {"config.toml", main + "[log]\nquery = true\n", "a.test b.test"},
		"a VM":                 {"config.toml", strings.Replace(main, "0.1'", "0.2'", 1), ""},
		"a VM in another file": {"sites.d/b.toml", "[vms]\nx = '10.0.0.2'\n", ""},
		"a timeout":            {"config.toml", main + "[timeouts]\nhold = '1s'\n", ""},
		"a default":            {"config.toml", main + "[defaults]\nhsts = true\n", ""},
		"a listener":           {"config.toml", main + "[listen]\nhttp = []\n", ""},
		"a forward":            {"config.toml", main + "[[forward]]\nlisten = ':2222'\nto = 'web1:22'\n", "a.test b.test"},
		"a VM's commands":      {"config.toml", strings.Replace(main, "'10.0.0.1'", "{ address = '10.0.0.1', start = 'x' }", 1), "a.test b.test"},
		"a VM's limit":         {"config.toml", strings.Replace(main, "'10.0.0.1'", "{ address = '10.0.0.1', max_conns = 5 }", 1), ""},
		"a VM discovered":      {"config.toml", strings.Replace(main, "'10.0.0.1'", "{ discover = 'libvirt' }", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := threeFiles(t)
			before := tr.load()
			tr.write(c.file, c.text)
			if got := kept(before, tr.load()); got != c.kept {
				t.Errorf("kept %q, want %q", got, c.kept)
			}
		})
	}
}

// TestLoaderSeesValues checks that what depends on another file follows it.
func TestLoaderSeesValues(t *testing.T) {
	tr := threeFiles(t)
	tr.load()
	tr.write("config.toml", "include = ['sites.d/*.toml']\n[vms]\nweb1 = '10.0.0.9'\n[defaults]\nhold = '9s'\n")
	s := tr.load()["a.test"]
	if s.To[0].Host != "10.0.0.9" || s.Timeouts.Hold.Seconds() != 9 {
		t.Errorf("%+v %+v", s, s.Timeouts)
	}
	if err := os.Remove(tr.path("sites.d/a.toml")); err != nil {
		t.Fatal(err)
	}
	if sites := tr.load(); len(sites) != 1 || sites["b.test"] == nil {
		t.Errorf("%v", sites)
	}
}

// TestLoaderHealsSites lets the certificate of a quarantined site appear, and
// vanish again, with no change in the configuration.
func TestLoaderHealsSites(t *testing.T) {
	tr := newTree(t, map[string]string{
		"config.toml": "[sites.'a.test']\nto = '10.0.0.1'\ncertificate = { cert = 'pki/good.pem', key = 'pki/good.key' }\n",
	})
	if s := tr.load()["a.test"]; s.Fault == nil || s.Fault.Line != 3 || s.Fault.Site != "a.test" {
		t.Fatalf("%+v", s.Fault)
	}
	writePairs(t, tr.path("pki"))
	before := tr.load()
	if s := before["a.test"]; s.Fault != nil || s.CertFile != tr.path("pki/good.pem") {
		t.Fatalf("%+v", s)
	}
	if kept(before, tr.load()) != "a.test" {
		t.Error("not kept")
	}
	if err := os.Remove(tr.path("pki/good.key")); err != nil {
		t.Fatal(err)
	}
	if s := tr.load()["a.test"]; s.Fault == nil {
		t.Error("no fault")
	}
}

// TestLoaderFollowsPages lets the pages of sites and of [defaults] change, and
// what they are no more.
func TestLoaderFollowsPages(t *testing.T) {
	tr := newTree(t, map[string]string{
		"config.toml": "include = ['sites.d/*.toml']\n[defaults]\nmaintenance = 'away.html'\n",
		"sites.d/a.toml": "[sites.'a.test']\nto = '10.0.0.1'\nerror_pages = { 503 = '../busy.html' }\n" +
			"[sites.'b.test']\nto = '10.0.0.1'\nmaintenance = ''\n",
		"sites.d/c.toml": "[sites]\n'c.test' = '10.0.0.1'\n",
		"away.html":      "<p>away", "busy.html": "<p>busy",
	})
	before := tr.load()
	if s := before["a.test"]; s.Maintenance != tr.path("away.html") || s.ErrorPages[503] != tr.path("busy.html") || before["b.test"].Maintenance != "" {
		t.Errorf("%+v", s)
	}
	if files, _ := tr.loader.Watched(); !slices.Contains(files, tr.path("away.html")) || !slices.Contains(files, tr.path("busy.html")) {
		t.Errorf("watched: %v", files)
	}
	tr.write("busy.html", "<p>busier")
	after := tr.load()
	if got := kept(before, after); got != "c.test" {
		t.Errorf("kept %q", got)
	}
	tr.write("busy.html", strings.Repeat("x", maxPage+1))
	if s := tr.load()["a.test"]; s.Fault == nil || !strings.Contains(s.Fault.Message, "larger than 64 KiB") {
		t.Errorf("%+v", s.Fault)
	}
	tr.write("busy.html", strings.Repeat("x", maxPage))
	tr.write("away.html", "<p>far away")
	if got := kept(after, tr.load()); got != "" {
		t.Errorf("kept %q", got)
	}
}

// TestLoaderFollowsToken changes the file of a token, which is the VM's.
func TestLoaderFollowsToken(t *testing.T) {
	const vm = "{ discover = { source = 'proxmox', url = 'https://pve', token_file = 'token' } }\n"
	tr := newTree(t, map[string]string{
		"config.toml": "[vms]\na = " + vm + "b = " + vm + "[sites]\n'a.test' = 'a'\n", "token": "u@pve!id=one\n",
	})
	token := func() string {
		c, problems := tr.loader.Load(tr.path("config.toml"))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if files, _ := tr.loader.Watched(); !slices.Contains(files, tr.path("token")) {
			t.Errorf("watched: %v", files)
		}
		return c.VMs["a"].Discover.Token + " " + c.VMs["b"].Discover.Token
	}
	if got := token(); got != "u@pve!id=one u@pve!id=one" {
		t.Error(got)
	}
	tr.write("token", "u@pve!id=two")
	if got := token(); got != "u@pve!id=two u@pve!id=two" {
		t.Error(got)
	}
}

// TestLoaderRefuses checks what a refused load leaves behind: what to watch,
// and the kept sites for the load that is good again.
func TestLoaderRefuses(t *testing.T) {
	tr := threeFiles(t)
	before := tr.load()
	good, err := os.ReadFile(tr.path("config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"[", "emial = 1\n" + string(good)} {
		tr.write("config.toml", bad)
		if c, problems := tr.loader.Load(tr.path("config.toml")); c != nil || len(problems) == 0 {
			t.Fatalf("%v %v", c, problems)
		}
		files, dirs := tr.loader.Watched()
		if len(files) != 3 || files[0] != tr.path("config.toml") || !slices.Equal(dirs, []string{tr.path("sites.d")}) {
			t.Errorf("watched: %v %v", files, dirs)
		}
	}
	tr.write("config.toml", string(good))
	if got := kept(before, tr.load()); got != "a.test b.test" {
		t.Errorf("kept %q", got)
	}
}

func TestLoadMissing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.toml")
	c, problems := new(Loader).Load(file)
	if c != nil || len(problems) != 1 || problems[0].Line != 1 || !strings.Contains(problems[0].Message, "no such file") {
		t.Errorf("%v %v", c, problems)
	}
	if c, problems := new(Loader).Load(filepath.Dir(file)); c != nil || len(problems) != 1 {
		t.Errorf("%v %v", c, problems)
	}
}

// TestSharing checks that sites at their defaults share what they point to,
// and equal timeouts of their own too.
func TestSharing(t *testing.T) {
	tr := newTree(t, map[string]string{"config.toml": `[sites]
"a.test" = "10.0.0.1"
"b.test" = "10.0.0.1"
"c.test" = { to = "10.0.0.1", hold = "1s" }
"d.test" = { to = "10.0.0.1", timeouts = { hold = "1s" } }
"e.test" = { to = "10.0.0.1", health = true, sticky = true }
"f.test" = { to = "10.0.0.1", health = {}, sticky = {} }
`})
	sites := tr.load()
	a, b, c, d := sites["a.test"], sites["b.test"], sites["c.test"], sites["d.test"]
	if a.Timeouts != b.Timeouts || &a.To[0] != &b.To[0] || c.Timeouts != d.Timeouts || a.Timeouts == c.Timeouts {
		t.Error("not shared")
	}
	if e, f := sites["e.test"], sites["f.test"]; e.Health == nil || e.Health != f.Health || e.Sticky == nil || e.Sticky != f.Sticky {
		t.Error("checks and cookies not shared")
	}
}

// TestIncludeOnce checks that a file is read once however many patterns match
// it, and that the main file does not include itself.
func TestIncludeOnce(t *testing.T) {
	tr := newTree(t, map[string]string{
		"config.toml": "include = ['*.toml', './a.toml', 'x/../a*', '[a-c].toml']\n",
		"a.toml":      "sites.'a.test' = '10.0.0.1'\n",
	})
	c, problems := tr.loader.Load(tr.path("config.toml"))
	if len(problems) > 0 || !slices.Equal(c.Files, []string{tr.path("config.toml"), tr.path("a.toml")}) {
		t.Errorf("%v %v", c, problems)
	}
}

func TestIncludeDirs(t *testing.T) {
	tr := newTree(t, map[string]string{
		"config.toml":      "include = ['t/*/sites/*.toml']\n",
		"t/a/sites/x.toml": "", "t/b/sites/y.toml": "",
	})
	c, problems := tr.loader.Load(tr.path("config.toml"))
	want := []string{tr.path("t"), tr.path("t/a"), tr.path("t/a/sites"), tr.path("t/b"), tr.path("t/b/sites")}
	if len(problems) > 0 || len(c.Files) != 3 {
		t.Errorf("%v %v", c, problems)
	}
	if !slices.Equal(c.Dirs, want) {
		t.Errorf("%v", c.Dirs)
	}
}
