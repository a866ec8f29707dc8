package usher

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imports is the picture of ARCHITECTURE.md: what each package of ours may
// import of ours. telemetry may be imported by all.
var imports = map[string][]string{
	"cmd/usher":             {"config", "server", "server/admin"},
	"config":                {"router"},
	"server":                {"config", "proxy", "proxy/datagram", "proxy/h1", "proxy/h2", "proxy/h3", "proxy/message", "proxy/socket", "proxy/tunnel", "proxy/upstream", "proxy/upstream/health", "proxy/upstream/names", "router", "server/admin", "server/systemd", "server/watch", "tls", "vm", "vm/discover"},
	"server/admin":          {},
	"server/systemd":        {},
	"server/watch":          {},
	"proxy":                 {"proxy/datagram", "proxy/h1", "proxy/h2", "proxy/message", "proxy/proxyproto", "proxy/socket", "proxy/tunnel", "proxy/upstream", "router", "tls"},
	"proxy/upstream":        {"proxy/h1", "proxy/h2", "proxy/message", "proxy/proxyproto", "proxy/socket", "proxy/upstream/health", "proxy/upstream/names", "vm"},
	"proxy/upstream/health": {"proxy/proxyproto", "proxy/socket"},
	"proxy/upstream/names":  {},
	"vm":                    {"proxy/upstream/names", "vm/command", "vm/discover"},
	"vm/discover":           {"proxy/upstream/names", "vm/command"},
	"vm/command":            {},
	"proxy/h1":              {"proxy/message", "proxy/socket"},
	"proxy/h2":              {"proxy/budget", "proxy/fields", "proxy/message", "proxy/socket"},
	"proxy/h3":              {"proxy/budget", "proxy/fields", "proxy/message", "proxy/socket"},
	"proxy/fields":          {"proxy/message"},
	"proxy/budget":          {},
	"proxy/tunnel":          {"proxy/message", "proxy/socket"},
	"proxy/datagram":        {"proxy/message", "proxy/socket"},
	"proxy/proxyproto":      {"proxy/socket"},
	"proxy/message":         {"proxy/socket"},
	"proxy/socket":          {},
	"tls":                   {"proxy/socket", "router"},
	"router":                {},
	"telemetry":             {},
}

// importers is the one package that may import each third-party module.
var importers = map[string][]string{
	"github.com/BurntSushi/toml":          {"config"},
	"github.com/caddyserver/certmagic":    {"tls"},
	"github.com/mholt/acmez":              {"tls"},
	"github.com/miekg/dns":                {"proxy/upstream/names"},
	"go.uber.org/zap":                     {"tls"},
	"github.com/fsnotify/fsnotify":        {"server/watch"},
	"github.com/prometheus/client_golang": {"telemetry"},
	"github.com/prometheus/client_model":  {"telemetry"},
	"github.com/spf13/cobra":              {"cmd/usher"},
	"golang.org/x/crypto/cryptobyte":      {"tls"},
	"golang.org/x/crypto/bcrypt":          {"cmd/usher"},
	"golang.org/x/term":                   {"cmd/usher"},
	"golang.org/x/net/idna":               {"router"},
	"golang.org/x/net/http2":              {"proxy/h2"},
	"golang.org/x/net/ipv4":               {"proxy/h3"},
	"golang.org/x/net/ipv6":               {"proxy/h3"},
	"golang.org/x/net/http/httpguts":      {"proxy/fields"},
	"github.com/quic-go/quic-go":          {"proxy/h3"},
	"github.com/quic-go/qpack":            {"proxy/h3"},
	"golang.org/x/sys":                    {"proxy/socket", "proxy/tunnel", "proxy/datagram"},
	"github.com/rs/zerolog":               {"telemetry", "server", "server/watch", "proxy", "tls"},
}

// starters are the files that may start goroutines, and who waits for them.
var starters = map[string]string{
	"config/parallel.go":              "inParallel",
	"cmd/usher/password.go":           "the prompt, until it is answered or interrupted",
	"proxy/h1/upload.go":              "VM.Finish",
	"proxy/h2/call.go":                "Call.Finish",
	"proxy/h2/stream.go":              "Conn.Serve",
	"proxy/h2/worker.go":              "Conn.Serve",
	"proxy/h2/write.go":               "Conn.Serve",
	"proxy/h3/conn.go":                "Server.Serve",
	"proxy/h3/control.go":             "Server.Serve",
	"proxy/h3/server.go":              "Server.Serve",
	"proxy/datagram/listener.go":      "Relay.Run",
	"proxy/datagram/session.go":       "Relay.Run",
	"proxy/socket/crew.go":            "the callback of a parked connection, which is its new owner, then Loop.Run",
	"proxy/socket/watch.go":           "Socket.Watch(nil)",
	"proxy/tunnel/copier.go":          "the tunnel's done",
	"proxy/tunnel/wire.go":            "the tunnel's done",
	"proxy/upstream/calls.go":         "the connection, which Pool.Retire ends",
	"proxy/upstream/early.go":         "early.end",
	"proxy/upstream/health/run.go":    "Checker.Run",
	"proxy/upstream/names/lookup.go":  "Resolver.Run",
	"proxy/upstream/names/run.go":     "Resolver.Run",
	"proxy/upstream/names/service.go": "Resolver.Run",
	"server/admin/listen.go":          "admin.Serve",
	"server/control.go":               "control.wait",
	"server/listeners.go":             "listeners.close and Server.drain",
	"server/quic.go":                  "quic.wait",
	"server/server.go":                "Server.run",
	"telemetry/log.go":                "Log.Run",
	"tls/certificates.go":             "Certificates.Run",
	"tls/jobs.go":                     "Certificates.Run",
	"tls/staple.go":                   "Certificates.Run",
	"vm/command/hook.go":              "Hook",
	"vm/discover/keep.go":             "Keeper.Run",
	"vm/fleet.go":                     "Fleet.Run",
}

const module = "usher/"

type file struct {
	path string // below the root
	dir  string
	ast  *ast.File
	fset *token.FileSet
}

// sources are our own files, tests and other modules excepted.
func sources(t *testing.T) (all []file) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "e2e" || path == "bench" || d.Name() == "testdata" || strings.HasPrefix(path, ".") && path != ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, file{filepath.ToSlash(path), filepath.ToSlash(filepath.Dir(path)), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: the test looks in the wrong place", len(all))
	}
	return all
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range sources(t) {
		allowed, known := imports[f.dir]
		if !known {
			t.Errorf("%s: package %q is not in the picture", f.path, f.dir)
			continue
		}
		for _, i := range f.ast.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if ours, ok := strings.CutPrefix(path, module); ok && ours != "telemetry" && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %q", f.path, path)
			}
		}
	}
}

func TestOneImporterForEachLibrary(t *testing.T) {
	for _, f := range sources(t) {
		for _, i := range f.ast.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if !strings.Contains(strings.Split(path, "/")[0], ".") {
				continue
			}
			if !slices.Contains(importersOf(path), f.dir) {
				t.Errorf("%s imports %q, which is not its business", f.path, path)
			}
		}
	}
}

func importersOf(path string) []string {
	for lib, dirs := range importers {
		if path == lib || strings.HasPrefix(path, lib+"/") {
			return dirs
		}
	}
	return nil
}

func TestOnlyOneFileSeesCertmagic(t *testing.T) {
	var seen []string
	for _, f := range sources(t) {
		for _, i := range f.ast.Imports {
			if p := strings.Trim(i.Path.Value, `"`); p == "github.com/caddyserver/certmagic" {
				seen = append(seen, f.path)
			}
		}
	}
	if len(seen) != 1 {
		t.Errorf("certmagic is imported by %v", seen)
	}
}

func TestGoroutinesHaveKnownStarters(t *testing.T) {
	for _, f := range sources(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if starts(n) && starters[f.path] == "" {
				t.Errorf("%s starts a goroutine", f.fset.Position(n.Pos()))
			}
			return true
		})
	}
}

// starts reports whether a node is a go statement or sync.WaitGroup.Go.
func starts(n ast.Node) bool {
	if call, ok := n.(*ast.CallExpr); ok {
		sel, ok := call.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Go"
	}
	_, ok := n.(*ast.GoStmt)
	return ok
}

func TestNoInitAndEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		documented[f.dir] = documented[f.dir] || f.ast.Doc != nil
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init", f.path)
			}
		}
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment", dir)
		}
	}
}

// TestNoMutablePackageVariables looks at every assignment to a package
// variable, which is how one becomes mutable state.
func TestNoMutablePackageVariables(t *testing.T) {
	vars := map[string]map[string]bool{} // by directory
	all := sources(t)
	for _, f := range all {
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					if vars[f.dir] == nil {
						vars[f.dir] = map[string]bool{}
					}
					vars[f.dir][name.Name] = name.Name != "_"
				}
			}
		}
	}
	for _, f := range all {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || a.Tok != token.ASSIGN {
				return true
			}
			for _, l := range a.Lhs {
				if id, ok := l.(*ast.Ident); ok && vars[f.dir][id.Name] && id.Obj == nil {
					t.Errorf("%s assigns to the package variable %s", f.fset.Position(id.Pos()), id.Name)
				}
			}
			return true
		})
	}
}
