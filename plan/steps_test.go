package plan

import (
	"bytes"
	"crypto"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/uefi"
)

// signers are made once: RSA takes long.
var signers sync.Map

// signer returns the key of an entry. Entries share keys of a type, but no
// certificate has the key of its issuer, and no generation that of another.
func signer(e *Entry) crypto.Signer {
	e = e.KeyOwner()
	name := fmt.Sprint(e.KeyType, len(e.Chain()), e.Generation)
	once, _ := signers.LoadOrStore(name, sync.OnceValue(func() crypto.Signer { return must(keys.Generate(e.KeyType)) }))
	return once.(func() crypto.Signer)()
}

var linter = sync.OnceValue(func() *ca.Linter { return must(ca.NewLinter()) })

var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// complete returns the inventory of a PKI in which all is there, as Apply leaves
// it: without the UEFI part if withUEFI is false.
func complete(p *Plan, withUEFI bool) Inventory {
	have := Inventory{Owners: map[string]string{}, Certificates: map[string]*ca.Certificate{}, Variables: map[string]SignedVariable{}, Keys: map[string]KeyFile{}, Files: map[string]File{}}
	if p.UEFI != nil {
		have.Owners[""] = p.UEFI.Owner
	}
	for _, e := range p.Entries {
		if e.Kind == PlatformKey && !withUEFI {
			continue
		}
		key := signer(e)
		if e.TwinOf == nil {
			have.Keys[e.Name] = KeyFile{File{[]byte("key of " + e.Name + "\n"), 0o600}, e.KeyType}
		}
		var issuer *ca.Issuer
		if e.Issuer == nil {
			issuer = must(ca.NewSelfIssuer(e.Name, e.Subject, key, e.Algorithm, linter()))
		} else {
			issuer = must(ca.NewIssuer(e.Issuer.Name, have.Certificates[e.Issuer.Name], signer(e.Issuer), e.Issuer.Algorithm, linter()))
		}
		prepared := must(issuer.Prepare(e.Profile, ca.Request{Name: e.Name, Subject: e.Subject, PublicKey: key.Public(), SubjectAltNames: e.SubjectAltNames, NotBefore: made, Rollover: e.Kind == Cross}))
		have.Certificates[e.Name] = must(issuer.Sign(prepared))
	}
	if withUEFI {
		if have.Owners[""] == "" {
			have.Owners[""] = "6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11"
		}
		for _, v := range p.UEFI.Variables {
			value := must(uefi.ParseSignatureLists(must(v.database(have))))
			raw := must(uefi.SignVariable(uefi.Update{Variable: v.Variable, Time: made, Value: value}, signer(v.Signer), have.Certificates[v.Signer.Name].Raw))
			have.Variables[v.Name] = SignedVariable{must(uefi.ParseAuth(raw)), raw}
		}
	}
	for i := range p.Published {
		f := &p.Published[i]
		if !f.UEFI() || withUEFI {
			have.Files[f.File] = File{must(f.render(have)), f.mode()}
		}
	}
	return have
}

// clone lets a row change an inventory and leave the others theirs.
func (have Inventory) clone() Inventory {
	have.Certificates, have.Variables = maps.Clone(have.Certificates), maps.Clone(have.Variables)
	have.Keys, have.Files = maps.Clone(have.Keys), maps.Clone(have.Files)
	have.Owners = maps.Clone(have.Owners)
	return have
}

func list(steps []Step) string {
	var out []string
	for _, s := range steps {
		line := string(s.Kind) + " " + s.Name()
		if s.Reason != "" {
			line += " (" + s.Reason + ")"
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestSteps(t *testing.T) {
	p := must(Load("pki.yaml", []byte(small)))
	without, with := complete(p, false), complete(p, true)
	rows := []struct {
		name   string
		old    string // changes the plan
		new    string
		have   Inventory
		change func(*Inventory)
		demand bool
		want   string
		err    string
	}{
		{name: "nothing there", have: Inventory{}, want: `generate key root
generate key other
generate key sub
generate key guest
generate key kernel
generate key debos
issue certificate root
issue certificate other
issue certificate sub
issue certificate guest
issue certificate kernel
issue certificate debos
issue certificate twin
publish root.cert
publish certs/kernel.pem
publish certs/kernel.der
publish debos.cert
publish kernel.cert
publish twin.cert`},
		{name: "nothing there, UEFI on demand", have: Inventory{}, demand: true, want: `generate key root
generate key other
generate key sub
generate key guest
generate key kernel
generate key debos
generate key DB
generate key KEK
generate key PK
issue certificate root
issue certificate other
issue certificate sub
issue certificate guest
issue certificate kernel
issue certificate debos
issue certificate twin
issue certificate DB
issue certificate KEK
issue certificate PK
sign variable PK
sign variable KEK
sign variable db
publish root.cert
publish certs/kernel.pem
publish certs/kernel.der
publish debos.cert
publish kernel.cert
publish twin.cert
publish sub.esl
publish db.esl
publish db.auth`},
		{name: "all there", have: without},
		{name: "all there with UEFI", have: with},
		{name: "all there with UEFI, demanded again", have: with, demand: true},
		{name: "UEFI demanded later", have: without, demand: true, want: `generate key DB
generate key KEK
generate key PK
issue certificate DB
issue certificate KEK
issue certificate PK
sign variable PK
sign variable KEK
sign variable db
publish sub.esl
publish db.esl
publish db.auth`},
		{name: "UEFI always", have: without, old: "create: on-request", new: "create: always", want: `generate key DB
generate key KEK
generate key PK
issue certificate DB
issue certificate KEK
issue certificate PK
sign variable PK
sign variable KEK
sign variable db
publish sub.esl
publish db.esl
publish db.auth`},
		{name: "UEFI never", have: with, old: "create: on-request", new: "create: never", demand: true},
		{name: "UEFI begun and interrupted", have: with, change: func(i *Inventory) {
			delete(i.Certificates, "PK")
			clear(i.Variables)
			delete(i.Files, "db.auth")
		}, want: `issue certificate PK
sign variable PK
sign variable KEK
sign variable db
publish db.esl (the variable is new)
publish db.auth`},

		// Keys
		{name: "a key without its certificate", have: without, change: func(i *Inventory) {
			delete(i.Certificates, "debos")
			delete(i.Files, "debos.cert")
		}, want: `issue certificate debos
publish debos.cert`},
		{name: "a published file without its certificate", have: without, change: func(i *Inventory) { delete(i.Certificates, "debos") },
			err: `debos.cert is there, but no certificate of debos is on record: it was made elsewhere, or pki.db was lost. Restore that, or take the file away`},
		{name: "an encrypted key without its certificate", have: without, change: func(i *Inventory) {
			delete(i.Certificates, "debos")
			delete(i.Files, "debos.cert")
			i.Keys["debos"] = KeyFile{i.Keys["debos"].File, spki.KeyType{}}
		}, want: `issue certificate debos
publish debos.cert`},
		{name: "a key of another type without its certificate", have: without, change: func(i *Inventory) {
			delete(i.Certificates, "debos")
			i.Keys["debos"] = KeyFile{i.Keys["debos"].File, spki.KeyType{Kind: spki.RSA, Bits: 2048}}
		}, err: `certificates.debos: the key at file:debos.key is of type rsa:2048, but the plan wants rsa-pss:2048: take that file away, or change the plan`},
		{name: "neither key nor certificate", have: without, change: func(i *Inventory) {
			delete(i.Certificates, "debos")
			delete(i.Keys, "debos")
			delete(i.Files, "debos.cert")
		}, want: `generate key debos
issue certificate debos
publish debos.cert`},
		{name: "a root's key is away and not needed", have: without, change: func(i *Inventory) { delete(i.Keys, "root") }},
		{name: "all keys of CAs are away and not needed", have: with, change: func(i *Inventory) {
			for _, name := range []string{"root", "other", "sub", "guest", "PK", "KEK", "DB"} {
				delete(i.Keys, name)
			}
		}},
		{name: "a sub CA's key is away and needed", have: without, change: func(i *Inventory) {
			delete(i.Keys, "guest")
			delete(i.Certificates, "debos")
		}, err: `the key of guest is not at file:guest.key, but it is needed to issue the certificate of debos: restore it from your backup`},
		{name: "an offline root is away and needed", have: without, old: "    hierarchy: software\n", new: "    hierarchy: software\n    custody: offline\n", change: func(i *Inventory) {
			delete(i.Keys, "root")
			delete(i.Certificates, "sub")
		}, err: `the key of root is not at file:root.key, but it is needed to issue the certificate of sub: its custody is offline: bring it here`},
		{name: "an offline root is away and not needed", have: without, old: "    hierarchy: software\n", new: "    hierarchy: software\n    custody: offline\n", change: func(i *Inventory) {
			delete(i.Keys, "root")
			delete(i.Files, "root.cert")
		}, want: "publish root.cert"},
		{name: "an offline root is away, and its own certificate changes", have: without, old: "    hierarchy: software\n", new: "    hierarchy: software\n    custody: offline\n    validity: 3000d\n", change: func(i *Inventory) { delete(i.Keys, "root") },
			err: `the key of root is not at file:root.key, but it is needed to issue the certificate of root: its custody is offline: bring it here`},
		{name: "the key of a certificate that is issued again is away", have: without, old: "    subject_alt_names: [\"dns:debos.example\"]\n", new: "", change: func(i *Inventory) { delete(i.Keys, "debos") },
			want: `issue certificate debos (it has extensions that the profile no longer has)
publish debos.cert (the certificate of debos is new)`},
		{name: "the key of a published key file is away", have: without, change: func(i *Inventory) { delete(i.Keys, "kernel") },
			err: `the key of kernel is not at file:kernel.key, but it is needed for certs/kernel.pem: restore it from your backup`},
		{name: "the twin's owner has lost its key", have: without, change: func(i *Inventory) {
			delete(i.Keys, "guest")
			delete(i.Certificates, "twin")
		}, err: `the key of guest is not at file:guest.key, but it is needed to issue the certificate of twin: restore it from your backup`},
		{name: "the signer of a variable is away", have: with, change: func(i *Inventory) {
			delete(i.Keys, "KEK")
			delete(i.Variables, "db")
		}, err: `the key of KEK is not at file:KEK.key, but it is needed to sign the variable db: restore it from your backup`},

		// Drift
		{name: "another alternative name", have: without, old: "dns:debos.example", new: "dns:debos2.example", want: `issue certificate debos (extension 2.5.29.17 changed)
publish debos.cert (the certificate of debos is new)`},
		{name: "another validity of a profile", have: without, old: "{validity: 1095d", new: "{validity: 1000d", want: `issue certificate kernel (validity was 1095d)
issue certificate debos (validity was 1095d)
publish certs/kernel.pem (the certificate of kernel is new)
publish certs/kernel.der (the certificate of kernel is new)
publish debos.cert (the certificate of debos is new)
publish kernel.cert (the certificate of kernel is new)`},
		{name: "another key usage of the roots", have: without, old: "path_length: 1, validity: 3650d, key_usage: [keyCertSign, cRLSign]", new: "path_length: 1, validity: 3650d, key_usage: [keyCertSign]", want: `issue certificate root (extension 2.5.29.15 changed)
issue certificate other (extension 2.5.29.15 changed)
publish root.cert (the certificate of root is new)
publish kernel.cert (the certificate of root is new)`},
		{name: "sub CAs change with UEFI: db follows", have: with, old: "subca: {ca: true, path_length: 0, validity: 2190d", new: "subca: {ca: true, path_length: 0, validity: 2000d", want: `issue certificate sub (validity was 2190d)
issue certificate guest (validity was 2190d)
issue certificate twin (validity was 2190d)
sign variable db (the certificate of sub is new)
publish debos.cert (the certificate of guest is new)
publish kernel.cert (the certificate of sub is new)
publish twin.cert (the certificate of twin is new)
publish sub.esl (the certificate of sub is new)
publish db.esl (the certificate of sub is new)
publish db.auth (the certificate of sub is new)`},
		{name: "PK's certificate changes: PK and KEK follow", have: with, old: "PK: {profile: signer, ", new: "PK: {validity: 900d, profile: signer, ", want: `issue certificate PK (validity was 1095d)
sign variable PK (the certificate of PK is new)
sign variable KEK (the certificate of PK is new)`},
		{name: "another content of db", have: with, old: "[DB, sub]", new: "[DB]", want: `sign variable db (its content changed)
publish db.esl (the variable is new)
publish db.auth (the variable is new)`},
		{name: "another owner", have: with, change: func(i *Inventory) { i.Owners[""] = "00000000-3d5a-4b0e-9a39-0f6b3a8f0c11" }, want: `sign variable PK (its content changed)
sign variable KEK (its content changed)
sign variable db (its content changed)
publish sub.esl (it differs from the record)
publish db.esl (the variable is new)
publish db.auth (the variable is new)`},
		{name: "another place, custody, artifact, passphrase", have: without, old: "    signs: [guestos, container, file]\n", new: "    signs: [guestos]\n    custody: hsm\n    passphrase: {none: true}\n    place: file:x/debos.key\n"},
		{name: "another signature hash", have: without, old: "    issuer: other\n", new: "    issuer: other\n    hash: sha512\n"},
		{name: "another subject", have: without, old: "{common_name: Debos}", new: "{common_name: Debos 2}",
			err: `certificates.debos: its subject is "C=DE, O=Test, CN=Debos", but the plan wants "C=DE, O=Test, CN=Debos 2": what it has signed names the old one. Give the new subject an entry of its own, or put the old one back`},
		{name: "a subject in other case", have: without, old: "{common_name: Debos}", new: "{common_name: DEBOS}",
			err: `certificates.debos: its subject is "C=DE, O=Test, CN=Debos", but the plan wants "C=DE, O=Test, CN=DEBOS": what it has signed names the old one. Give the new subject an entry of its own, or put the old one back`},
		{name: "another key type", have: without, old: "    key: rsa-pss:2048\n", new: "    key: rsa:2048\n",
			err: `certificates.debos: has a key of type rsa-pss:2048, but the plan wants rsa:2048: a key is not changed in place: "tmpki rotate debos --key rsa:2048" makes another beside it. Put the old type back`},
		{name: "another key type of a twin's owner", have: without, old: "    issuer: other\n    profile: subca\n    key: ec:P-256\n", new: "    issuer: other\n    profile: subca\n    key: rsa:2048\n",
			err: `authorities.guest: has a key of type ec:P-256, but the plan wants rsa:2048: a key is not changed in place: "tmpki rotate guest --key rsa:2048" makes another beside it. Put the old type back`},
		{name: "an entry more", have: without, old: "anchors:\n", new: "  debos2: {issuer: guest, profile: signer, key: \"rsa:2048\", subject: {common_name: Debos 2}}\nanchors:\n", want: `generate key debos2
issue certificate debos2`},

		// Files
		{name: "a file is missing", have: without, change: func(i *Inventory) { delete(i.Files, "kernel.cert") }, want: "publish kernel.cert"},
		{name: "a file was changed", have: without, change: func(i *Inventory) { i.Files["kernel.cert"] = File{[]byte("x"), 0o644} }, want: "publish kernel.cert (it differs from the record)"},
		{name: "a file was cut off", have: with, change: func(i *Inventory) {
			f := i.Files["db.auth"]
			i.Files["db.auth"] = File{f.Content[:len(f.Content)-1], f.Mode}
		}, want: "publish db.auth (it differs from the record)"},
		{name: "a file is open to all", have: without, change: func(i *Inventory) {
			i.Files["certs/kernel.pem"] = File{i.Files["certs/kernel.pem"].Content, 0o644}
		}, want: "publish certs/kernel.pem (its mode is 0644)"},
		{name: "a file is open to the group", have: without, change: func(i *Inventory) {
			i.Files["certs/kernel.pem"] = File{i.Files["certs/kernel.pem"].Content, 0o640}
		}, want: "publish certs/kernel.pem (its mode is 0640)"},
		{name: "a file can be written by all", have: without, change: func(i *Inventory) {
			i.Files["root.cert"] = File{i.Files["root.cert"].Content, 0o666}
		}, want: "publish root.cert (its mode is 0666)"},
		{name: "files are closed further", have: without, change: func(i *Inventory) {
			for name, f := range i.Files {
				i.Files[name] = File{f.Content, 0o400}
			}
		}},
		{name: "a published key was replaced", have: without, change: func(i *Inventory) {
			i.Keys["kernel"] = KeyFile{File{[]byte("encrypted since\n"), 0o600}, spki.KeyType{}}
		}, want: "publish certs/kernel.pem (it differs from the record)"},
		{name: "a file of UEFI without the UEFI part is left alone", have: without, change: func(i *Inventory) { i.Files["sub.esl"] = File{[]byte("x"), 0o644} }},
		{name: "a file of UEFI from before the owner was drawn", have: without, old: "  owner: 6f3b5c1e-3d5a-4b0e-9a39-0f6b3a8f0c11\n", new: "", change: func(i *Inventory) {
			i.Owners[""] = ""
			i.Files["sub.esl"] = File{[]byte("x"), 0o644}
		}, demand: true, want: `generate key DB
generate key KEK
generate key PK
issue certificate DB
issue certificate KEK
issue certificate PK
sign variable PK
sign variable KEK
sign variable db
publish sub.esl (it differs from the record)
publish db.esl
publish db.auth`},
	}
	for _, r := range rows {
		if r.old != "" && strings.Count(small, r.old) != 1 {
			t.Errorf("%s: %q stands %d times in the plan", r.name, r.old, strings.Count(small, r.old))
			continue
		}
		q, err := Load("pki.yaml", []byte(strings.Replace(small, r.old, r.new, 1)))
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		have := r.have.clone()
		if r.change != nil {
			r.change(&have)
		}
		before := have.clone()
		steps, err := q.Steps(have, Demand{PlatformKeys: r.demand})
		switch {
		case r.err != "":
			if err == nil || err.Error() != r.err {
				t.Errorf("%s: %v\nwant %s\n%s", r.name, err, r.err, list(steps))
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		if got := list(steps); got != r.want {
			t.Errorf("%s:\n%s\nwant\n%s", r.name, got, r.want)
		}
		if !reflect.DeepEqual(have, before) {
			t.Errorf("%s: Steps changed the inventory", r.name)
		}
		if again, err := q.Steps(have, Demand{PlatformKeys: r.demand}); err != nil || list(again) != list(steps) {
			t.Errorf("%s: the second time %v\n%s", r.name, err, list(again))
		}
		for _, s := range steps {
			if s.Detail() == "" || strings.Contains(s.Detail(), "\n") {
				t.Errorf("%s: step %s %s has detail %q", r.name, s.Kind, s.Name(), s.Detail())
			}
		}
	}
}

// Both built-in plans, complete: nothing to do, with and without the UEFI part.
func TestStepsBuiltIn(t *testing.T) {
	for _, keyType := range []string{"rsa:2048", "ec:P-256", "ed25519"} {
		text := string(must(Template(Development, must(spki.ParseKeyType(keyType)), "")))
		text = strings.ReplaceAll(text, "rsa:4096\n", "rsa:2048\n") // quicker
		text = strings.ReplaceAll(text, "key: rsa:4096,", "key: rsa:2048,")
		text = strings.ReplaceAll(text, "key: rsa-pss:4096\n", "key: rsa-pss:2048\n")
		p := must(Load(FileName, []byte(text)))
		for _, withUEFI := range []bool{false, true} {
			have := complete(p, withUEFI)
			if steps, err := p.Steps(have, Demand{PlatformKeys: withUEFI}); err != nil || len(steps) > 0 {
				t.Errorf("%s, UEFI %v: %v\n%s", keyType, withUEFI, err, list(steps))
			}
			for _, f := range p.Published {
				file, ok := have.Files[f.File]
				if f.UEFI() && !withUEFI {
					continue
				}
				if !ok || len(file.Content) == 0 || (file.Mode == 0o600) != (f.Form == FormKeyCertificate) {
					t.Errorf("%s: %d octets, mode %v", f.File, len(file.Content), file.Mode)
				}
			}
			// The published chains verify.
			for _, name := range []string{"ssig_cml", "guestos_debos", "backend", "ssig"} {
				e := p.Entry(name)
				certs := must(ca.ParsePEM(have.Files[name+".cert"].Content))
				chain := e.Chain()
				root := have.Certificates[chain[len(chain)-1].Name]
				if _, err := ca.Verify(certs[0], ca.VerifyOptions{Roots: []*ca.Certificate{root}, Intermediates: certs[1:], Time: made}); err != nil {
					t.Errorf("%s %s: %v", keyType, name, err)
				}
			}
			twin := must(ca.ParsePEM(have.Files["guestos_anchor.cert"].Content))
			o := ca.VerifyOptions{Roots: twin, Time: made}
			if _, err := ca.Verify(have.Certificates["guestos_debos"], o); err != nil {
				t.Errorf("%s: GuestOS below the anchor twin: %v", keyType, err)
			}
			if _, err := ca.Verify(have.Certificates["backend"], o); err == nil {
				t.Errorf("%s: the backend is accepted below the anchor twin of GuestOSes", keyType)
			}
		}
	}
}

func TestPublishedForms(t *testing.T) {
	p := must(Load("pki.yaml", []byte(small)))
	have := complete(p, true)
	content := func(file string) []byte { return have.Files[file].Content }
	cert := func(names ...string) []byte {
		var list []*ca.Certificate
		for _, n := range names {
			list = append(list, have.Certificates[n])
		}
		return ca.MarshalPEM(list...)
	}
	for _, r := range []struct {
		file string
		want []byte
	}{
		{"root.cert", cert("root")},
		{"kernel.cert", cert("kernel", "sub", "root")},
		{"debos.cert", cert("debos", "guest")},
		{"twin.cert", cert("twin")},
		{"certs/kernel.der", have.Certificates["kernel"].Raw},
		{"certs/kernel.pem", append([]byte("key of kernel\n"), cert("kernel")...)},
		{"db.auth", have.Variables["db"].Raw},
	} {
		if !bytes.Equal(content(r.file), r.want) {
			t.Errorf("%s:\n%s", r.file, content(r.file))
		}
	}
	for file, names := range map[string][]string{"sub.esl": {"sub"}, "db.esl": {"DB", "sub"}} {
		db := must(uefi.ParseSignatureLists(content(file)))
		if len(db.Entries()) != len(names) {
			t.Errorf("%s has %d entries", file, len(db.Entries()))
		}
		for i, e := range db.Entries() {
			if !bytes.Equal(e.Certificate(), have.Certificates[names[i]].Raw) || e.Owner.String() != have.Owners[""] {
				t.Errorf("%s: entry %d is another", file, i)
			}
		}
	}
	if mode := fs.FileMode(0o600); have.Files["certs/kernel.pem"].Mode != mode {
		t.Errorf("mode %v", have.Files["certs/kernel.pem"].Mode)
	}
}

// The key of an anchor twin is its owner's, also where it signs a variable.
func TestStepsTwinSigns(t *testing.T) {
	text := strings.NewReplacer(
		"    issuer: other\n    profile: subca\n    key: ec:P-256\n", "    issuer: other\n    profile: subca\n    key: rsa:2048\n",
		"{certificates: [KEK], signer: PK}", "{certificates: [KEK, twin], signer: PK}",
		"{certificates: [DB, sub], signer: KEK}", "{certificates: [DB, sub], signer: twin}",
	).Replace(small)
	p := must(Load("pki.yaml", []byte(text)))
	have := complete(p, true)
	if steps, err := p.Steps(have, Demand{}); err != nil || len(steps) > 0 {
		t.Errorf("complete: %v\n%s", err, list(steps))
	}
	delete(have.Variables, "db")
	steps, err := p.Steps(have, Demand{})
	if err != nil || !strings.HasPrefix(list(steps), "sign variable db\n") {
		t.Errorf("db is missing: %v\n%s", err, list(steps))
	}
	delete(have.Keys, "guest")
	if _, err := p.Steps(have, Demand{}); err == nil || !strings.HasPrefix(err.Error(), "the key of twin is not at file:guest.key, but it is needed to sign the variable db") {
		t.Errorf("the owner's key is away: %v", err)
	}
}

// TestStepsRotation takes an entry of each kind through the phases of a rotation:
// what is to do when its generations change in the plan, and nothing when that is
// done.
func TestStepsRotation(t *testing.T) {
	phases := []struct{ name, generations string }{
		{"before", ""},
		{"rotated", "generations: {newest: 2, active: 1, oldest: 1}"},
		{"switched", "generations: {newest: 2, active: 2, oldest: 1}"},
		{"retired", "generations: {newest: 2, active: 2, oldest: 2}"},
	}
	for _, r := range []struct {
		entry, line string    // the plan has the generations behind that line
		flow        string    // or instead of it, with %s where they stand
		want        [3]string // rotated, switched, retired
	}{
		{entry: "root", line: "    subject: {common_name: Root}\n", want: [3]string{`generate key root-g2
issue certificate root-g2
issue certificate root-g1-by-g2
publish root.cert (the certificate of root-g2 is new)
publish kernel.cert (the certificate of root-g1-by-g2 is new)`,
			`switch key root
issue certificate sub (root signs with generation 2)
issue certificate root-g2-by-g1
sign variable db (the certificate of sub is new)
publish root.cert (it differs from the record)
publish kernel.cert (the certificate of sub is new)
publish sub.esl (the certificate of sub is new)
publish db.esl (the certificate of sub is new)
publish db.auth (the certificate of sub is new)`,
			`publish root.cert (it differs from the record)
publish kernel.cert (it differs from the record)`}},
		// In firmware: both are in db.
		{entry: "sub", line: "    subject: {common_name: Sub}\n", want: [3]string{`generate key sub-g2
issue certificate sub-g2
sign variable db (the certificate of sub-g2 is new)
publish sub.esl (the certificate of sub-g2 is new)
publish db.esl (the certificate of sub-g2 is new)
publish db.auth (the certificate of sub-g2 is new)`,
			`switch key sub
issue certificate kernel (sub signs with generation 2)
sign variable db (its content changed)
publish certs/kernel.pem (the certificate of kernel is new)
publish certs/kernel.der (the certificate of kernel is new)
publish kernel.cert (the certificate of kernel is new)
publish sub.esl (it differs from the record)
publish db.esl (the variable is new)
publish db.auth (the variable is new)`,
			`sign variable db (its content changed)
publish sub.esl (it differs from the record)
publish db.esl (the variable is new)
publish db.auth (the variable is new)`}},
		// With an anchor twin, which has the key, too.
		{entry: "guest", line: "    subject: {common_name: Guest}\n", want: [3]string{`generate key guest-g2
issue certificate guest-g2
issue certificate twin-g2
issue certificate guest-g1-by-g2
publish debos.cert (the certificate of guest-g1-by-g2 is new)
publish twin.cert (the certificate of twin-g2 is new)`,
			`switch key guest
issue certificate debos (guest signs with generation 2)
issue certificate guest-g2-by-g1
publish debos.cert (the certificate of debos is new)
publish twin.cert (it differs from the record)`,
			`publish debos.cert (it differs from the record)
publish twin.cert (it differs from the record)`}},
		// Nobody trusts a signer itself: there is nothing to publish before.
		{entry: "kernel", line: "    subject: {common_name: Kernel}\n", want: [3]string{`generate key kernel-g2
issue certificate kernel-g2`,
			`switch key kernel
publish certs/kernel.pem (it differs from the record)
publish certs/kernel.der (it differs from the record)
publish kernel.cert (it differs from the record)`,
			""}},
		{entry: "KEK", flow: "    KEK: {profile: signer, key: rsa:2048, subject: {common_name: KEK}%s}\n", want: [3]string{`generate key KEK-g2
issue certificate KEK-g2
sign variable KEK (the certificate of KEK-g2 is new)`,
			`switch key KEK
sign variable KEK (its content changed)
sign variable db (KEK signs with generation 2)
publish db.esl (the variable is new)
publish db.auth (the variable is new)`,
			`sign variable KEK (its content changed)`}},
		// PK holds one certificate, and the new one signs itself.
		{entry: "PK", flow: "    PK: {profile: signer, key: rsa:2048, subject: {common_name: PK}%s}\n", want: [3]string{`generate key PK-g2
issue certificate PK-g2`,
			`switch key PK
sign variable PK (PK signs with generation 2)
sign variable KEK (PK signs with generation 2)`,
			""}},
	} {
		var before *Plan
		for i, phase := range phases {
			old, text := r.line, r.line
			switch {
			case r.flow != "" && phase.generations != "":
				old, text = fmt.Sprintf(r.flow, ""), fmt.Sprintf(r.flow, ", "+phase.generations)
			case r.flow != "":
				old, text = fmt.Sprintf(r.flow, ""), fmt.Sprintf(r.flow, "")
			case phase.generations != "":
				text += "    " + phase.generations + "\n"
			}
			if strings.Count(small, old) != 1 {
				t.Fatalf("%q does not stand in the plan once", old)
			}
			p := must(Load(FileName, []byte(strings.Replace(small, old, text, 1))))
			if steps, err := p.Steps(complete(p, true), Demand{}); err != nil || len(steps) > 0 {
				t.Errorf("%s, %s and applied: %v\n%s", r.entry, phase.name, err, list(steps))
			}
			if i > 0 {
				have := complete(before, true)
				have.renumber(before, p)
				steps, err := p.Steps(have, Demand{})
				if want := r.want[i-1]; err != nil || list(steps) != want {
					t.Errorf("%s, %s: %v\n%s\nwant\n%s", r.entry, phase.name, err, list(steps), want)
				}
			}
			before = p
		}
	}
}

// renumber calls what is by the names that it has in another plan, which differs in
// generations. Keys in files lie where they lay.
func (have *Inventory) renumber(before, now *Plan) {
	certificates, keys := have.Certificates, have.Keys
	have.Certificates, have.Keys, have.Misplaced = map[string]*ca.Certificate{}, map[string]KeyFile{}, map[string]bool{}
	for _, e := range now.Entries {
		i := slices.IndexFunc(before.Entries, func(o *Entry) bool {
			if e.Kind == Cross || o.Kind == Cross {
				return e.Name == o.Name
			}
			return o.Base() == e.Base() && o.KeyOwner().Generation == e.KeyOwner().Generation
		})
		if i < 0 {
			continue
		}
		is := before.Entries[i]
		have.Certificates[e.Name] = certificates[is.Name]
		if key, ok := keys[is.Name]; ok {
			have.Keys[e.Name] = key
			have.Misplaced[e.Name] = e.Active == nil && is.Active != nil
		}
	}
}

// TestAbove holds what goes along with a certificate that sub has issued, while its
// root has two keys.
func TestAbove(t *testing.T) {
	text := strings.Replace(small, "    subject: {common_name: Root}\n", "    subject: {common_name: Root}\n    generations: {newest: 2, active: 2, oldest: 1}\n", 1)
	p := must(Load(FileName, []byte(text)))
	have := complete(p, false)
	end := have.Certificates["root-g2-by-g1"].NotAfter
	for _, r := range []struct {
		name, entry, without string
		now                  time.Time
		want                 string // names
		err                  string
	}{
		{name: "both keys of the root", entry: "sub", now: made, want: "sub root-g2-by-g1 root"},
		{name: "of the root itself", entry: "root", now: made, want: "root-g2-by-g1 root"},
		{name: "of its older key", entry: "root-g1", now: made, want: "root-g1"},
		{name: "the cross-certificate has ended", entry: "sub", now: end, want: "sub root"},
		{name: "the cross-certificate waits for a ceremony", entry: "sub", without: "root-g2-by-g1", now: made, want: "sub root"},
		{name: "its own is not there", entry: "root-g1", without: "root-g1", now: made, err: "root-g1 has no certificate yet"},
		{name: "one above is not there", entry: "sub", without: "root", now: made, err: "root has no certificate yet"},
	} {
		have := have.clone()
		delete(have.Certificates, r.without)
		above, err := (&PKI{Plan: p, Have: have}).Above(p.Entry(r.entry), r.now)
		var names []string
		for _, c := range above {
			for name, is := range have.Certificates {
				if is.Equal(c) {
					names = append(names, name)
				}
			}
		}
		if got := strings.Join(names, " "); r.err == "" && (err != nil || got != r.want) {
			t.Errorf("%s: %v, %q, want %q", r.name, err, got, r.want)
		} else if r.err != "" && (err == nil || !strings.Contains(err.Error(), r.err)) {
			t.Errorf("%s: %v, %q, want error %q", r.name, err, got, r.err)
		}
	}
}
