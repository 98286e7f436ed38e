package store

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// leafHash is the tree's hash of an entry's octets.
func leafHash(data []byte) []byte {
	hash := tlog.RecordHash(data)
	return hash[:]
}

// seeds are entries of each kind.
func seeds(t testing.TB) [][]byte {
	zero := strings.Repeat("0", 64)
	var all [][]byte
	for _, e := range []Entry{
		{Kind: KindIssue, Seq: 0, Actor: "me", Name: "root", Issuer: "root", Profile: "ca", Serial: "7f", SHA256: zero,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))},
		{Kind: KindObject, Seq: 1 << 40, Actor: "me", Name: "PK.auth", SHA256: zero, Detail: map[string]string{"kind": "uefi", "a": ""}},
		{Kind: KindSetting, Actor: "me", Name: "k", SHA256: zero, Detail: map[string]string{"value": "<&>\u2028\x00\"\\ü"}},
		{Kind: KindSign, Actor: "me", Name: "f", Serial: "01", SHA256: zero, Detail: map[string]string{"size": "1"}},
	} {
		data, err := e.Marshal()
		must(t, err)
		all = append(all, data)
	}
	return all
}

func TestMarshalIsStable(t *testing.T) {
	// The octets are hashed for good: this must never change.
	want := `{"actor":"me","issuer":"root","kind":"issue","name":"root","profile":"ca","seq":0,"serial":"7f",` +
		`"sha256":"0000000000000000000000000000000000000000000000000000000000000000","time":"2026-01-02T02:04:05.000000006Z"}`
	if got := string(seeds(t)[0]); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	want = `{"actor":"me","detail":{"value":"<&>\u2028\u0000\"\\ü"},"kind":"setting","name":"k","seq":0,` +
		`"sha256":"0000000000000000000000000000000000000000000000000000000000000000","time":"0001-01-01T00:00:00Z"}`
	if got := string(seeds(t)[2]); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestParseEntryRefuses(t *testing.T) {
	good := string(seeds(t)[0])
	if _, err := ParseEntry([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, old, new string
	}{
		{"space", `,"issuer"`, `, "issuer"`},
		{"trailing data", `Z"}`, `Z"}{}`},
		{"newline", `Z"}`, "Z\"}\n"},
		{"unknown member", `{"actor"`, `{"a":1,"actor"`},
		{"duplicate member", `{"actor"`, `{"actor":"x","actor"`},
		{"other case", `"actor"`, `"Actor"`},
		{"other order", `{"actor":"me","issuer":"root"`, `{"issuer":"root","actor":"me"`},
		{"needless escape", `"me"`, `"\u006de"`},
		{"empty member", `"issuer":"root"`, `"issuer":""`},
		{"null", `"issuer":"root"`, `"issuer":null`},
		{"empty detail", `"issuer":"root"`, `"detail":{},"issuer":"root"`},
		{"no actor", `"actor":"me",`, ``},
		{"no name", `"name":"root",`, ``},
		{"bad UTF-8", `"me"`, "\"\xff\""},
		{"unknown kind", `"issue"`, `"revive"`},
		{"negative seq", `"seq":0`, `"seq":-1`},
		{"zero and more", `"seq":0`, `"seq":00`},
		{"exponent", `"seq":0`, `"seq":0e0`},
		{"serial zero", `"7f"`, `"00"`},
		{"serial with leading zero", `"7f"`, `"007f"`},
		{"serial of odd length", `"7f"`, `"7"`},
		{"serial in upper case", `"7f"`, `"7F"`},
		{"serial of 21 octets", `"7f"`, `"` + strings.Repeat("7f", 21) + `"`},
		{"short digest", `"0000`, `"00`},
		{"no digest", strings.Repeat("0", 64), ``},
		{"another zone", `02:04:05.000000006Z`, `03:04:05.000000006+01:00`},
		{"zone of zero", `6Z`, `6+00:00`},
		{"trailing zero of a second", `6Z`, `60Z`},
		{"long", `"me"`, `"` + strings.Repeat("m", maxEntry) + `"`},
	}
	for _, test := range tests {
		bad := strings.Replace(good, test.old, test.new, 1)
		if bad == good {
			t.Errorf("%s: nothing changed", test.name)
		}
		if entry, err := ParseEntry([]byte(bad)); err == nil {
			t.Errorf("%s: parsed as %+v", test.name, entry)
		}
	}
}

// Marshal writes what encoding/json would.
func FuzzMarshal(f *testing.F) {
	corpus, err := os.ReadDir("testdata/fuzz/FuzzMarshal")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("no seed corpus: %v", err)
	}
	f.Fuzz(func(t *testing.T, actor, key, value, name string, seconds, nanoseconds int64) {
		e := Entry{Kind: KindSign, Actor: actor, Name: name, Issuer: value, SHA256: strings.Repeat("0", 64), Seq: seconds & 0xffff,
			Detail: map[string]string{key: value, value: key, name: actor}, Time: time.Unix(seconds, nanoseconds&0x3fffffff)}
		got, err := e.Marshal()
		if err != nil {
			return
		}
		e.Time = e.Time.UTC()
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		must(t, enc.Encode(e))
		if string(got)+"\n" != want.String() {
			t.Errorf("%s, want %s", got, want.String())
		}
		if _, err := ParseEntry(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	})
}

func FuzzParseMembers(f *testing.F) {
	corpus, err := os.ReadDir("testdata/fuzz/FuzzParseMembers")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("no seed corpus: %v", err)
	}
	m := member{serial: []byte{1}, name: "a", class: 1, actor: 300, subjectKeyID: []byte{1, 2}, notBefore: -1, notAfter: 1 << 40}
	f.Add(marshalMembers([]member{m, m}))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := parseMembers(data)
		if err != nil {
			return
		}
		if again := marshalMembers(members); !bytes.Equal(again, data) {
			t.Errorf("%x becomes %x", data, again)
		}
	})
}

func TestParseMembersRefuses(t *testing.T) {
	good := marshalMembers([]member{{serial: []byte{1}, name: "ab", class: 1, actor: 2, notBefore: 100, notAfter: 200}})
	if _, err := parseMembers(good); err != nil {
		t.Fatal(err)
	}
	for cut := range good {
		if _, err := parseMembers(good[:cut]); err == nil {
			t.Errorf("cut to %d octets: no error", cut)
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"trailing data":  func(b []byte) []byte { return append(b, 0) },
		"serial zero":    func(b []byte) []byte { b[1] = 0; return b },
		"no UTF-8":       func(b []byte) []byte { b[3] = 0xff; return b },
		"class zero":     func(b []byte) []byte { b[5] = 0; return b },
		"long form":      func(b []byte) []byte { return append([]byte{0x81, 0x00}, b[1:]...) },
		"too many":       func(b []byte) []byte { return bytes.Repeat(b, batchMembers+1) },
		"long serial":    func(b []byte) []byte { return append(append([]byte{21}, bytes.Repeat([]byte{1}, 21)...), b[2:]...) },
		"length too far": func(b []byte) []byte { b[2] = 0xff; b[3] = 0x7f; return b },
	} {
		if _, err := parseMembers(change(bytes.Clone(good))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzSplitBundle(f *testing.F) {
	corpus, err := os.ReadDir("testdata/fuzz/FuzzSplitBundle")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("no seed corpus: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte, count int) {
		list, err := splitBundle(data, count)
		if err != nil {
			return
		}
		var p packer
		for _, entry := range list {
			must(t, p.add(entry))
		}
		if !bytes.Equal(p.bundle, data) {
			t.Errorf("%x becomes %x", data, p.bundle)
		}
	})
}

// A cursor has one spelling.
func FuzzCursor(f *testing.F) {
	corpus, err := os.ReadDir("testdata/fuzz/FuzzCursor")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("no seed corpus: %v", err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, q := range []Query{{}, {NamePrefix: "a"}, {ExpiresFrom: utc(1)}} {
			p, err := q.parse(Cursor(text))
			if err != nil || !p.any {
				continue
			}
			if again := q.cursor(Record{Name: p.name, NotAfter: utc(p.date), Entry: p.entry}); string(again) != text {
				t.Errorf("%q becomes %q", text, again)
			}
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	corpus, err := os.ReadDir("testdata/fuzz/FuzzParseEntry")
	if err != nil || len(corpus) == 0 {
		f.Fatalf("no seed corpus: %v", err)
	}
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		entry, err := ParseEntry(data)
		if err != nil {
			return
		}
		again, err := entry.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q becomes %q (%v)", data, again, err)
		}
	})
}
