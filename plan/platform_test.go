package plan

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"tmpki/keys"
	"tmpki/spki"
)

// developmentText is the development plan with replacements: old, new, old, new.
func developmentText(t *testing.T, replacements ...string) []byte {
	t.Helper()
	text, err := Template(Development, spki.KeyType{Kind: spki.RSA, Bits: 2048}, DefaultPlace)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replacements); i += 2 {
		if bytes.Count(text, []byte(replacements[i])) != 1 {
			t.Fatalf("%q does not stand in the plan once", replacements[i])
		}
		text = bytes.Replace(text, []byte(replacements[i]), []byte(replacements[i+1]), 1)
	}
	return text
}

func TestPlatformsHaveSetsOfTheirOwn(t *testing.T) {
	t.Parallel()
	p, err := Load(FileName, developmentText(t, "platforms: []", "platforms: [board-a, board-b]"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, platform := range []string{"board-a", "board-b"} {
		for _, base := range []string{"PK", "KEK", "DB"} {
			e := p.Entry(platform + "_" + base)
			if e == nil {
				t.Fatalf("no entry %s_%s", platform, base)
			}
			want, err := keys.FileURI("platforms/" + platform + "/" + base + ".key")
			if err != nil {
				t.Fatal(err)
			}
			if e.Key != want || e.Kind != PlatformKey || e.Platform != platform {
				t.Errorf("%s: key %v, kind %v, platform %q", e.Name, e.Key, e.Kind, e.Platform)
			}
			if cn := e.Subject.CommonName(); cn != base+" "+platform {
				t.Errorf("%s: common name %q", e.Name, cn)
			}
			if seen[e.Key.String()] {
				t.Errorf("%s: the key is another's too", e.Name)
			}
			seen[e.Key.String()] = true
		}
		set := p.UEFI.Platform(platform).Variables
		db := set[2]
		if db.ID() != platform+"/db" || db.Signer != p.Entry(platform+"_KEK") {
			t.Errorf("%s is signed by %s", db.ID(), db.Signer.Name)
		}
		if !slices.Equal(db.Certificates, []*Entry{p.Entry(platform + "_DB"), p.Entry("ssig_subca")}) {
			t.Errorf("%s holds %s", db.ID(), entryNamesOf(db.Certificates))
		}
	}
	if db := p.UEFI.Variables[2]; db.ID() != "db" || db.Certificates[0] != p.Entry("DB") {
		t.Errorf("the base set changed: %s holds %s", db.ID(), entryNamesOf(db.Certificates))
	}
	var files []string
	for _, f := range p.Published {
		if f.platform() == "board-b" {
			files = append(files, strings.TrimPrefix(f.File, "platforms/board-b/"))
		}
	}
	slices.Sort(files)
	want := []string{"DB.auth", "DB.crt", "DB.esl", "KEK.auth", "KEK.crt", "KEK.esl", "PK.auth", "PK.cer", "PK.crt", "PK.esl"}
	if !slices.Equal(files, want) {
		t.Errorf("board-b publishes %q, want %q", files, want)
	}
}

func TestStepsOfPlatforms(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, create string
		demand       Demand
		base, own    bool
	}{
		{"on request", "on-request", Demand{}, false, true},
		{"requested", "on-request", Demand{PlatformKeys: true}, true, true},
		{"always", "always", Demand{}, true, true},
		{"never", "never", Demand{PlatformKeys: true}, false, true},
	} {
		p, err := Load(FileName, developmentText(t, "platforms: []", "platforms: [board-a]", "create: on-request", "create: "+row.create))
		if err != nil {
			t.Fatal(err)
		}
		steps, err := p.Steps(Inventory{}, row.demand)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]StepKind{}
		for _, s := range steps {
			names[s.Name()] = s.Kind
		}
		for name, want := range map[string]bool{
			"PK": row.base, "db": row.base, "DB.auth": row.base, "ssig_subca.esl": row.base,
			"board-a_PK": row.own, "board-a/db": row.own, "platforms/board-a/DB.auth": row.own, "platforms/board-a/ssig_subca.esl": false,
		} {
			if _, is := names[name]; is != want {
				t.Errorf("%s: a step for %s: %v, want %v", row.name, name, is, want)
			}
		}
	}
}

func TestPlatformPlaces(t *testing.T) {
	t.Parallel()
	text := developmentText(t, "platforms: []", "platforms: [x]",
		"platform_key: {", `platform_key: {place: "file:offline/{name}.key", `)
	p, err := Load(FileName, text)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Entry("x_PK").Key.Path; got != "offline/platforms/x/PK.key" {
		t.Errorf("the key of x_PK is at %s", got)
	}
}

func TestLoadRefusesPlatforms(t *testing.T) {
	t.Parallel()
	const pk = "PK: {profile: platform_key,"
	for _, row := range []struct {
		name         string
		replacements []string
		want         string
	}{
		{"path", []string{"platforms: []", "platforms: [../x]"}, `uefi.platforms: "../x" is not a name`},
		{"slash", []string{"platforms: []", "platforms: [a/b]"}, `"a/b" is not a name`},
		{"dot", []string{"platforms: []", "platforms: [.]"}, `"." is not a name`},
		{"dash first", []string{"platforms: []", "platforms: [-a]"}, `"-a" is not a name`},
		{"empty", []string{"platforms: []", `platforms: [""]`}, `"" is not a name`},
		{"control", []string{"platforms: []", `platforms: ["a\nb"]`}, `"a\nb" is not a name`},
		{"long", []string{"platforms: []", "platforms: [" + strings.Repeat("x", 62) + "]"}, "is not a name"},
		{"long subject", []string{"platforms: []", "platforms: [xxxxxxxx]", "subject: {common_name: PK}", "subject: {common_name: " + strings.Repeat("P", 60) + "}"}, "uefi.platforms.xxxxxxxx.PK.subject.common_name"},
		{"twice", []string{"platforms: []", "platforms: [a, a]"}, `"a" stands twice`},
		{"no list", []string{"platforms: []", "platforms: a"}, ""},
		{"name is taken", []string{"platforms: []", "platforms: [ssig]", "  ssig_cml: #", "  ssig_PK: #", "  guestos: ssig_cml", "  guestos: ssig_PK", "  container: ssig_cml", "  container: ssig_PK", "{of: ssig_cml,", "{of: ssig_PK,"}, "the name is taken by certificates.ssig_PK"},
		{"one place for all", []string{"platforms: []", "platforms: [a]", pk, pk + ` place: "file:PK.key",`}, "uefi.keys.PK.place: \"file:PK.key\" is without {name}"},
		{"EC key", []string{pk + " key: rsa:2048", pk + " key: ec:P-256"}, "firmware can't use a key of type ec:P-256"},
		{"PSS key", []string{pk + " key: rsa:2048", pk + " key: rsa-pss:2048"}, "firmware can't use a key of type rsa-pss:2048"},
		{"RSA-4096 for RSA-2048 firmware", []string{pk + " key: rsa:2048", pk + " key: rsa:4096", "  uefi: # firmware: PK, KEK, db, EFI images\n    signers: [rsa:2048, rsa:3072, rsa:4096]", "  uefi:\n    signers: [rsa:2048]"}, "can't verify rsa:4096"},
		{"published over a key", []string{"platforms: []", "platforms: [a]", "  PK.crt: {", "  KEK.key2: {of: KEK, as: certificate}\n  platforms/a/PK.cer: {of: KEK, as: der}\n  PK.crt: {"}, "it is the place of publish.platforms/a/PK.cer"},
		{"vendor outside", []string{"[DB, ssig_subca], signer", "[DB, ssig_subca], files: [../x.cer], signer"}, `"../x.cer" is not a path inside the PKI directory`},
		{"vendor absolute", []string{"[DB, ssig_subca], signer", "[DB, ssig_subca], files: [/x.cer], signer"}, `"/x.cer" is not a path inside the PKI directory`},
		{"vendor store", []string{"[DB, ssig_subca], signer", "[DB, ssig_subca], files: [pki.db], signer"}, `"pki.db" is a place of the store`},
		{"vendor twice", []string{"[DB, ssig_subca], signer", "[DB, ssig_subca], files: [x, x], signer"}, `"x" stands twice`},
		{"vendor in PK", []string{"certificates: [PK]", "certificates: [PK], files: [x]"}, "PK holds one certificate"},
	} {
		_, err := Load(FileName, developmentText(t, row.replacements...))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

// Whatever the layout, the name is added and not an octet else changes.
func TestInsertPlatform(t *testing.T) {
	t.Parallel()
	plan := string(developmentText(t))
	withList := func(s string) string { return strings.Replace(plan, "  platforms: []\n", s, 1) }
	for _, row := range []struct{ name, text, want string }{
		{"empty list", plan, "  platforms: [new]\n"},
		{"a comment", withList("  platforms: [] # none [yet]: see\n"), "  platforms: [new] # none [yet]: see\n"},
		{"a list", withList("  platforms: [a, \"b\"]\n"), "  platforms: [a, \"b\", new]\n"},
		{"several lines", withList("  platforms: [\n    a, # first\n    b\n  ]\n"), "  platforms: [\n    a, # first\n    b\n  , new]\n"},
		{"a last comma", withList("  platforms: [a,]\n"), "  platforms: [new, a,]\n"},
		{"a block", withList("  platforms:\n    - a # first\n    # second\n    - b\n    # end\n"), "    - b\n    - new\n    # end\n"},
		{"nothing", withList("  platforms:\n"), "  platforms: [new]\n"},
		{"nothing with a comment", withList("  platforms: # [x]\n"), "  platforms: [new] # [x]\n"},
		{"no key", withList(""), "uefi:\n  platforms: [new]\n"},
		{"CRLF", strings.ReplaceAll(withList(""), "\n", "\r\n"), "uefi:\r\n  platforms: [new]\r\n"},
	} {
		got, err := insertPlatform([]byte(row.text), "new")
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if !strings.Contains(string(got), row.want) {
			t.Errorf("%s: lacks %q:\n%s", row.name, row.want, got[bytes.Index(got, []byte("\nuefi:")):])
		}
		// What was added is one piece.
		i := 0
		for i < len(row.text) && row.text[i] == got[i] {
			i++
		}
		if !strings.HasSuffix(string(got), row.text[i:]) {
			t.Errorf("%s: more than an insertion:\n%s", row.name, got)
		}
		if _, err := Load(FileName, got); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// The same in a plan that is written in braces.
func TestInsertPlatformInBraces(t *testing.T) {
	t.Parallel()
	got, err := insertPlatform([]byte("version: 1\nuefi: {create: always} # end\n"), "new")
	if want := "version: 1\nuefi: {platforms: [new], create: always} # end\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
