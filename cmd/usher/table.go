package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// table prints aligned columns.
type table struct {
	out     io.Writer
	columns *tabwriter.Writer
	aligned bytes.Buffer
}

func newTable(out io.Writer) *table {
	t := &table{out: out}
	t.columns = tabwriter.NewWriter(&t.aligned, 0, 8, 2, ' ', 0)
	return t
}

// row adds one line. Rows of one table have equally many cells.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			io.WriteString(t.columns, "\t")
		}
		io.WriteString(t.columns, printable(c))
	}
	t.gap()
}

// gap adds an empty line, after which the columns are aligned anew.
func (t *table) gap() { io.WriteString(t.columns, "\n") }

// flush prints the table, without the spaces that align empty cells at the end
// of a line.
func (t *table) flush() error {
	t.columns.Flush()
	w := bufio.NewWriter(t.out)
	for line := range bytes.Lines(t.aligned.Bytes()) {
		w.Write(bytes.TrimRight(line, " \n"))
		w.WriteByte('\n')
	}
	return w.Flush()
}

// printable is a text that does nothing to a terminal: hostnames and error
// texts may come from strangers.
func printable(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			quoted := strconv.Quote(s)
			return quoted[1 : len(quoted)-1]
		}
	}
	return s
}

func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON, for scripts")
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// count is "1 site" or "2 sites".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// moment is a time for people; empty for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// number is a count where nothing is better left out.
func number(n int) string { return strconv.Itoa(n) }
