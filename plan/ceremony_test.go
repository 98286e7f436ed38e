package plan

import (
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/ceremony"
)

// ceremonial is small with offline roots, PK and KEK.
var ceremonial = strings.NewReplacer(
	"root: {ca: true,", "root: {custody: offline, ca: true,",
	"PK: {profile: signer, key:", "PK: {profile: signer, custody: offline, key:",
	"KEK: {profile: signer, key:", "KEK: {profile: signer, custody: offline, key:",
).Replace(small) + "ceremony: {officers: [Alice Example, Bob Example]}\n"

func TestLoadCeremony(t *testing.T) {
	p := must(Load("pki.yaml", []byte(ceremonial)))
	if p.Ceremony.Quorum != 2 {
		t.Errorf("quorum %d", p.Ceremony.Quorum)
	}
	var offline []string
	for _, e := range p.Entries {
		if e.AtCeremony {
			offline = append(offline, e.Name)
		}
	}
	if got := strings.Join(offline, " "); got != "root other KEK PK" {
		t.Errorf("at ceremonies: %s", got)
	}
	rows := []struct{ name, old, new, want string }{
		{"nobody", "[Alice Example, Bob Example]", "[]", "ceremony.officers: names 0 people: 1 to 16 can be officers"},
		{"twice", "Bob Example", "Alice Example", `ceremony.officers: "Alice Example" stands twice`},
		{"no name", "Bob Example", `""`, `ceremony.officers: "" is not a name of 1 to 64 printable characters without a colon`},
		{"a colon", "Bob Example", `"Bob: yes"`, `ceremony.officers: "Bob: yes" is not a name`},
		{"control characters", "Bob Example", `"Bob\u001b[2J"`, `ceremony.officers: "Bob\x1b[2J" is not a name`},
		{"quorum", "Bob Example]", "Bob Example], quorum: 3", "ceremony.quorum: 3 of 2 officers: use 1 to 2"},
		{"negative quorum", "Bob Example]", "Bob Example], quorum: -1", "ceremony.quorum: -1 of 2 officers: use 1 to 2"},
		{"unknown key", "Bob Example]", "Bob Example], threshold: 2", "threshold"},
		{"nothing offline", "custody: offline", "custody: hsm", "ceremony: no entry has custody: offline, so that nothing is left for a ceremony"},
		{"offline below online", "    subject: {common_name: Kernel}\n", "    subject: {common_name: Kernel}\n    custody: offline\n", `certificates.kernel.custody: kernel is offline, but its issuer "sub" is not: put the issuer offline too, or kernel online`},
		{"delta CRLs", "    subject: {common_name: Root}\n", "    subject: {common_name: Root}\n    crl: {validity: 30d, delta: 1d, urls: [\"http://a.example/a.crl\"], delta_urls: [\"http://a.example/d.crl\"]}\n", "authorities.root.crl: root is offline: a ceremony makes one full CRL, without partitions and deltas"},
		{"a published offline key", "certs/kernel.pem: {of: kernel,", "certs/kernel.pem: {of: root,", `publish.certs/kernel.pem: as: the key of "root" is used at ceremonies only, and so not here`},
	}
	for _, r := range rows {
		n := 1
		if r.old == "custody: offline" {
			n = 3
		}
		if strings.Count(ceremonial, r.old) != n {
			t.Errorf("%s: %q stands %d times in the plan", r.name, r.old, strings.Count(ceremonial, r.old))
			continue
		}
		_, err := Load("pki.yaml", []byte(strings.ReplaceAll(ceremonial, r.old, r.new)))
		if err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%s: %v\nwant %s", r.name, err, r.want)
		}
	}
}

func TestStepsCeremony(t *testing.T) {
	p := must(Load("pki.yaml", []byte(ceremonial)))
	without, with := complete(p, false), complete(p, true)
	open := func(i *Inventory, text string, entries ...string) {
		q := &ceremony.Request{Plan: text}
		for _, name := range entries {
			q.Certificates = append(q.Certificates, ceremony.CertificateItem{Entry: name})
		}
		if err := q.Sign("guest", signer(p.Entry("guest")), p.Entry("guest").Algorithm); err != nil {
			t.Fatal(err)
		}
		i.Request = &OpenRequest{Request: q, Here: true}
	}
	lacks := func(i *Inventory, names ...string) {
		for _, name := range names {
			delete(i.Certificates, name)
		}
		for _, f := range p.Published {
			for _, e := range f.sources() {
				if i.Certificates[e.Name] == nil {
					delete(i.Files, f.File)
				}
			}
		}
	}
	rows := []struct {
		name   string
		old    string // changes the plan
		new    string
		have   Inventory
		change func(*Inventory)
		want   string
		err    string
	}{
		{name: "complete, with the offline keys away", have: with, change: func(i *Inventory) {
			for _, name := range []string{"root", "other", "PK", "KEK"} {
				delete(i.Keys, name)
			}
		}},
		{name: "nothing there", have: Inventory{}, want: `generate key sub
generate key guest
generate key kernel
generate key debos
issue certificate twin
publish twin.cert
request ceremony offline keys
issue certificate root: waits for a ceremony
issue certificate other: waits for a ceremony
issue certificate sub: waits for a ceremony
issue certificate guest: waits for a ceremony
issue certificate kernel: waits for the certificate of sub
issue certificate debos: waits for the certificate of guest
publish root.cert: waits for the certificate of root
publish certs/kernel.pem: waits for the certificate of kernel
publish certs/kernel.der: waits for the certificate of kernel
publish debos.cert: waits for the certificate of debos
publish kernel.cert: waits for the certificate of kernel`},
		{name: "a sub CA is missing, and nobody was asked", have: without, change: func(i *Inventory) { lacks(i, "sub", "kernel") }, want: `request ceremony offline keys
issue certificate sub: waits for a ceremony
issue certificate kernel: waits for the certificate of sub
publish certs/kernel.pem: waits for the certificate of kernel
publish certs/kernel.der: waits for the certificate of kernel
publish kernel.cert: waits for the certificate of kernel`},
		{name: "the offline key is here, and not used", have: without, change: func(i *Inventory) {
			lacks(i, "sub", "kernel")
			open(i, ceremonial, "sub")
		}, want: `issue certificate sub: waits for a ceremony
issue certificate kernel: waits for the certificate of sub
publish certs/kernel.pem: waits for the certificate of kernel
publish certs/kernel.der: waits for the certificate of kernel
publish kernel.cert: waits for the certificate of kernel`},
		{name: "asked by another plan", have: without, change: func(i *Inventory) {
			lacks(i, "sub")
			delete(i.Files, "kernel.cert")
			open(i, small, "sub")
		}, want: `request ceremony offline keys
issue certificate sub: waits for a ceremony
publish kernel.cert: waits for the certificate of sub`},
		{name: "asked for less", have: without, change: func(i *Inventory) {
			lacks(i, "sub", "guest")
			delete(i.Files, "kernel.cert")
			open(i, ceremonial, "guest")
		}, want: `request ceremony offline keys
issue certificate sub: waits for a ceremony
issue certificate guest: waits for a ceremony
publish debos.cert: waits for the certificate of guest
publish kernel.cert: waits for the certificate of sub`},
		{name: "asked, but the file is gone", have: without, change: func(i *Inventory) {
			lacks(i, "guest")
			open(i, ceremonial, "guest")
			i.Request.Here = false
		}, want: `request ceremony offline keys
issue certificate guest: waits for a ceremony
publish debos.cert: waits for the certificate of guest`},
		{name: "asked for the certificate of a key that was lost", have: without, change: func(i *Inventory) {
			lacks(i, "guest", "twin", "debos")
			delete(i.Keys, "guest")
			open(i, ceremonial, "guest")
		}, want: `generate key guest
issue certificate twin
publish twin.cert
request ceremony offline keys
issue certificate guest: waits for a ceremony
issue certificate debos: waits for the certificate of guest
publish debos.cert: waits for the certificate of debos`},
		{name: "what a sub CA signs does not wait while it gets a new certificate", have: without, old: "subca: {ca: true, path_length: 0, validity: 2190d", new: "subca: {ca: true, path_length: 0, validity: 2000d", change: func(i *Inventory) { lacks(i, "kernel") }, want: `issue certificate kernel
issue certificate twin (validity was 2190d)
publish certs/kernel.pem
publish certs/kernel.der
publish kernel.cert
publish twin.cert (the certificate of twin is new)
request ceremony offline keys
issue certificate sub (validity was 2190d): waits for a ceremony
issue certificate guest (validity was 2190d): waits for a ceremony`},
		{name: "unless it would be outlived", have: without, old: "2190d", new: "3000d", change: func(i *Inventory) {
			lacks(i, "kernel")
			delete(i.Files, "root.cert")
			i.Certificates["sub"] = shortLived(i.Certificates["sub"])
		}, want: `issue certificate twin (validity was 2190d)
publish root.cert
publish twin.cert (the certificate of twin is new)
request ceremony offline keys
issue certificate sub (validity was 1d): waits for a ceremony
issue certificate guest (validity was 2190d): waits for a ceremony
issue certificate kernel: waits for the certificate of sub
publish certs/kernel.pem: waits for the certificate of kernel
publish certs/kernel.der: waits for the certificate of kernel
publish kernel.cert: waits for the certificate of kernel`},
		{name: "variables", have: with, change: func(i *Inventory) {
			delete(i.Variables, "db")
			delete(i.Files, "db.auth")
		}, want: `request ceremony offline keys
sign variable db: waits for a ceremony
publish db.auth: waits for the variable db`},
		{name: "variables that follow a certificate", have: with, old: "subca: {ca: true, path_length: 0, validity: 2190d", new: "subca: {ca: true, path_length: 0, validity: 2000d", want: `issue certificate twin (validity was 2190d)
publish twin.cert (the certificate of twin is new)
request ceremony offline keys
issue certificate sub (validity was 2190d): waits for a ceremony
issue certificate guest (validity was 2190d): waits for a ceremony
sign variable db (the certificate of sub is new): waits for a ceremony`},
		{name: "a file of somebody else in the place of what waits", have: without, change: func(i *Inventory) {
			lacks(i, "sub", "kernel")
			i.Files["kernel.cert"] = File{[]byte("x"), 0o644}
		}, err: "kernel.cert is there, but no certificate of kernel is on record"},
	}
	for _, r := range rows {
		if r.old != "" && strings.Count(ceremonial, r.old) != 1 {
			t.Errorf("%s: %q stands %d times in the plan", r.name, r.old, strings.Count(ceremonial, r.old))
			continue
		}
		q := must(Load("pki.yaml", []byte(strings.Replace(ceremonial, r.old, r.new, 1))))
		have := r.have.clone()
		if r.change != nil {
			r.change(&have)
		}
		steps, err := q.Steps(have, Demand{})
		if r.err != "" {
			if err == nil || !strings.Contains(err.Error(), r.err) {
				t.Errorf("%s: %v, want %s", r.name, err, r.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		var lines []string
		for _, s := range steps {
			line := list([]Step{s})
			if s.Waits != "" {
				line += ": waits for " + s.Waits
			}
			lines = append(lines, line)
		}
		if got := strings.Join(lines, "\n"); got != r.want {
			t.Errorf("%s:\n%s\nwant\n%s", r.name, got, r.want)
		}
	}
}

// shortLived returns the certificate as if it ended after a day.
func shortLived(c *ca.Certificate) *ca.Certificate {
	plain := *c.Certificate
	plain.NotAfter = plain.NotBefore.AddDate(0, 0, 1)
	changed := *c
	changed.Certificate = &plain
	return &changed
}
