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
	have := make(map[string]bool, len(next.Sites))
	left := make(map[string]int)
	for _, s := range next.Sites {
		have[s.Host] = true
		left[s.Pos.File]++
	}
	had, lost := make(map[string]int), make(map[string]int)
	for _, s := range old.Sites {
		had[s.Pos.File]++
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

func suspicious(had, lost, left int) string {
	switch {
	case had > 0 && lost == had && left == 0:
		return fmt.Sprintf("all %d sites are gone: likely a half-written file; `usher reload --force` takes it as it is", had)
	case had >= guardFrom && lost*2 > had && left*2 < had:
		return fmt.Sprintf("%d of %d sites are gone: likely a half-written file; `usher reload --force` takes it as it is", lost, had)
	}
	return ""
}
