package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// certificate reads "acme", "local" or { cert = …, key = … }.
func (b *builder) certificate(s *Site, t *table) {
	switch v := t.values["certificate"].(type) {
	case nil:
	case string:
		if v, ok := t.choice("certificate", CertACME, CertLocal); ok {
			s.Certificate, s.CertFile, s.KeyFile = v, "", ""
		}
	case map[string]any:
		files, _ := t.sub("certificate")
		b.certificateFiles(s, files)
	default:
		t.fault("certificate", `must be "acme", "local" or { cert = "…", key = "…" }, not %s`, kindOf(v))
	}
}

func (b *builder) certificateFiles(s *Site, t *table) {
	t.known(inCertificate)
	for _, key := range []string{"cert", "key"} {
		if !t.has(key) {
			t.report.add(t.site, t.path, "certificate: %s is missing", key)
			return
		}
	}
	cert, ok := t.file("cert")
	key, both := t.file("key")
	if ok && both {
		s.Certificate, s.CertFile, s.KeyFile = CertFile, cert, key
		b.check(t, "cert", "pair", checkPair, cert, key)
	}
}

// check runs a check of files once in each load, however many sites name them.
// kind tells checks of the same files apart.
func (b *builder) check(t *table, key, kind string, verdict func(files ...string) error, files ...string) {
	for _, f := range files {
		b.extern[f] = stampOf(f)
	}
	err := b.shared.once(kind+"\x00"+strings.Join(files, "\x00"), func() error { return verdict(files...) })
	if err != nil {
		t.fault(key, "%v", err)
	}
}

// checkPair loads a certificate and its key.
func checkPair(files ...string) error {
	_, err := tls.LoadX509KeyPair(files[0], files[1])
	if err == nil || errors.As(err, new(*os.PathError)) {
		return err
	}
	return fmt.Errorf("%q and %q are no pair of certificate and key: %w", files[0], files[1], err)
}

// checkCA reads the certificates of a CA file.
func checkCA(files ...string) error {
	pem, err := os.ReadFile(files[0])
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%q holds no certificate in PEM form", files[0])
	}
	return err
}

// stamp tells the versions of a file apart without reading it.
type stamp struct {
	modified    time.Time
	size, inode int64
	fault       string
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{fault: err.Error()}
	}
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = int64(sys.Ino)
	}
	return s
}
