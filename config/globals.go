package config

import (
	"encoding/base64"
	"net/mail"
	"net/url"
	"strings"
)

// letsEncrypt is the default ACME directory.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// readGlobals reads everything but [vms], [sites], [defaults] and [[forward]],
// and notes the addresses that are taken.
func readGlobals(c *Config, top *table, taken taken) {
	top.known(inTop)
	c.Email = readEmail(top)
	c.StateDir, _ = top.file("state_dir")
	if c.StateDir == "" {
		c.StateDir = defaultStateDir()
	}
	c.Listen = readListen(top, taken)
	c.Admin = readAdmin(top, taken)
	c.Metrics = readMetrics(top, taken)
	c.Log = readLog(top)
	c.ACME = readACME(top)
	c.Timeouts = readTimeouts(top)
}

func readEmail(top *table) string {
	text, ok := top.required("email")
	if !ok {
		return ""
	}
	if parsed, err := mail.ParseAddress(text); err != nil || parsed.Address != text {
		top.fault("email", "%q is not an e-mail address", text)
	}
	return text
}

// readLog reads [log].
func readLog(top *table) Log {
	t, _ := top.sub("log")
	t.known(inLog)
	l := Log{Access: "stdout", Level: "info"}
	if text, ok := t.required("access"); ok {
		l.Access = accessLog(t, text)
	}
	t.flag("query", &l.Query)
	if level, ok := t.choice("level", "trace", "debug", "info", "warn", "error", "fatal", "panic", "disabled"); ok {
		l.Level = level
	}
	return l
}

func accessLog(t *table, text string) string {
	switch {
	case text == "stdout", text == "stderr", text == "off":
		return text
	case !strings.ContainsAny(text, "./"):
		t.fault("access", `%q is not "stdout", "stderr" or "off"; a file in this directory is "./%s"`, text, text)
	}
	return resolve(t.dir, text)
}

// readACME reads [acme].
func readACME(top *table) ACME {
	t, _ := top.sub("acme")
	t.known(inACME)
	first := readIssuer(t, Issuer{Directory: letsEncrypt})
	issuers := []Issuer{first}
	fallback, _ := t.list("fallback", "a list of directories")
	for i, v := range fallback {
		one := t.element("fallback", i, nil)
		switch v := v.(type) {
		case string:
			one.values = map[string]any{"directory": v}
		case map[string]any:
			one.values = v
			one.known(inFallback)
		default:
			t.fault("fallback", "must be a list of directories, but holds %s", kindOf(v))
			continue
		}
		if !one.has("directory") {
			t.fault("fallback", "an entry has no directory")
		}
		issuers = append(issuers, readIssuer(one, Issuer{CAFile: first.CAFile}))
	}
	return ACME{issuers}
}

// readIssuer reads the keys of one ACME server over its defaults.
func readIssuer(t *table, i Issuer) Issuer {
	if text, ok := t.text("directory"); ok {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
			t.fault("directory", "%q is not an https:// URL", text)
		}
		i.Directory = text
	}
	if file, ok := t.file("ca_file"); ok {
		if err := checkCA(file); err != nil {
			t.fault("ca_file", "%v", err)
		}
		i.CAFile = file
	}
	i.EABKeyID, _ = t.required("eab_kid")
	i.EABKey, _ = t.required("eab_key")
	i.EABKey = strings.TrimRight(i.EABKey, "=")
	if _, err := base64.RawURLEncoding.DecodeString(i.EABKey); err != nil {
		t.fault("eab_key", "is not in the URL form of base64")
	}
	if t.has("eab_kid") != t.has("eab_key") {
		t.report.add("", t.path, "%seab_kid and eab_key belong together", t.label)
	}
	return i
}
