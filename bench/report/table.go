package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Table prints the run: the goals that were missed first, then the one table.
func (r *Run) Table(w io.Writer) {
	for _, row := range r.Rows {
		if row.Fault != "" {
			fmt.Fprintf(w, "FAULT   %s: %s\n", row.Name, row.Fault)
		}
	}
	missed := 0
	for _, row := range r.Rows {
		if row.judged() && !row.Met {
			missed++
			fmt.Fprintf(w, "MISSED  %s: %s\n", row.Name, row.verdict())
		}
	}
	fmt.Fprintf(w, "%d of %d goals missed\n\n", missed, r.judged())
	fmt.Fprintf(w, "%s, Linux %s (%s), proxy on core %d, load and backend on core %d, %d rounds of %gs, %s\n",
		r.Machine, r.Kernel, r.TCP, r.Cores[0], r.Cores[1], r.Rounds, r.Seconds, r.Time.Format("2006-01-02 15:04"))
	for _, name := range r.Proxies {
		fmt.Fprintf(w, "  %-9s %s\n", name, r.Versions[name])
	}
	if r.Others > 0.5 {
		fmt.Fprintf(w, "The machine was not idle before the run, its load average was %.1f: throughput and latencies are worth little, and a row may have a fixed rate for that reason. -nice -10 helps.\n", r.Others)
	}
	if r.Quick {
		fmt.Fprintln(w, "A quick run: fewer and shorter rounds, fewer latency samples. Good for a look, not for a claim.")
	}
	fmt.Fprintln(w)
	grid := [][]string{append(append([]string{"row", ""}, r.Proxies...), "ratio to best", "goal", "")}
	if slices.Contains(r.Proxies, Other) {
		grid[0] = append(grid[0], Other+"/"+Usher)
	}
	for _, row := range r.Rows {
		grid = append(grid, nil)
		grid = append(grid, row.lines(r.Proxies)...)
	}
	align(w, grid)
	for _, row := range r.Rows {
		for _, note := range row.Notes {
			fmt.Fprintf(w, "%s: %s\n", row.Name, note)
		}
	}
}

// Missed are the names of the rows whose goal was not met.
func (r *Run) judged() (n int) {
	for _, row := range r.Rows {
		if row.judged() {
			n++
		}
	}
	return n
}

// judged reports whether a row has a verdict.
func (r *Row) judged() bool {
	us := r.By[Usher]
	return r.Fault == "" && us != nil && r.Goal > 0 && (r.Own || r.Best != "")
}

func (r *Row) verdict() string {
	if r.Own {
		return fmt.Sprintf("%s %s, goal %s", number(r.By[Usher].Value), r.Unit, number(r.Goal))
	}
	return fmt.Sprintf("%.2f of %s (bound %.2f), goal %.2f", r.Ratio, r.Best, r.Upper, r.Goal)
}

// lines are a row's figure and what stands below it.
func (r *Row) lines(proxies []string) [][]string {
	cells := func(label string, of func(*Figure) string) []string {
		line := []string{"", label}
		for _, name := range proxies {
			text := ""
			if f := r.By[name]; f != nil {
				text = of(f)
			}
			line = append(line, text)
		}
		return line
	}
	first := cells(r.Unit, func(f *Figure) string { return number(f.Value) })
	first[0] = r.Name
	switch {
	case r.Fault != "":
		first = append(first, "FAULT", "", "")
	case !r.judged():
		first = append(first, "", "", "")
	case r.Own:
		first = append(first, "", number(r.Goal), met(r.Met))
	default:
		first = append(first, fmt.Sprintf("%.2f (≤ %.2f) %s", r.Ratio, r.Upper, r.Best), fmt.Sprintf("%.2f", r.Goal), met(r.Met))
	}
	if ab, ok := r.Against(); ok {
		first = append(first, fmt.Sprintf("%.3f (≤ %.3f)", ab.Value, ab.Upper))
	}
	lines := [][]string{first}
	add := func(label string, has func(*Figure) bool, of func(*Figure) string) {
		for _, f := range r.By {
			if has(f) {
				lines = append(lines, cells(label, of))
				return
			}
		}
	}
	label := r.Volume
	if r.Rate > 0 {
		label += ", fixed rate"
	}
	add(label, func(f *Figure) bool { return f.Throughput > 0 }, func(f *Figure) string { return number(f.Throughput) })
	add("core busy", func(f *Figure) bool { return f.Busy > 0 }, func(f *Figure) string { return fmt.Sprintf("%.0f %%", 100*f.Busy) })
	add("p50/p99 µs", func(f *Figure) bool { return f.P99 > 0 }, func(f *Figure) string { return number(f.P50) + "/" + number(f.P99) })
	add("peak MB", func(f *Figure) bool { return f.Peak > 0 }, func(f *Figure) string { return number(float64(f.Peak) / 1e6) })
	return lines
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

// number shows three digits.
func number(v float64) string {
	switch {
	case v != v:
		return "–"
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// align prints cells in columns, the first two to the left, the others to the
// right. A nil line is a rule.
func align(w io.Writer, grid [][]string) {
	var widths []int
	for _, line := range grid {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	total := 0
	for _, n := range widths {
		total += n + 2
	}
	for _, line := range grid {
		if line == nil {
			fmt.Fprintln(w, strings.Repeat("─", total))
			continue
		}
		var b strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < 2 {
				b.WriteString(cell + pad + "  ")
			} else {
				b.WriteString(pad + cell + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
