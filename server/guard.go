package server

import (
	"fmt"

	"usher/config"
)

// half written files: a file that suddenly loses all its sites, or over half
// of ten or more.
const guardFrom = 10

// lostSites says why a configuration looks like a half-written one, or
// nothing. It looks at every file that is still read and at all of them
// together, and counts a site as lost only when no file has it any more.
func lostSites(old, next *config.Config) string {
	had, left, lost := perFile(old.Sites), perFile(next.Sites), make(map[string]int)
	before, after := differing(old.Sites, next.Sites)
	have := make(map[string]bool, len(after))
	for _, s := range after {
		have[s.Host] = true
	}
	for _, s := range before {
		if !have[s.Host] {
			lost[s.Pos.File]++
		}
	}
	total := 0
	for _, n := range lost {
		total += n
	}
	if why := suspicious(len(old.Sites), total, len(next.Sites)); why != "" {
		return why
	}
	for _, file := range next.Files {
		if why := suspicious(had[file], lost[file], left[file]); why != "" {
			return file + ": " + why
		}
	}
	return ""
}

// perFile counts the sites of each file, which stand together.
func perFile(sites []*config.Site) map[string]int {
	count := make(map[string]int)
	for i := 0; i < len(sites); {
		file, from := sites[i].Pos.File, i
		for i < len(sites) && sites[i].Pos.File == file {
			i++
		}
		count[file] += i - from
	}
	return count
}

// differing is what two lists have between a beginning and an end that are the
// same hosts in both. Of very many sites that is one file.
func differing(a, b []*config.Site) (inA, inB []*config.Site) {
	for len(a) > 0 && len(b) > 0 && a[0].Host == b[0].Host {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1].Host == b[len(b)-1].Host {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

func suspicious(had, lost, left int) string {
	switch {
	case had > 0 && lost == had && left == 0:
		return fmt.Sprintf("all %d sites are gone: likely a half-written file; `usher reload --force` takes it as it is", had)
	case had >= guardFrom && lost*2 > had && left*2 < had:
		return fmt.Sprintf("%d of %d sites are gone: likely a half-written file; `usher reload --force` takes it as it is", lost, had)
	}
	return ""
}
