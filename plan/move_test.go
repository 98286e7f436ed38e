package plan

import (
	"strings"
	"testing"
)

func TestSetPlace(t *testing.T) {
	const place = "pkcs11:token=a;object=b?pin-source=file:/run/pin"
	rows := []struct {
		name, entry string
		old, new    string // changes the plan before
		from, to    string // how the text changes
		err         string
	}{
		{name: "block", entry: "root", from: "  root:\n", to: "  root:\n    place: \"" + place + "\"\n"},
		{name: "certificate", entry: "debos", from: "  debos:\n", to: "  debos:\n    place: \"" + place + "\"\n"},
		{name: "flow", entry: "PK", from: "PK: {profile", to: "PK: {place: \"" + place + "\", profile"},
		{name: "a comment after the name", entry: "debos", old: "  debos:\n", new: "  debos: # mine {\n", from: "  debos: # mine {\n", to: "  debos: # mine {\n    place: \"" + place + "\"\n"},
		{name: "a place in quotes", entry: "debos", old: "    key: rsa-pss:2048\n", new: "    key: rsa-pss:2048\n    place: \"file:x.key\" # old\n",
			from: "place: \"file:x.key\" # old", to: "place: \"" + place + "\" # old"},
		{name: "a plain place", entry: "debos", old: "    key: rsa-pss:2048\n", new: "    key: rsa-pss:2048\n    place: file:x.key\n",
			from: "place: file:x.key", to: "place: \"" + place + "\""},
		{name: "an alias elsewhere", entry: "debos", old: "    key: rsa-pss:2048\n", new: "    key: rsa-pss:2048\n    place: \"file:{name}.x\"\n",
			from: "    place: \"file:{name}.x\"", to: "    place: \"" + place + "\""},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			text := small
			if r.old != "" {
				if text = strings.Replace(small, r.old, r.new, 1); text == small {
					t.Fatal("the row changes nothing")
				}
			}
			p, err := Load(FileName, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := setPlace([]byte(text), p.Entry(r.entry), place)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(text, r.from, r.to, 1); string(got) != want || want == text {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			again, err := Load(FileName, got)
			if err != nil || again.Entry(r.entry).Key.String() != place {
				t.Errorf("%v", err)
			}
		})
	}
}
