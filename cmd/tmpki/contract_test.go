package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/uefi"
)

// contract lists the files that the platform's build reads (doc/formats.md).
var contract = []string{
	"ssig_rootca.cert", "ssig_rootca.key", "ssig_subca.cert", "ssig_subca.key", "ssig.cert", "ssig.key",
	"ssig_subca_cml.cert", "ssig_subca_cml.key", "ssig_cml.cert", "ssig_cml.key",
	"gen_rootca.cert", "gen_rootca.key", "device_subca.cert", "device_subca.key", "user_subca.cert", "user_subca.key",
	"backend_subca.cert", "backend_subca.key", "backend.cert", "backend.key", "ocsp_server.cert", "ocsp_server.key",
	"certs/signing_key.pem", "certs/signing_key.x509",
	"PK.key", "PK.crt", "PK.cer", "PK.esl", "PK.auth", "KEK.key", "KEK.crt", "KEK.esl", "KEK.auth",
	"DB.key", "DB.crt", "DB.esl", "DB.auth", "ssig_subca.esl",
}

// difference is one in which our development PKI is meant to differ from what the
// platform's scripts make. What differs and is not here fails the test, and so
// does a row that nothing needs.
type difference struct {
	file          string // a pattern of path.Match
	aspect        string // see aspects
	value         string // of ours
	scripts, ours string // in words
	reason        string
}

var differences = []difference{
	{"*.cert", "authority_info", "",
		"URLs of issuer and OCSP", "none, unless pki.yaml names them",
		"the scripts' lead to localhost, in roots too"},
	{"*.cert", "crl_urls", "",
		"URL of a CRL", "none, unless pki.yaml names them",
		"the scripts' lead to localhost, in roots too"},
	{"*.cert", "authority_key_id", "1 parts",
		"key id, issuer and serial", "key id only",
		"with issuer and serial a CA can't be issued again or cross-signed"},
	{"*_rootca.cert", "basic_constraints", "critical: CA, path length 1",
		"no path length", "path length 1",
		"a sub CA must not make CAs"},
	{"*_subca*.cert", "basic_constraints", "critical: CA, path length 0",
		"no path length", "path length 0",
		"a sub CA must not make CAs"},
	{"ssig_subca.cert", "key_usage", "critical: digitalSignature, keyCertSign, cRLSign",
		"no digitalSignature", "digitalSignature",
		"it signs kernel and firmware, and sbverify refuses signers without"},
	{"device_subca.cert", "key_usage", "critical: keyCertSign, cRLSign",
		"not critical; digitalSignature", "critical; none",
		"a CA of the customer side signs certificates and CRLs only (RFC 5280, Section 4.2.1.3: critical)"},
	{"user_subca.cert", "key_usage", "critical: keyCertSign, cRLSign",
		"not critical; digitalSignature", "critical; none",
		"a CA of the customer side signs certificates and CRLs only (RFC 5280, Section 4.2.1.3: critical)"},
	{"backend_subca.cert", "key_usage", "critical: keyCertSign, cRLSign",
		"not critical; digitalSignature", "critical; none",
		"a CA of the customer side signs certificates and CRLs only (RFC 5280, Section 4.2.1.3: critical)"},
	{"ssig.cert", "key_usage", "critical: digitalSignature",
		"nonRepudiation, keyEncipherment", "digitalSignature only",
		"a signer encrypts nothing"},
	{"ssig_cml.cert", "key_usage", "critical: digitalSignature",
		"nonRepudiation, keyEncipherment", "digitalSignature only",
		"a signer encrypts nothing"},
	{"backend.cert", "key_usage", "critical: digitalSignature",
		"nonRepudiation, keyEncipherment", "digitalSignature only",
		"the key is PSS only and can't encrypt"},
	{"ocsp_server.cert", "key_usage", "critical: digitalSignature",
		"nonRepudiation, keyEncipherment", "digitalSignature only",
		"the key is PSS only and can't encrypt"},
	{"backend.cert", "subject_alt_names", "dns:localhost, ip:127.0.0.1",
		"none", "`dns:localhost`, `ip:127.0.0.1`",
		"TLS clients refuse a server without"},
	{"ocsp_server.cert", "extended_key_usage", "OCSPSigning",
		"serverAuth", "OCSPSigning",
		"a responder is known by it (RFC 6960, Section 4.2.2.2)"},
	{"ocsp_server.cert", "ocsp_nocheck", "",
		"none", "there",
		"else clients ask the responder about itself (RFC 6960, Section 4.2.2.2.1)"},
	{"backend.cert", "signature", "RSASSA-PSS SHA-256 salt 32",
		"PSS with a salt of 478 octets", "of 32, the length of the hash",
		"Go and others read no other salt than the hash's length"},
	{"ocsp_server.cert", "signature", "RSASSA-PSS SHA-256 salt 32",
		"PSS with a salt of 478 octets", "of 32, the length of the hash",
		"Go and others read no other salt than the hash's length"},
	{"backend*.cert", "text", "",
		"text before each PEM block", "none",
		"a certificate handed to the device must begin with its PEM block"},
	{"ocsp_server.cert", "text", "",
		"text before each PEM block", "none",
		"a certificate handed to the device must begin with its PEM block"},
	{"device_subca.cert", "text", "",
		"text before each PEM block", "none",
		"a certificate handed to the device must begin with its PEM block"},
	{"user_subca.cert", "text", "",
		"text before each PEM block", "none",
		"a certificate handed to the device must begin with its PEM block"},
	{"*.crt", "basic_constraints", "critical: not a CA",
		"CA", "no CA",
		"PK, KEK and DB issue nothing; firmware ignores the flag"},
	{"*.crt", "key_usage", "critical: digitalSignature",
		"none", "digitalSignature",
		"what the keys are for; firmware ignores it"},
	{"DB.auth", "entries", "DB; GyroidOS Software Signing Sub CA",
		"DB", "DB and `ssig_subca`, as in `DB.esl`",
		"enrolled from the scripts' file, firmware refuses the signed kernel"},
	{"guestos_*", "new file", "",
		"none", "`guestos_subca`, `guestos_debos`, `guestos_anchor`",
		"one certificate for each GuestOS, and an anchor that lets in nothing else"},
	{"pki.yaml", "new file", "",
		"none", "the plan",
		"what this PKI should be"},
	{"pki.db", "new file", "",
		"none", "the record",
		"what was issued and signed"},
}

// TestContract compares the development PKI, file by file, with what the
// platform's present scripts made.
func TestContract(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if r := runIn(t, ".", []string{"DO_PLATFORM_KEYS=y"}, "tmpki", "generate", dir); r.code != 0 {
		t.Fatalf("generate: %d\n%s", r.code, r.stderr)
	}
	must(t, ".", "tmpki", "check", dir)
	for _, name := range contract {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		private := strings.HasSuffix(name, ".key") || name == "certs/signing_key.pem"
		if mode := info.Mode().Perm(); private && mode != 0o600 || !private && mode != 0o644 {
			t.Errorf("%s has mode %04o", name, mode)
		}
	}
	needed := map[difference]bool{}
	differ := func(file, aspect, reference, ours string) {
		for _, d := range differences {
			if ok, err := path.Match(d.file, file); err != nil {
				t.Fatal(err)
			} else if ok && d.aspect == aspect && (d.value == ours || aspect == "new file") {
				needed[d] = true
				return
			}
		}
		t.Errorf("%s: %s: not in the table of differences\n  reference  %s\n  ours       %s", file, aspect, reference, ours)
	}
	seen := map[string]bool{}
	for _, file := range names(t, "testdata/reference") {
		if !slices.Contains([]string{".cert", ".crt", ".esl", ".auth"}, filepath.Ext(file)) {
			continue
		}
		seen[file] = true
		reference, ours := aspects(t, filepath.Join("testdata/reference", file)), aspects(t, filepath.Join(dir, file))
		for _, aspect := range slices.Sorted(maps.Keys(reference)) {
			if reference[aspect] != ours[aspect] {
				differ(file, aspect, reference[aspect], ours[aspect])
			}
		}
		for aspect := range ours {
			if _, ok := reference[aspect]; !ok {
				differ(file, aspect, "", ours[aspect])
			}
		}
	}
	if len(seen) < 20 {
		t.Fatalf("only %d reference files", len(seen))
	}
	// Files that the scripts don't make.
	for _, file := range names(t, dir) {
		if !seen[file] && !slices.Contains(contract, file) && file != "certs" {
			differ(file, "new file", "", file)
		}
	}
	for _, d := range differences {
		if !needed[d] {
			t.Errorf("%s: %s: is listed as different, but is not", d.file, d.aspect)
		}
	}
	checkDoc(t)
}

// aspects tells in words what is compared of a file.
func aspects(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	switch filepath.Ext(file) {
	case ".cert", ".crt":
		return certificateAspects(t, file, data)
	case ".esl":
		db, err := uefi.ParseSignatureLists(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return map[string]string{"entries": entries(t, db), "lists": fmt.Sprint(len(db))}
	case ".auth":
		auth, err := uefi.ParseAuth(data)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		return map[string]string{"entries": entries(t, auth.Value)}
	default:
		t.Fatalf("%s: no aspects", file)
		return nil
	}
}

func entries(t *testing.T, db uefi.SignatureDatabase) string {
	t.Helper()
	var list []string
	for _, e := range db.Entries() {
		c, err := ca.ParseCertificate(e.Certificate())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, commonName(c))
	}
	return strings.Join(list, "; ")
}

func commonName(c *ca.Certificate) string { return c.Certificate.Subject.CommonName }

func certificateAspects(t *testing.T, file string, data []byte) map[string]string {
	t.Helper()
	certs, err := ca.ParsePEM(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var chain []string
	for _, c := range certs {
		chain = append(chain, commonName(c))
	}
	c := certs[0]
	out := map[string]string{
		"chain":     strings.Join(chain, ", then "),
		"subject":   c.Subject().String(),
		"key":       c.KeyType().String(),
		"validity":  fmt.Sprintf("%d days", int(c.NotAfter.Sub(c.NotBefore).Hours()/24)),
		"signature": c.Algorithm.String(),
	}
	if c.AlgorithmError != nil {
		out["signature"] = "unreadable"
	}
	if !bytes.Equal(data, ca.MarshalPEM(certs...)) {
		out["text"] = "text between the PEM blocks"
	}
	for _, x := range c.Extensions {
		d := ca.DescribeExtension(x)
		name := d.Name
		if name == "" {
			name = d.OID
		}
		value := strings.Join(d.Values, ", ")
		switch name {
		case "subject_key_id":
			value = "there"
		case "authority_key_id":
			value = fmt.Sprintf("%d parts", len(d.Values))
		}
		if d.Critical {
			value = "critical: " + value
		}
		out[name] = value
	}
	return out
}

// docFile holds the table for people.
const docFile = "../../doc/differences.md"

// checkDoc holds the table in doc/differences.md against differences; -update
// writes it.
func checkDoc(t *testing.T) {
	t.Helper()
	const head = "| file | what | the scripts | tmpki | reason |\n|---|---|---|---|---|\n"
	var table strings.Builder
	table.WriteString(head)
	for _, d := range differences {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s | %s |\n", d.file, strings.ReplaceAll(d.aspect, "_", " "), d.scripts, d.ours, d.reason)
	}
	doc, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), head)
	if !ok {
		t.Fatalf("%s has no table", docFile)
	}
	// The table ends with the first line that is no row.
	after := rest
	for strings.HasPrefix(after, "|") {
		_, after, _ = strings.Cut(after, "\n")
	}
	want := before + table.String() + after
	if want == string(doc) {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not that of this test: go test ./cmd/tmpki -run Contract -update", docFile)
	}
	if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
