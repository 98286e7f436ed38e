package takeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/tooltest"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/spki"
	"tmpki/store"
)

// script runs a shell script in a new directory, with openssl.
func script(t *testing.T, text string) string {
	t.Helper()
	tooltest.Need(t, "openssl")
	dir := t.TempDir()
	cmd := exec.Command("sh", "-eu", "-c", text)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PASS=secret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// file is a script of testdata.
func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return script(t, string(text))
}

func passphrase(t *testing.T, secret string) func() (*keys.Passphrase, error) {
	t.Helper()
	p, err := keys.NewPassphrase([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return func() (*keys.Passphrase, error) { return p, nil }
}

func read(t *testing.T, o Options, paths ...string) *Found {
	t.Helper()
	f, err := Read(t.Context(), paths, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wants fails unless each text is part of a finding of its level.
func wants(t *testing.T, f *Found, level plan.Level, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !slices.ContainsFunc(f.Findings, func(x plan.Finding) bool {
			return x.Level == level && strings.Contains(x.Name+" "+x.Text, text)
		}) {
			t.Errorf("no %s with %q", level, text)
		}
	}
	if t.Failed() {
		for _, x := range f.Findings {
			t.Log(x.Level, x.Name, x.Text)
		}
	}
}

func options() plan.Options { return plan.Options{Actor: "tester", Now: time.Now} }

func write(t *testing.T, f *Found) (string, *Result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	r, err := f.Write(t.Context(), dir, "OLD_PASSWD", options())
	if err != nil {
		t.Fatal(err)
	}
	return dir, r
}

// tree tells names and contents below a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// settled checks that a new directory is healthy and that apply has nothing to do.
func settled(t *testing.T, dir string) {
	t.Helper()
	list, err := plan.Check(t.Context(), dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if x.Level == plan.Bad {
			t.Errorf("check: %s: %s", x.Name, x.Text)
		}
	}
	steps, err := plan.Apply(t.Context(), dir, options())
	if err != nil || len(steps) > 0 {
		t.Errorf("apply takes the steps %v: %v", steps, err)
	}
}

// grow adds an entry to the plan, applies, and returns the path of its certificate.
func grow(t *testing.T, dir, issuer, profile string) string {
	t.Helper()
	path := filepath.Join(dir, plan.FileName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf("  fresh: {issuer: %s, profile: %s, key: \"ec:P-256\", subject: {common_name: fresh}, passphrase: {none: true}}\n", issuer, profile)
	out := string(text)
	out = strings.Replace(out, "profiles:\n", "profiles:\n  fresh: {validity: 10d, key_usage: [digitalSignature]}\n", 1)
	if !strings.Contains(out, "\ncertificates:\n") {
		out = strings.Replace(out, "\npublish:\n", "\ncertificates:\n"+entry+"\npublish:\n", 1)
	} else {
		out = strings.Replace(out, "\ncertificates:\n", "\ncertificates:\n"+entry, 1)
	}
	out = strings.Replace(out, "\npublish:\n", "\npublish:\n  fresh.cert: {of: fresh, as: chain}\n", 1)
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), dir, options()); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "fresh.cert")
}

// TestPlatformScripts takes over what the platform's scripts would have made.
func TestPlatformScripts(t *testing.T) {
	old := file(t, "platform.sh")
	before := tree(t, old)
	f := read(t, Options{Passphrase: passphrase(t, "secret")}, old)
	if f.Bad() {
		t.Error("bad")
	}
	wants(t, f, plan.Warn,
		"ssig_subca lacks digitalSignature", "backend is for a server and names no host", "ocsp_server is not for OCSP",
		"names http://localhost/", "ssig its key is not encrypted", "ssig its key could be read by others (mode 0644)",
		"signing_key.pem is a copy of the key of a CA", "keys of UEFI platforms stay behind")
	wants(t, f, plan.Note,
		"ssig_subca has no path length limit", "device_subca is a CA that may also sign data", "device_subca its key usage is not critical",
		"names the issuer's serial", "ssig may encipher keys", "has no GuestOS signing sub CA", "there is no index",
		"backend is signed with a PSS salt of 222 octets")
	dir, r := write(t, f)
	if tree(t, old) != before {
		t.Error("the old place was written to")
	}
	if r.Entries != 11 || r.Keys != 11 || r.Certificates != 11 {
		t.Errorf("result %+v", r)
	}
	settled(t, dir)
	for _, name := range []string{"ssig_subca", "device_subca"} {
		a, err := os.ReadFile(filepath.Join(old, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, name+".key"))
		if err != nil || string(a) != string(b) {
			t.Errorf("key of %s: %v", name, err)
		}
	}
	t.Setenv("OLD_PASSWD", "secret")
	settled(t, dir)
	fresh := grow(t, dir, "backend_subca", "fresh")
	if out, err := exec.Command("openssl", "verify", "-CAfile", filepath.Join(old, "gen_rootca.cert"), "-untrusted", filepath.Join(old, "backend_subca.cert"), fresh).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// Without the passphrase the names say which key is whose.
	f = read(t, Options{}, old)
	wants(t, f, plan.Warn, "that it is the key of")
	write(t, f)
}

// TestOpenSSLDirectory takes over "openssl ca" with 20 certificates, 3 of them
// revoked.
func TestOpenSSLDirectory(t *testing.T) {
	ctx := t.Context()
	old := file(t, "opensslca.sh")
	f := read(t, Options{}, old)
	if f.Bad() {
		wants(t, f, plan.Bad, "")
	}
	dir, r := write(t, f)
	if r.Entries != 1 || r.Certificates != 21 || r.Revocations != 3 {
		t.Errorf("result %+v", r)
	}
	settled(t, dir)
	p, err := plan.Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	root := p.Plan.Entries[0].Name
	db, err := p.OpenStore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reasons := map[string]store.Reason{}
	for rev, err := range db.Revocations(ctx, root, p.Have.Certificates[root].SubjectKeyId, -1) {
		if err != nil {
			t.Fatal(err)
		}
		reasons[fmt.Sprintf("%x", rev.Serial)] = rev.Reason
	}
	want := map[string]store.Reason{"1002": store.Unspecified, "1005": store.KeyCompromise, "1009": store.CertificateHold}
	if fmt.Sprint(reasons) != fmt.Sprint(want) {
		t.Errorf("revoked %v, want %v", reasons, want)
	}
	crl, err := db.LatestCRL(ctx, root, p.Have.Certificates[root].SubjectKeyId, 0, false)
	if err != nil || crl.Number != 7 { // crlnumber says 08
		t.Errorf("last CRL %+v: %v", crl, err)
	}
	// A serial that was given is never given again.
	err = db.Intend(ctx, store.Record{Serial: []byte{0x10, 0x03}, Name: "x", Profile: "x", Issuer: root, Actor: "tester", NotBefore: time.Now(), NotAfter: time.Now()})
	if dup := new(store.DuplicateSerialError); !errors.As(err, &dup) {
		t.Errorf("serial 1003 again: %v", err)
	}
	fresh := grow(t, dir, root, "fresh")
	if out, err := exec.Command("openssl", "verify", "-CAfile", filepath.Join(old, "cacert.pem"), fresh).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWhatIsWrong spoils a directory of "openssl ca", one thing a row.
func TestWhatIsWrong(t *testing.T) {
	old := file(t, "opensslca.sh")
	for name, row := range map[string]struct {
		spoil string // a shell script in a copy
		level plan.Level
		want  string
	}{
		"serial twice":       {`sed -n 3p index.txt >> index.txt`, plan.Bad, "line 21: serial 1002 is there twice"},
		"other date":         {`sed -i '4s/^V\t[0-9]*/V\t300101000000/' index.txt`, plan.Bad, "line 4: says that 1003 ends"},
		"fields":             {`sed -i '4s/\t/ /g' index.txt`, plan.Bad, "line 4: 1 fields"},
		"status":             {`sed -i '4s/^V/X/' index.txt`, plan.Bad, `line 4: status "X"`},
		"reason":             {`sed -i 's/,keyCompromise/,lost/' index.txt`, plan.Bad, "line 6: revocation: unknown reason"},
		"certificate gone":   {`rm newcerts/1003.pem certs/device3.pem`, plan.Warn, "line 4: the certificate with serial 1003 is not here"},
		"revoked one gone":   {`rm newcerts/1005.pem certs/device5.pem`, plan.Warn, "its serial will be in CRLs"},
		"not in the index":   {`sed -i 4d index.txt`, plan.Warn, "does not have 1 certificates of its CA"},
		"serial file behind": {`echo 1003 > serial`, plan.Warn, "would give 1003 once more"},
		"crlnumber":          {`echo FFFFFFFFFFFFFFFFFF > crlnumber`, plan.Bad, "larger than"},
		"other key":          {`openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private/cakey.pem`, plan.Bad, "cakey.pem is not the key of"},
		"no key":             {`openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key; rm private/cakey.pem`, plan.Warn, "other.key is the key of no certificate here"},
		"traditional key": {`openssl ec -in private/cakey.pem -aes256 -passout pass:x -out private/cakey.pem2 2>/dev/null; mv private/cakey.pem2 private/cakey.pem
			grep -q DEK-Info private/cakey.pem`, plan.Bad, "traditional PEM encryption"},
		"garbage":  {`printf -- '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' > x.pem`, plan.Bad, "x.pem can't be read"},
		"RSA 1024": {`openssl req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -subj /CN=weak -days 9 2>/dev/null`, plan.Bad, "1024"},
		"SHA-1":    {`openssl req -x509 -newkey rsa:2048 -nodes -keyout weak.key -out weak.pem -subj /CN=weak -days 9 -sha1 2>/dev/null`, plan.Bad, "its signature can't be verified"},
		"MD5":      {`openssl req -x509 -newkey rsa:2048 -nodes -keyout weak.key -out weak.pem -subj /CN=weak -days 9 -md5 2>/dev/null`, plan.Bad, "weak"},
		"version 1": {`openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out v1.key
			openssl req -new -key v1.key -subj /CN=v1 -out v1.csr; openssl x509 -req -in v1.csr -signkey v1.key -days 9 -out v1.pem 2>/dev/null`, plan.Bad, "version 1"},
		"no key identifier": {`openssl req -x509 -newkey rsa:2048 -nodes -keyout n.key -out n.pem -subj /CN=n -days 9 -addext subjectKeyIdentifier=none -addext authorityKeyIdentifier=none 2>/dev/null`, plan.Warn, "has no subject key identifier"},
		"issuer missing": {`openssl req -x509 -newkey rsa:2048 -nodes -keyout r.key -out r.pem -subj /CN=r -days 9 2>/dev/null
			openssl req -new -newkey rsa:2048 -nodes -keyout s.key -subj /CN=s -out s.csr 2>/dev/null
			openssl x509 -req -in s.csr -CA r.pem -CAkey r.key -CAcreateserial -days 9 -out s.pem 2>/dev/null; rm r.pem`, plan.Bad, `issuer "CN=r" is not among the files`},
		"ended": {`openssl req -new -newkey rsa:2048 -nodes -keyout e.key -subj /CN=e -out e.csr 2>/dev/null
			openssl ca -config openssl.cnf -batch -notext -startdate 20200101000000Z -enddate 20200201000000Z -in e.csr -out e.pem 2>/dev/null`, plan.Warn, "has ended on"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "ca")
			if out, err := exec.Command("cp", "-a", old, dir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := exec.Command("sh", "-eu", "-c", row.spoil)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			f := read(t, Options{}, dir)
			wants(t, f, row.level, row.want)
			if f.Bad() != (row.level == plan.Bad) {
				t.Errorf("bad is %v", f.Bad())
			}
			// What is accepted all the same gives a directory that works.
			made, _ := write(t, f)
			if _, err := plan.Apply(t.Context(), made, options()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSingleCA takes over a certificate with a key somewhere else.
func TestSingleCA(t *testing.T) {
	old := script(t, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout away.pem -out root.pem -days 99 \
		-subj '/DC=example/O=Old/CN=Root of old/emailAddress=ca@example' -addext keyUsage=critical,keyCertSign,cRLSign
		chmod 700 .`)
	u, err := keys.FileURI(filepath.Join(old, "away.pem"))
	if err != nil {
		t.Fatal(err)
	}
	f := read(t, Options{Keys: []keys.URI{u}}, filepath.Join(old, "root.pem"))
	dir, r := write(t, f)
	if r.Keys != 0 || r.Entries != 1 {
		t.Errorf("%+v", r)
	}
	settled(t, dir)
	fresh := grow(t, dir, "root", "fresh")
	if out, err := exec.Command("openssl", "verify", "-CAfile", filepath.Join(old, "root.pem"), fresh).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := Read(context.Background(), []string{t.TempDir()}, Options{}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("an empty directory: %v", err)
	}
	if _, err := f.Write(t.Context(), dir, "X", options()); !errors.Is(err, plan.ErrAppeared) {
		t.Errorf("over a directory: %v", err)
	}
}

func TestHostileIndex(t *testing.T) {
	const good = "V\t300101000000Z\t\t01\tunknown\t/CN=x"
	for name, row := range map[string]struct{ text, want string }{
		"good":              {good, ""},
		"revoked":           {"R\t300101000000Z\t250101000000Z\t01\tunknown\t/CN=x", ""},
		"reason":            {"R\t300101000000Z\t250101000000Z,superseded\t01\tunknown\t/CN=x", ""},
		"time of loss":      {"R\t300101000000Z\t250101000000Z,keyTime,20240101000000Z\t01\tunknown\t/CN=x", ""},
		"hold":              {"R\t300101000000Z\t250101000000Z,holdInstruction,1.2.840.10040.2.2\t01\tunknown\t/CN=x", ""},
		"far":               {"E\t99991231235959Z\t\t00AB\tx.pem\t", ""},
		"five fields":       {"V\t300101000000Z\t\t01\tunknown", "5 fields"},
		"seven fields":      {good + "\t", "7 fields"},
		"not UTF-8":         {good + "\xff", "not UTF-8"},
		"status":            {"v" + good[1:], "status"},
		"two letters":       {"V" + good, "status"},
		"date":              {"V\t301301000000Z\t\t01\tunknown\t/CN=x", "expiry"},
		"no zone":           {"V\t300101000000\t\t01\tunknown\t/CN=x", "expiry"},
		"short date":        {"V\t30\t\t01\tunknown\t/CN=x", "expiry"},
		"valid and revoked": {"V\t300101000000Z\t250101000000Z\t01\tunknown\t/CN=x", "status V with"},
		"revoked without":   {"R\t300101000000Z\t\t01\tunknown\t/CN=x", "status R with"},
		"unknown reason":    {"R\t300101000000Z\t250101000000Z,why\t01\tunknown\t/CN=x", "unknown reason"},
		"after the reason":  {"R\t300101000000Z\t250101000000Z,superseded,x\t01\tunknown\t/CN=x", "after the reason"},
		"no time of loss":   {"R\t300101000000Z\t250101000000Z,keyTime\t01\tunknown\t/CN=x", "after the reason"},
		"odd serial":        {"V\t300101000000Z\t\t1\tunknown\t/CN=x", "serial"},
		"no serial":         {"V\t300101000000Z\t\t\tunknown\t/CN=x", "serial"},
		"serial 0":          {"V\t300101000000Z\t\t00\tunknown\t/CN=x", "serial 0"},
		"negative serial":   {"V\t300101000000Z\t\t-01\tunknown\t/CN=x", "serial"},
		"long serial":       {"V\t300101000000Z\t\t" + strings.Repeat("AB", 21) + "\tunknown\t/CN=x", "more than 20"},
	} {
		_, err := parseLine(row.text)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
	err := readIndex(strings.NewReader(good+"\n"+strings.Repeat("x", maxLine+1)), func(line) {}, func(int, error) {})
	if err == nil || !strings.Contains(err.Error(), "line 2 is longer") {
		t.Errorf("long line: %v", err)
	}
	if at, err := parseTime("500101000000Z"); err != nil || at.Year() != 1950 {
		t.Errorf("%v, %v", at, err)
	}
}

func FuzzReadIndex(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzReadIndex"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		n := 0
		err := readIndex(strings.NewReader(text), func(l line) {
			n++
			if s := new(big.Int).SetBytes(l.serial); s.Sign() <= 0 || s.BitLen() > 159 {
				t.Fatalf("serial %x", l.serial)
			}
			if !strings.ContainsRune("VRE", rune(l.status)) || (l.status == 'R') == l.revoked.IsZero() || !l.reason.Valid() && l.status == 'R' {
				t.Fatalf("%+v", l)
			}
		}, func(int, error) { n++ })
		if n > lines || err != nil && errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d lines: %v", n, lines, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("Device CA", "a/b.pem")
	f.Fuzz(func(t *testing.T, a, b string) {
		taken := map[string]bool{}
		for _, s := range []string{a, b, a, b} {
			name := unique(clean(s), taken)
			text := fmt.Sprintf("version: 1\nplan: x\nsubject: {}\ntargets: {uefi: {signers: [ed25519], authorities: [ed25519]}, kernel: {signers: [ed25519], authorities: [ed25519]}, cmld: {signers: [ed25519], authorities: [ed25519]}}\nkeys: {place: \"file:{name}.key\"}\nhierarchies: {h: {}}\nprofiles:\n  root: {ca: true, validity: 1d, key_usage: [keyCertSign]}\nauthorities:\n  %s: {hierarchy: h, profile: root, key: \"ec:P-256\", subject: {common_name: x}} # %s\n",
				name, ca.Printable(a))
			if _, err := plan.Load("pki.yaml", []byte(text)); err != nil {
				t.Fatalf("name %q of %q: %v", name, s, err)
			}
		}
	})
}

// A common name that is the name of an entry, of a generation, or of what a profile
// has issued, must not make a certificate pass for that one's: also not when the
// authority gets another key, and its certificates are told apart by theirs.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	dir := script(t, `
mkdir ca
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca/root.key -out ca/root.pem -days 900 -subj '/CN=root' -addext keyUsage=critical,keyCertSign,cRLSign
for name in root root-g2 root-g1-by-g2 device/1 plain; do
	file=$(echo $name | tr / _)
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out r -subj "/O=other/CN=$(echo $name | sed 's,/,\\/,g')"
	openssl x509 -req -in r -CA ca/root.pem -CAkey ca/root.key -days 90 -out ca/zz-$file.crt
	printf '%s\t310101000000Z\t\t%s\tunknown\t/CN=x\n' V "$(openssl x509 -in ca/zz-$file.crt -noout -serial | cut -d= -f2)" >>ca/index.txt
done
rm k r
`)
	pki, _ := write(t, read(t, Options{}, filepath.Join(dir, "ca")))
	settled(t, pki)
	db, err := plan.ReadStore(t.Context(), pki)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, want := range map[string]int{"root": 1, "root-g2": 0, "root-g1-by-g2": 0, "device/1": 0, "plain": 1} {
		list, err := db.ByName(t.Context(), name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if len(list) != want {
			t.Errorf("%d certificates are called %q, want %d", len(list), name, want)
		}
	}
	if _, err := plan.Rotate(t.Context(), pki, options(), "root", spki.KeyType{}); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Switch(t.Context(), pki, options(), "root", "tested"); err != nil {
		t.Fatal(err)
	}
	if steps, err := plan.Apply(t.Context(), pki, options()); err != nil || len(steps) > 0 {
		t.Errorf("after the switch: %v, %d steps", err, len(steps))
	}
}
