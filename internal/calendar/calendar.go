// Package calendar writes iCalendar files (RFC 5545) of all-day events with
// reminders. It reads none.
package calendar

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Event is something that happens on one day.
type Event struct {
	UID         string // says to a calendar which event this is, whenever it gets it again
	Summary     string
	Description string
	Day         time.Time // the day is that in the time's own location
	Alarms      []int     // days before
}

// maxLine limits a line without its end, in octets (RFC 5545, Section 3.1).
const maxLine = 75

// Write writes a calendar. product says who wrote it (PRODID), name what it is
// about, stamp when it was made. Texts may hold anything: control characters other
// than line breaks, which no text can hold, become U+FFFD.
func Write(w io.Writer, product, name string, stamp time.Time, events []Event) error {
	out := bufio.NewWriter(w)
	line := func(format string, args ...any) { fold(out, fmt.Sprintf(format, args...)) }
	line("BEGIN:VCALENDAR")
	line("VERSION:2.0")
	line("PRODID:%s", text(product))
	line("CALSCALE:GREGORIAN")
	line("METHOD:PUBLISH")
	line("X-WR-CALNAME:%s", text(name))
	for _, e := range events {
		line("BEGIN:VEVENT")
		line("UID:%s", text(e.UID))
		line("DTSTAMP:%s", stamp.UTC().Format("20060102T150405Z"))
		line("DTSTART;VALUE=DATE:%s", e.Day.Format("20060102"))
		line("SUMMARY:%s", text(e.Summary))
		if e.Description != "" {
			line("DESCRIPTION:%s", text(e.Description))
		}
		line("TRANSP:TRANSPARENT") // nobody is busy that day
		for _, days := range e.Alarms {
			line("BEGIN:VALARM")
			line("ACTION:DISPLAY")
			line("DESCRIPTION:%s", text(e.Summary))
			line("TRIGGER:-P%dD", days)
			line("END:VALARM")
		}
		line("END:VEVENT")
	}
	line("END:VCALENDAR")
	return out.Flush()
}

// text escapes a value of type TEXT (Section 3.3.11).
func text(s string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\\' || r == ';' || r == ',':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029':
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// fold writes a content line, in pieces of at most maxLine octets that split no
// character.
func fold(out *bufio.Writer, s string) {
	room := maxLine
	for len(s) > room {
		cut := room
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		out.WriteString(s[:cut])
		out.WriteString("\r\n ")
		s, room = s[cut:], maxLine-1 // the space counts
	}
	out.WriteString(s)
	out.WriteString("\r\n")
}
