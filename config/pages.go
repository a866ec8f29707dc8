package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxPage bounds a page of a site's own; a snapshot holds it in memory.
const maxPage = 64 << 10

// pages reads error_pages and maintenance.
func (b *builder) pages(s *Site, t *table) {
	if text, ok := t.text("maintenance"); ok {
		if s.Maintenance = resolve(t.dir, text); text != "" { // "" undoes that of [defaults]
			b.check(t, "maintenance", "page", checkPage, s.Maintenance)
		}
	}
	sub, ok := t.sub("error_pages")
	if !ok {
		return
	}
	s.ErrorPages = nil
	for _, key := range slices.Sorted(maps.Keys(sub.values)) {
		status, err := strconv.Atoi(key)
		if err != nil || status < 400 || status > 599 || len(key) != 3 {
			sub.report.add(sub.site, sub.at(key), "%serror_pages: %q is not a status between 400 and 599", t.label, key)
			continue
		}
		if s.ErrorPages == nil {
			s.ErrorPages = make(map[int]string, len(sub.values))
		}
		if file, ok := sub.file(key); ok {
			s.ErrorPages[status] = file
			b.check(sub, key, "page", checkPage, file)
		}
	}
}

// checkPage checks that a file can be sent as a page.
func checkPage(files ...string) error {
	f, err := os.Stat(files[0])
	switch {
	case err != nil:
		return err
	case !f.Mode().IsRegular():
		return fmt.Errorf("%q is not a file", files[0])
	case f.Size() > maxPage:
		return fmt.Errorf("%q is larger than %d KiB", files[0], maxPage>>10)
	}
	text, err := os.ReadFile(files[0])
	switch {
	case err != nil:
		return err
	case len(text) == 0:
		return fmt.Errorf("%q is empty", files[0])
	case !utf8.Valid(text):
		return fmt.Errorf("%q is not HTML in UTF-8", files[0])
	}
	return nil
}
