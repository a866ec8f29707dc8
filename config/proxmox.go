package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// proxmox reads how the API of a Proxmox cluster is asked.
func (b *builder) proxmox(d *Discover, t *table) {
	if !t.has("url") {
		t.missing(`url is missing, as in "https://pve.example.com:8006"`)
	}
	if text, ok := t.required("url"); ok {
		d.URL = strings.TrimSuffix(strings.TrimRight(text, "/"), "/api2/json")
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery+u.Fragment != "" {
			t.fault("url", `%q is not an https:// URL such as "https://pve.example.com:8006"`, text)
		}
	}
	d.Token = b.token(t)
	d.Node, _ = t.required("node")
	t.integer("vmid", &d.VMID, 100, 999_999_999)
	t.flag("insecure", &d.Insecure)
	if file, ok := t.file("ca_file"); ok {
		d.CAFile = file
		b.check(t, "ca_file", "ca", checkCA, file)
		if d.Insecure {
			t.fault("insecure", "with a ca_file it would be ignored: keep one of the two")
		}
	}
}

// token reads token or token_file, and says nothing of what it holds.
func (b *builder) token(t *table) string {
	key, value := "token", ""
	switch {
	case t.has("token") == t.has("token_file"):
		t.missing("token or token_file is needed, one of the two")
		return ""
	case t.has("token"):
		value, _ = t.text(key)
	default:
		key = "token_file"
		file, ok := t.file(key)
		if !ok {
			return ""
		}
		b.extern[file] = stampOf(file)
		var err error
		if value, err = secret(file); err != nil {
			t.fault(key, "%v", err)
			return ""
		}
	}
	user, rest, _ := strings.Cut(value, "!")
	id, uuid, _ := strings.Cut(rest, "=")
	if !strings.Contains(user, "@") || id == "" || uuid == "" || strings.ContainsFunc(value, notInPath) {
		t.fault(key, `is not of the form "USER@REALM!TOKENID=SECRET"`)
	}
	return value
}

// secret reads a file of one line.
func secret(file string) (string, error) {
	const most = 4096
	data, err := os.ReadFile(file)
	text := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", err
	case len(data) > most:
		return "", fmt.Errorf("%q is longer than %d bytes", file, most)
	case text == "":
		return "", errors.New("is empty")
	}
	return text, nil
}
