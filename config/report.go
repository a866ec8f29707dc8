package config

import (
	"cmp"
	"fmt"
	"slices"
)

// report collects what is wrong in one file.
type report struct {
	find     func(path []string) Position
	problems []Problem
}

// add reports a problem at a key. site is empty when it refuses the whole
// configuration.
func (r *report) add(site string, path []string, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.find(path), site, fmt.Sprintf(format, args...)})
}

// sortProblems sorts by file, in the order in which they were read, then by
// line and column.
func sortProblems(problems []Problem, files []string) {
	order := make(map[string]int, len(files))
	for i, f := range files {
		order[f] = i
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.File, b.File), comparePlaces(a.Position, b.Position))
	})
}

func comparePlaces(a, b Position) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// refuses reports whether a problem among them is not that of a single site.
func refuses(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Site == "" })
}
