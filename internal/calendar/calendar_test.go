package calendar

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func written(t testing.TB, events ...Event) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, "-//tmpki//test//EN", "certificates; of a, b", time.Unix(1.8e9, 0), events); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// parsed is an event as the checker read it.
type parsed struct {
	properties map[string]string
	alarms     []string
}

// read is a strict reader of what the standard allows and Write uses.
func read(file string) ([]parsed, error) {
	if !utf8.ValidString(file) {
		return nil, errors.New("not UTF-8")
	}
	raw, ok := strings.CutSuffix(file, "\r\n")
	if !ok {
		return nil, errors.New("does not end in CRLF")
	}
	var lines []string
	for _, l := range strings.Split(raw, "\r\n") {
		switch {
		case strings.ContainsAny(l, "\r\n"):
			return nil, fmt.Errorf("a line break alone in %q", l)
		case len(l) > 75:
			return nil, fmt.Errorf("%d octets in %q", len(l), l)
		case strings.HasPrefix(l, " ") && len(lines) > 0:
			lines[len(lines)-1] += l[1:]
		default:
			lines = append(lines, l)
		}
	}
	values := map[string]*regexp.Regexp{
		"VERSION": regexp.MustCompile(`^2\.0$`), "CALSCALE": regexp.MustCompile(`^GREGORIAN$`), "METHOD": regexp.MustCompile(`^PUBLISH$`),
		"DTSTAMP": regexp.MustCompile(`^\d{8}T\d{6}Z$`), "DTSTART;VALUE=DATE": regexp.MustCompile(`^\d{8}$`),
		"TRANSP": regexp.MustCompile(`^TRANSPARENT$`), "ACTION": regexp.MustCompile(`^DISPLAY$`), "TRIGGER": regexp.MustCompile(`^-P\d+D$`),
	}
	text := regexp.MustCompile(`^([^\\;,\x00-\x08\x0a-\x1f\x7f]|\\[\\;,nN])*$`)
	for _, name := range []string{"PRODID", "X-WR-CALNAME", "UID", "SUMMARY", "DESCRIPTION"} {
		values[name] = text
	}
	needs := map[string][]string{
		"VCALENDAR": {"VERSION", "PRODID"},
		"VEVENT":    {"UID", "DTSTAMP", "DTSTART;VALUE=DATE", "SUMMARY"},
		"VALARM":    {"ACTION", "DESCRIPTION", "TRIGGER"},
	}
	inside := map[string]string{"VCALENDAR": "", "VEVENT": "VCALENDAR", "VALARM": "VEVENT"}
	var open []string
	var seen []map[string]string
	var events []parsed
	var alarms []string
	uids := map[string]bool{}
	for i, l := range lines {
		name, value, ok := strings.Cut(l, ":")
		if !ok {
			return nil, fmt.Errorf("no property: %q", l)
		}
		switch name {
		case "BEGIN":
			parent, known := inside[value]
			if !known || (len(open) == 0) != (parent == "") || len(open) > 0 && open[len(open)-1] != parent || len(open) == 0 && i > 0 {
				return nil, fmt.Errorf("%s in %v", value, open)
			}
			open, seen = append(open, value), append(seen, map[string]string{})
		case "END":
			if len(open) == 0 || open[len(open)-1] != value {
				return nil, fmt.Errorf("end of %s in %v", value, open)
			}
			is := seen[len(seen)-1]
			for _, need := range needs[value] {
				if is[need] == "" {
					return nil, fmt.Errorf("%s without %s", value, need)
				}
			}
			switch value {
			case "VEVENT":
				if uids[is["UID"]] {
					return nil, fmt.Errorf("UID %s twice", is["UID"])
				}
				uids[is["UID"]] = true
				events = append(events, parsed{is, alarms})
				alarms = nil
			case "VALARM":
				alarms = append(alarms, is["TRIGGER"])
			}
			open, seen = open[:len(open)-1], seen[:len(seen)-1]
		default:
			pattern := values[name]
			if pattern == nil || !pattern.MatchString(value) || len(open) == 0 {
				return nil, fmt.Errorf("property %q", l)
			}
			is := seen[len(seen)-1]
			if _, twice := is[name]; twice {
				return nil, fmt.Errorf("%s twice", name)
			}
			is[name] = value
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("%v not ended", open)
	}
	return events, nil
}

func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\;`, ";", `\,`, ",", `\n`, "\n").Replace(s)
}

func TestWrite(t *testing.T) {
	day := time.Date(2030, 2, 28, 23, 59, 59, 0, time.UTC)
	names := []string{
		"plain", "a;b,c\\d", "two\nlines\r\n", "Standard PC\n SN 12/34\n", strings.Repeat("long ", 60), strings.Repeat("ü€😀", 50),
		strings.Repeat("x", 75-len("SUMMARY:")), strings.Repeat("x", 76-len("SUMMARY:")), "BEGIN:VALARM\r\nX", "tab\tbell\a\x7f\u0085\u2028",
	}
	var events []Event
	for i, name := range names {
		events = append(events, Event{UID: fmt.Sprint("uid-", i, "@test"), Summary: name, Description: "why " + name, Day: day, Alarms: []int{90, 30, 7}})
	}
	got, err := read(written(t, events...))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(events) {
		t.Fatalf("%d events, want %d", len(got), len(events))
	}
	for i, e := range got {
		want := strings.ReplaceAll(names[i], "\r\n", "\n")
		for _, c := range []string{"\t", "\a", "\x7f", "\u0085", "\u2028"} {
			want = strings.ReplaceAll(want, c, "\ufffd")
		}
		if is := unescape(e.properties["SUMMARY"]); is != want {
			t.Errorf("summary %q, want %q", is, want)
		}
		if e.properties["DTSTART;VALUE=DATE"] != "20300228" || fmt.Sprint(e.alarms) != "[-P90D -P30D -P7D]" {
			t.Errorf("event %v", e)
		}
	}
}

// TestReaderIsStrict makes sure that the checker would notice.
func TestReaderIsStrict(t *testing.T) {
	good := written(t, Event{UID: "a", Summary: "b", Day: time.Unix(0, 0), Alarms: []int{7}})
	for name, bad := range map[string]string{
		"LF":            strings.ReplaceAll(good, "\r\n", "\n"),
		"long line":     strings.Replace(good, "SUMMARY:b", "SUMMARY:"+strings.Repeat("b", 80), 1),
		"no stamp":      strings.Replace(good, "DTSTAMP:20270115T080000Z\r\n", "", 1),
		"bare comma":    strings.Replace(good, "SUMMARY:b", "SUMMARY:b,c", 1),
		"not ended":     strings.Replace(good, "END:VALARM\r\n", "", 1),
		"twice":         strings.Replace(good, "SUMMARY:b", "SUMMARY:b\r\nSUMMARY:b", 1),
		"no line":       strings.Replace(good, "SUMMARY:b", "SUMMARY", 1),
		"event in none": strings.Replace(good, "BEGIN:VCALENDAR\r\n", "", 1),
	} {
		if bad == good {
			t.Errorf("%s: nothing changed", name)
		}
		if _, err := read(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestICalendarReadsIt is a second opinion, where Python has the library.
func TestICalendarReadsIt(t *testing.T) {
	if exec.Command("python3", "-c", "import icalendar").Run() != nil {
		t.Skip("python3 has no icalendar here")
	}
	cmd := exec.Command("python3", "-c", `import sys, icalendar
c = icalendar.Calendar.from_ical(sys.stdin.buffer.read())
print([(str(e["SUMMARY"]), str(e.decoded("DTSTART"))) for e in c.walk("VEVENT")])`)
	cmd.Stdin = strings.NewReader(written(t, Event{UID: "a", Summary: "x;y", Day: time.Date(2030, 2, 28, 0, 0, 0, 0, time.UTC), Alarms: []int{7}}))
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "[('x;y', '2030-02-28')]\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a;b\n", "ü")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" {
			return
		}
		if _, err := read(written(t, Event{UID: a, Summary: b, Description: a + b, Day: time.Unix(0, 0)})); err != nil {
			t.Fatal(err)
		}
	})
}
