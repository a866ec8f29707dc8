package main

import (
	"bytes"
	"strings"
	"testing"
)

// usher runs a command line in this process.
func usher(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&err)
	status = report(&err, cmd.Execute())
	return status, out.String(), err.String()
}

func TestWrongUsage(t *testing.T) {
	for line, want := range map[string]string{
		"stauts":                      "unknown command \"stauts\", did you mean \"status\"? (see `usher --help`)",
		"xyzzyx":                      "unknown command \"xyzzyx\" (see `usher --help`)",
		"help nonsense":               "unknown command \"nonsense\" (see `usher --help`)",
		"--bogus":                     "unknown flag: --bogus (see `usher --help`)",
		"status --bogus":              "unknown flag: --bogus (see `usher status --help`)",
		"run -c":                      "flag needs an argument: 'c' in -c (see `usher run --help`)",
		"explain":                     "URL is missing (see `usher explain --help`)",
		"explain a.example b.example": "unexpected argument \"b.example\" (see `usher explain --help`)",
		"explain x --from here":       "--from \"here\" is not an IP address (see `usher explain --help`)",
		"explain x -H nocolon":        "-H \"nocolon\" is not 'Name: value' (see `usher explain --help`)",
		"drain":                       "VM is missing (see `usher drain --help`)",
		"undrain":                     "VM is missing (see `usher undrain --help`)",
		"import":                      "the kind of configuration is missing (see `usher import --help`)",
		"import nginx":                "FILE is missing (see `usher import --help`)",
		"import apache httpd.conf":    "unknown kind of configuration \"apache\" (see `usher import --help`)",
		"completion":                  "the shell is missing (see `usher completion --help`)",
		"completion tcsh":             "unknown shell \"tcsh\" (see `usher completion --help`)",
		"run x":                       "unexpected argument \"x\" (see `usher run --help`)",
		"check x":                     "unexpected argument \"x\" (see `usher check --help`)",
		"status x":                    "unexpected argument \"x\" (see `usher status --help`)",
		"sites x":                     "unexpected argument \"x\" (see `usher sites --help`)",
		"vms x":                       "unexpected argument \"x\" (see `usher vms --help`)",
		"certs x":                     "unexpected argument \"x\" (see `usher certs --help`)",
		"reload x":                    "unexpected argument \"x\" (see `usher reload --help`)",
		"hash-password x":             "unexpected argument \"x\" (see `usher hash-password --help`)",
		"version x":                   "unexpected argument \"x\" (see `usher version --help`)",
		// Options that a command would ignore are not taken.
		"check --admin unix:/x": "unknown flag: --admin (see `usher check --help`)",
		"run --json":            "unknown flag: --json (see `usher run --help`)",
		"status --force":        "unknown flag: --force (see `usher status --help`)",
	} {
		status, stdout, stderr := usher(strings.Fields(line)...)
		if status != wrongUsage || stdout != "" || stderr != "usher: "+want+"\n" {
			t.Errorf("usher %s: %d, %q, %q", line, status, stdout, stderr)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		for _, line := range [][]string{{cmd.Name(), "--help"}, {cmd.Name(), "-h"}, {"help", cmd.Name()}} {
			status, stdout, stderr := usher(line...)
			for _, want := range []string{"Usage:\n  usher " + cmd.Name(), "-c, --config FILE"} {
				if status != done || stderr != "" || !strings.Contains(stdout, want) {
					t.Errorf("usher %v: %d, %q, %q", line, status, stdout, stderr)
				}
			}
		}
	}
}

func TestEveryCommandTakesConfigAnywhere(t *testing.T) {
	for _, args := range [][]string{
		{"-c", "x.toml", "version"}, {"version", "-c", "x.toml"}, {"version", "--config=x.toml"},
	} {
		if status, stdout, stderr := usher(args...); status != done || !strings.HasPrefix(stdout, "usher ") {
			t.Errorf("usher %v: %d, %q", args, status, stderr)
		}
	}
	for _, args := range [][]string{
		{"explain", "--from", "here", "a.example"}, {"explain", "a.example", "--from", "here"}, {"-c", "x", "explain", "a.example", "--from=here"},
	} {
		if status, _, stderr := usher(args...); status != wrongUsage || !strings.Contains(stderr, "here") {
			t.Errorf("usher %v: %d, %q", args, status, stderr)
		}
	}
}
