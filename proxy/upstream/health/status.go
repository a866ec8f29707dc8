package health

import (
	"fmt"
	"strconv"
	"strings"
)

// statusRange is from one HTTP status to another.
type statusRange struct{ first, last int }

// parseStatus reads "200", "200-399" or a list of these with commas.
func parseStatus(text string) (list []statusRange, err error) {
	for one := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(one), "-")
		if !isRange {
			last = first
		}
		r := statusRange{statusOf(first), statusOf(last)}
		if r.first == 0 || r.last < r.first {
			return nil, failure(fmt.Sprintf("%q is no list of statuses", text))
		}
		list = append(list, r)
	}
	return list, nil
}

// statusOf is a status of three digits, else 0.
func statusOf(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || len(text) != 3 || n < 100 || n > 599 {
		return 0
	}
	return int(n)
}

// wanted reports whether a status is in the list.
func wanted(list []statusRange, status int) bool {
	for _, r := range list {
		if r.first <= status && status <= r.last {
			return true
		}
	}
	return false
}
