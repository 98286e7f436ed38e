package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is text in two columns under headings.
type table struct {
	colour bool
	rows   []tableRow
}

// tableRow is a heading, if it has no label, or a label with its values, each on
// a line of its own.
type tableRow struct {
	label  string
	values []string
}

// Limits of one row on the terminal; JSON has all.
const (
	maxValues = 20
	maxRunes  = 400
)

func (t *table) heading(format string, args ...any) {
	t.rows = append(t.rows, tableRow{values: []string{fmt.Sprintf(format, args...)}})
}

// add appends a row, unless it would be empty. Values must be escaped already.
func (t *table) add(label string, values ...string) {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return
	}
	row := tableRow{label: label}
	for i, v := range values {
		if i == maxValues {
			row.values = append(row.values, fmt.Sprintf("… and %d more", len(values)-i))
			break
		}
		row.values = append(row.values, clip(v, maxRunes))
	}
	t.rows = append(t.rows, row)
}

// clip cuts s to n characters, and says so.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return fmt.Sprintf("%s… (%d characters)", string(r[:n]), len(r))
}

// flush writes the table. Headings after the first have an empty line before.
func (t *table) flush(out io.Writer) error {
	width := 0
	for _, r := range t.rows {
		width = max(width, utf8.RuneCountInString(r.label))
	}
	bold, dim, off := "", "", ""
	if t.colour {
		bold, dim, off = "\x1b[1m", "\x1b[2m", "\x1b[0m"
	}
	var b strings.Builder
	for i, r := range t.rows {
		if r.label == "" {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "%s%s%s\n", bold, r.values[0], off)
			continue
		}
		for j, v := range r.values {
			label := r.label
			if j > 0 {
				label = ""
			}
			padding := strings.Repeat(" ", width-utf8.RuneCountInString(label))
			fmt.Fprintf(&b, "  %s%s%s%s  %s\n", dim, label, off, padding, v)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
