package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tmpki/internal/tooltest"
	"tmpki/uefi"
)

// The tests of tmpki uefi, which share one PKI.
func TestUEFI(t *testing.T) {
	t.Parallel()
	made := makeUEFI(t)
	for _, test := range []struct {
		name string
		run  func(*uefiDir)
	}{
		{"Keys", uefiKeys},
		{"KeysAtOnce", uefiKeysAtOnce},
		{"KeysFail", uefiKeysFail},
		{"TimesGrow", uefiTimesGrow},
		{"DBX", uefiDBX},
		{"Delete", uefiDelete},
		{"ESL", uefiESL},
		{"ImageHash", uefiImageHash},
		{"SignedImage", uefiSignedImage},
		{"Vendor", uefiVendor},
		{"VendorRefused", uefiVendorRefused},
		{"Refuses", uefiRefuses},
		{"NotMade", uefiNotMade},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(newUEFIDir(t, made))
		})
	}
}

// makeUEFI makes a directory with the program, and a PKI with a base set and the
// platform board-a.
func makeUEFI(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program, pki := filepath.Join(dir, "tmpki"), filepath.Join(dir, "pki")
	for _, args := range [][]string{
		{"go", "build", "-o", program, "."},
		{program, "generate", pki, "rsa:2048"},
		{program, "uefi", "keys", "board-a", "--pki", pki},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "DO_PLATFORM_KEYS=y", "GYROIDOS_TEST_PASSWD_PKI=test")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	return dir
}

// uefiDir is a directory with a copy of that PKI in ./pki.
type uefiDir struct {
	*testing.T
	dir, program string
}

func newUEFIDir(t *testing.T, made string) *uefiDir {
	t.Helper()
	d := &uefiDir{t, t.TempDir(), filepath.Join(made, "tmpki")}
	must(d, d.dir, "cp", "-a", filepath.Join(made, "pki"), ".")
	return d
}

func (d *uefiDir) path(name string) string { return filepath.Join(d.dir, name) }

func (d *uefiDir) read(name string) string {
	d.Helper()
	b, err := os.ReadFile(d.path(name))
	if err != nil {
		d.Fatal(err)
	}
	return string(b)
}

func (d *uefiDir) write(name, content string) {
	d.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o700); err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(d.path(name), []byte(content), 0o600); err != nil {
		d.Fatal(err)
	}
}

// plan replaces a text in pki.yaml that stands there once.
func (d *uefiDir) plan(old, with string) {
	d.Helper()
	text := d.read("pki/pki.yaml")
	if strings.Count(text, old) != 1 {
		d.Fatalf("%q does not stand in pki.yaml once", old)
	}
	d.write("pki/pki.yaml", strings.Replace(text, old, with, 1))
}

// tool runs a program in the directory, for a second opinion.
func (d *uefiDir) tool(name string, args ...string) string {
	d.Helper()
	return must(d, d.dir, tooltest.Path(d, name), args...)
}

func (d *uefiDir) run(args ...string) (code int, stdout, stderr string) {
	d.Helper()
	cmd := exec.Command(d.program, args...)
	cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "GYROIDOS_TEST_PASSWD_PKI=test")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		d.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// ok runs the program, which must do what it is asked to.
func (d *uefiDir) ok(args ...string) (stdout, stderr string) {
	d.Helper()
	code, stdout, stderr := d.run(args...)
	if code != exitDone {
		d.Fatalf("tmpki %q: exit code %d\n%s", args, code, stderr)
	}
	return stdout, stderr
}

// auth reads an update and checks what it was signed for, and by whom.
func (d *uefiDir) auth(file, variable string, appendWrite bool, signer string) *uefi.Auth {
	d.Helper()
	a, err := uefi.ParseAuth([]byte(d.read(file)))
	if err != nil {
		d.Fatal(err)
	}
	v, err := uefi.SecureBootVariable(variable)
	if err != nil {
		d.Fatal(err)
	}
	d.tool("openssl", "x509", "-in", signer, "-outform", "DER", "-out", "signer.der")
	if err := a.Verify(v, appendWrite, []byte(d.read("signer.der"))); err != nil {
		d.Fatalf("%s: %v", file, err)
	}
	return a
}

func uefiKeys(d *uefiDir) {
	before := d.read("pki/pki.yaml")
	if out, _ := d.ok("uefi", "keys", "board-a"); out != "nothing to do\n" {
		d.Errorf("a second call says %q", out)
	}
	if d.read("pki/pki.yaml") != before {
		d.Error("a second call changed pki.yaml")
	}
	if !strings.Contains(before, "platforms: [board-a]\n") || !strings.Contains(before, "# UEFI keys: PK signs itself") {
		d.Error("pki.yaml lacks the platform, or lost a comment")
	}
	d.auth("pki/platforms/board-a/PK.auth", "PK", false, "pki/platforms/board-a/PK.crt")
	d.auth("pki/platforms/board-a/KEK.auth", "KEK", false, "pki/platforms/board-a/PK.crt")
	db := d.auth("pki/platforms/board-a/DB.auth", "db", false, "pki/platforms/board-a/KEK.crt")
	if n := len(db.Value.Entries()); n != 2 {
		d.Errorf("db has %d entries", n)
	}
	// DB.auth has what DB.esl has, and efitools reads it.
	esl, err := db.Value.Marshal()
	if err != nil || string(esl) != d.read("pki/platforms/board-a/DB.esl") {
		d.Errorf("DB.auth and DB.esl differ: %v", err)
	}
	d.tool("sig-list-to-certs", "pki/platforms/board-a/DB.esl", "db")
	d.tool("openssl", "x509", "-in", "pki/platforms/board-a/DB.crt", "-outform", "DER", "-out", "DB.der")
	if d.read("db-0.der") != d.read("DB.der") {
		d.Error("sig-list-to-certs finds another certificate than DB.crt")
	}
	// Nothing is shared with the base set but the sub CA.
	if owner := db.Value[0].Signatures[0].Owner.String(); strings.Contains(d.tool("sig-list-to-certs", "pki/DB.esl", "base"), owner) {
		d.Errorf("the base set has the owner %s too", owner)
	}
	if out, _ := d.ok("check", "pki"); !strings.Contains(out, "in good health") {
		d.Error(out)
	}
}

// Two at once both land.
func uefiKeysAtOnce(d *uefiDir) {
	var wg sync.WaitGroup
	for _, platform := range []string{"b", "c", "d"} {
		wg.Go(func() {
			if code, _, stderr := d.run("uefi", "keys", platform); code != exitDone {
				d.Errorf("%s: exit code %d\n%s", platform, code, stderr)
			}
		})
	}
	wg.Wait()
	for _, platform := range []string{"b", "c", "d"} {
		d.auth("pki/platforms/"+platform+"/DB.auth", "db", false, "pki/platforms/"+platform+"/KEK.crt")
	}
	if out, _ := d.ok("apply", "pki"); out != "nothing to do\n" {
		d.Errorf("apply says %q", out)
	}
}

// A platform whose keys can't be made leaves the plan as it was.
func uefiKeysFail(d *uefiDir) {
	d.plan(`platform_key: {`, `platform_key: {passphrase: {env: TMPKI_NOT_SET}, `)
	before := d.read("pki/pki.yaml")
	code, _, stderr := d.run("uefi", "keys", "b")
	if code != exitFailed || !strings.Contains(stderr, "TMPKI_NOT_SET") {
		d.Errorf("exit code %d\n%s", code, stderr)
	}
	if d.read("pki/pki.yaml") != before {
		d.Error("pki.yaml changed")
	}
}

// Each update of a variable is later than all before, whatever made it, and has
// an entry in the ledger.
func uefiTimesGrow(d *uefiDir) {
	var last time.Time
	later := func(file string, appendWrite bool, variable string) {
		d.Helper()
		a := d.auth(file, variable, appendWrite, "pki/platforms/board-a/KEK.crt")
		if !a.Time.After(last) {
			d.Errorf("%s: %v is not after %v", file, a.Time, last)
		}
		last = a.Time
	}
	later("pki/platforms/board-a/DB.auth", false, "db")
	d.ok("uefi", "esl", "ssig", "-o", "x.esl")
	for range 3 {
		d.ok("uefi", "auth", "--platform", "board-a", "db", "x.esl", "--append", "-o", "x.auth")
		later("x.auth", true, "db")
		d.ok("uefi", "auth", "--platform", "board-a", "db", "pki/platforms/board-a/DB.esl", "-o", "x.auth")
		later("x.auth", false, "db")
	}
	// The plan is as it was, and apply has nothing to do; but what it signs next
	// is later still.
	if out, _ := d.ok("apply", "pki"); out != "nothing to do\n" {
		d.Errorf("apply says %q", out)
	}
	if out, _ := d.ok("check", "pki"); !strings.Contains(out, "refuses the published one") {
		d.Errorf("check does not tell that DB.auth is older:\n%s", out)
	}
	d.plan("[DB, ssig_subca], signer", "[DB, ssig_subca, ssig], signer")
	if _, stderr := d.ok("apply", "pki"); !strings.Contains(stderr, "PCR 7") {
		d.Errorf("apply does not tell of PCR 7:\n%s", stderr)
	}
	later("pki/platforms/board-a/DB.auth", false, "db")
	out, _ := d.ok("uefi", "show", "--json", "--platform", "board-a", "db")
	var list []variableJSON
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || len(list[0].Entries) != 3 || list[0].Entries[2].Name != "ssig" || !list[0].Time.Equal(last) {
		d.Errorf("%v: %s", err, out)
	}
}

func uefiDBX(d *uefiDir) {
	a, b, c := strings.Repeat("aa", 32), strings.Repeat("bb", 32), strings.Repeat("cc", 32)
	has := func(db uefi.SignatureDatabase, sum string) bool {
		data, err := hex.DecodeString(sum)
		return err == nil && db.Contains(uefi.CertSHA256, data)
	}
	_, stderr := d.ok("uefi", "dbx", "--platform", "board-a", "--hash", a, "--certificate", "ssig", "-o", "1.auth")
	if !strings.Contains(stderr, "PCR 7") || !strings.Contains(stderr, "ssig is of this PKI") {
		d.Errorf("no warning:\n%s", stderr)
	}
	first := d.auth("1.auth", "dbx", false, "pki/platforms/board-a/KEK.crt")
	if n := len(first.Value.Entries()); n != 2 || !has(first.Value, a) {
		d.Errorf("the first update has %d entries", n)
	}
	// Appended is only what is new.
	_, stderr = d.ok("uefi", "dbx", "--quiet", "--platform", "board-a", "--append", "--hash", a, "--hash", b, "-o", "2.auth")
	if stderr != "" {
		d.Errorf("--quiet says %q", stderr)
	}
	second := d.auth("2.auth", "dbx", true, "pki/platforms/board-a/KEK.crt")
	if n := len(second.Value.Entries()); n != 1 || !has(second.Value, b) || !second.Time.After(first.Time) {
		d.Errorf("the second update has %d entries, at %v", n, second.Time)
	}
	// A whole one has everything, and replaces its file.
	d.ok("uefi", "dbx", "--platform", "board-a", "--as", "board-a_PK", "--hash", c, "-o", "1.auth")
	third := d.auth("1.auth", "dbx", false, "pki/platforms/board-a/PK.crt")
	if n := len(third.Value.Entries()); n != 4 || !has(third.Value, a) || !has(third.Value, b) || !has(third.Value, c) {
		d.Errorf("the third update has %d entries", n)
	}
	d.ok("uefi", "dbx", "--platform", "board-a", "-o", "4.auth")
	if n := len(d.auth("4.auth", "dbx", false, "pki/platforms/board-a/KEK.crt").Value.Entries()); n != 4 {
		d.Errorf("the fourth update has %d entries", n)
	}
	// The base set has a dbx of its own.
	d.ok("uefi", "dbx", "--hash", c, "-o", "base.auth")
	if n := len(d.auth("base.auth", "dbx", false, "pki/KEK.crt").Value.Entries()); n != 1 {
		d.Errorf("the dbx of the base set has %d entries", n)
	}
	// Taking something out is possible, but not silently.
	d.ok("uefi", "esl", "--hash", a, "-o", "a.esl")
	if _, stderr := d.ok("uefi", "auth", "--platform", "board-a", "dbx", "a.esl", "-o", "5.auth"); !strings.Contains(stderr, "3 certificates or images revoked before may boot again") {
		d.Errorf("no warning:\n%s", stderr)
	}
	if out, _ := d.ok("uefi", "show", "5.auth"); !strings.Contains(out, "good: new value of dbx, by board-a_KEK") {
		d.Error(out)
	}
}

// Clearing PK: an empty payload, signed by PK.
func uefiDelete(d *uefiDir) {
	d.ok("uefi", "auth", "--platform", "board-a", "--delete", "PK", "-o", "clear.auth")
	if a := d.auth("clear.auth", "PK", false, "pki/platforms/board-a/PK.crt"); len(a.Value) != 0 {
		d.Errorf("%d lists", len(a.Value))
	}
	if out, _ := d.ok("uefi", "show", "clear.auth"); !strings.Contains(out, "good: removal of PK, by board-a_PK") {
		d.Error(out)
	}
}

// Signature lists are what efitools make of the same.
func uefiESL(d *uefiDir) {
	const owner = "77fa9abd-0359-4d32-bd60-28f4e78f784b"
	d.ok("uefi", "esl", "--owner", owner, "DB", "-o", "ours.esl")
	d.tool("cert-to-efi-sig-list", "-g", owner, "pki/DB.crt", "theirs.esl")
	if d.read("ours.esl") != d.read("theirs.esl") {
		d.Error("another list than that of cert-to-efi-sig-list")
	}
	// Without a PKI, from a file in DER.
	if err := os.Rename(d.path("pki"), d.path("away")); err != nil {
		d.Fatal(err)
	}
	d.tool("openssl", "x509", "-in", "away/DB.crt", "-outform", "DER", "-out", "DB.cer")
	d.ok("uefi", "esl", "--owner", owner, "DB.cer", "-o", "ours.esl")
	if d.read("ours.esl") != d.read("theirs.esl") {
		d.Error("without a PKI it is another list")
	}
	if out, _ := d.ok("uefi", "show", "ours.esl"); !strings.Contains(out, "CN=DB") || !strings.Contains(out, owner) {
		d.Error(out)
	}
}

// The hash of an image is what hash-to-efi-sig-list finds.
func uefiImageHash(d *uefiDir) {
	image := tooltest.Path(d, "HelloWorld.efi")
	d.tool("hash-to-efi-sig-list", image, "theirs.esl")
	d.tool("sig-list-to-certs", "theirs.esl", "theirs")
	d.ok("uefi", "esl", "--image", image, "-o", "ours.esl")
	d.tool("sig-list-to-certs", "ours.esl", "ours")
	if d.read("ours-0.hash") != d.read("theirs-0.hash") {
		d.Error("another hash than that of hash-to-efi-sig-list")
	}
	d.ok("uefi", "dbx", "--image", image, "-o", "dbx.auth")
	if a := d.auth("dbx.auth", "dbx", false, "pki/KEK.crt"); !a.Value.Contains(uefi.CertSHA256, []byte(d.read("theirs-0.hash"))) {
		d.Error("the image is not in dbx")
	}
}

// What the plan takes into db, sbverify accepts: an image by a platform's own key.
func uefiSignedImage(d *uefiDir) {
	image := tooltest.Path(d, "HelloWorld.efi")
	d.ok("sign", "efi", "--as", "board-a_DB", image, "-o", "signed.efi")
	d.tool("sbverify", "--cert", "pki/platforms/board-a/DB.crt", "signed.efi")
}

func (d *uefiDir) vendor(file string, openssl ...string) {
	d.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(file)), 0o700); err != nil {
		d.Fatal(err)
	}
	args := append([]string{"req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=Vendor", "-keyout", "vendor.key", "-out", file}, openssl...)
	d.tool("openssl", args...)
}

func uefiVendor(d *uefiDir) {
	d.vendor("pki/vendor/a.cer", "-newkey", "rsa:2048", "-outform", "DER")
	d.plan("[DB, ssig_subca], signer", "[DB, ssig_subca], files: [vendor/a.cer], signer")
	out, stderr := d.ok("apply", "pki")
	if !strings.Contains(out, "its content changed") || !strings.Contains(stderr, "PCR 7") || strings.Contains(stderr, "warning") {
		d.Errorf("%s%s", out, stderr)
	}
	for file, signer := range map[string]string{"pki/DB.auth": "pki/KEK.crt", "pki/platforms/board-a/DB.auth": "pki/platforms/board-a/KEK.crt"} {
		if a := d.auth(file, "db", false, signer); !a.Value.Contains(uefi.CertX509, []byte(d.read("pki/vendor/a.cer"))) {
			d.Errorf("the vendor's certificate is not in %s", file)
		}
	}
	if out, _ := d.ok("apply", "pki"); out != "nothing to do\n" {
		d.Errorf("apply says %q", out)
	}
	// Another certificate in the file is another variable; so is one in PEM.
	before := d.read("pki/DB.auth")
	d.plan("  uefi: # firmware: PK, KEK, db, EFI images\n    signers: [rsa:2048, rsa:3072, rsa:4096]", "  uefi:\n    signers: [rsa:2048]")
	d.vendor("pki/vendor/a.cer", "-newkey", "rsa:3072")
	_, stderr = d.ok("apply", "pki")
	if d.read("pki/DB.auth") == before {
		d.Error("DB.auth is the same")
	}
	if !strings.Contains(stderr, "firmware takes rsa:2048 only") {
		d.Errorf("no warning of the key type:\n%s", stderr)
	}
	if out, _ := d.ok("check", "pki"); !strings.Contains(out, "firmware takes rsa:2048 only") {
		d.Errorf("check does not warn of the key type:\n%s", out)
	}
}

// A bad vendor file stops apply before anything is made, with its reason, and
// nothing that does not need it.
func uefiVendorRefused(d *uefiDir) {
	d.plan("[DB, ssig_subca], signer", "[DB, ssig_subca], files: [vendor/a.cer], signer")
	const file = "pki/vendor/a.cer"
	for _, row := range []struct {
		name string
		make func()
		want string
	}{
		{"missing", func() {}, "no such file"},
		{"a key", func() { d.write(file, d.read("pki/DB.key")) }, "a PRIVATE KEY stands where a certificate should"},
		{"empty", func() { d.write(file, "") }, "certificate"},
		{"text", func() { d.write(file, "hello\n") }, "certificate"},
		{"5 MiB", func() { d.write(file, strings.Repeat("A", 5<<20)) }, "is larger than"},
		{"a chain", func() { d.write(file, d.read("pki/ssig_subca.cert")) }, "holds 2 certificates"},
		{"a cut PEM block", func() { d.write(file, d.read("pki/DB.crt")[:200]) }, "malformed or cut off"},
		{"trailing octets", func() { d.vendor(file, "-newkey", "rsa:2048", "-outform", "DER"); d.write(file, d.read(file)+"x") }, "trailing data"},
		{"EC", func() { d.vendor(file, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256") }, "firmware can't use a key of type ec:P-256"},
		{"PSS", func() { d.vendor(file, "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048") }, "firmware can't use a key of type rsa-pss:2048"},
		{"a directory", func() { d.write(file+"/x", "") }, "is not a regular file"},
		{"a pipe", func() {
			if err := syscall.Mkfifo(d.path(file), 0o600); err != nil {
				d.Fatal(err)
			}
		}, "is not a regular file"},
	} {
		if err := os.RemoveAll(d.path(file)); err != nil {
			d.Fatal(err)
		}
		d.write("pki/vendor/x", "")
		row.make()
		before := d.read("pki/pki.db")
		code, _, stderr := d.run("uefi", "keys", "b")
		if code != exitFailed || !strings.Contains(stderr, row.want) || !strings.Contains(stderr, "vendor certificate") {
			d.Errorf("%s: exit code %d, want %q:\n%s", row.name, code, row.want, stderr)
		}
		if d.read("pki/pki.db") != before || strings.Contains(d.read("pki/pki.yaml"), "board-a, b]") {
			d.Errorf("%s: something changed", row.name)
		}
		if _, err := os.Stat(d.path("pki/platforms/b/PK.key")); err == nil {
			d.Errorf("%s: a key was made", row.name)
		}
	}
	d.write("some.file", "content")
	d.plan("signers:\n  efi: ssig\n", "signers:\n  file: other\n  efi: ssig\n")
	d.plan("certificates:\n  ssig:", "certificates:\n  other:\n    issuer: ssig_subca\n    profile: signer\n    signs: [file]\n    key: rsa:2048\n    subject: {common_name: Other}\n  ssig:")
	if code, _, stderr := d.run("sign", "file", "some.file"); code != exitFailed || strings.Contains(stderr, "vendor") {
		d.Errorf("a vendor file is in the way of other signatures:\n%s", stderr)
	}
}

// Each refused call says why, signs nothing and writes nothing.
func uefiRefuses(d *uefiDir) {
	d.vendor("ec.crt", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
	d.ok("uefi", "esl", "DB", "-o", "db.esl")
	d.ok("uefi", "esl", "DB", "KEK", "-o", "two.esl")
	d.ok("uefi", "esl", "--hash", strings.Repeat("aa", 32), "-o", "hash.esl")
	d.write("empty.esl", "")
	d.write("cut.esl", d.read("db.esl")[:100])
	d.write("out", "before")
	if err := syscall.Mkfifo(d.path("pipe"), 0o600); err != nil {
		d.Fatal(err)
	}
	sum := strings.Repeat("ab", 32)
	for _, row := range []struct {
		code int
		want string
		args string
	}{
		{exitFailed, `platform "../x": not a name`, "uefi keys ../x"},
		{exitFailed, `platform "a/b": not a name`, "uefi keys a/b"},
		{exitFailed, `platform ".": not a name`, "uefi keys ."},
		{exitUsage, "too few arguments", "uefi keys"},
		{exitUsage, "too many arguments", "uefi keys a b"},
		{exitUsage, `variable "dB"`, "uefi auth dB db.esl -o out"},
		{exitUsage, `variable "MOK"`, "uefi auth MOK db.esl -o out"},
		{exitUsage, "-o OUT.auth is missing", "uefi auth db db.esl"},
		{exitUsage, "there is nothing to sign", "uefi auth db -o out"},
		{exitUsage, "exclude each other", "uefi auth PK --delete --append -o out"},
		{exitUsage, "takes no content", "uefi auth PK db.esl --delete -o out"},
		{exitFailed, "which --delete is for", "uefi auth db empty.esl -o out"},
		{exitFailed, "signature list 1", "uefi auth db cut.esl -o out"},
		{exitFailed, "signature list 1", "uefi auth db pki/DB.key -o out"},
		{exitFailed, "not a regular file", "uefi auth db pipe -o out"},
		{exitFailed, "PK: 2 certificates", "uefi auth PK two.esl -o out"},
		{exitFailed, "nothing can be appended", "uefi auth PK pki/PK.esl --append -o out"},
		{exitFailed, "is a hash, where only certificates", "uefi auth KEK hash.esl -o out"},
		{exitFailed, `platform "x" is not in the plan`, "uefi auth db db.esl --platform x -o out"},
		{exitFailed, `platform "../pki" is not in the plan`, "uefi auth db db.esl --platform ../pki -o out"},
		{exitFailed, `"nobody" is not an entry`, "uefi auth db db.esl --as nobody -o out"},
		{exitFailed, "from PK, KEK only, not from DB", "uefi auth db db.esl --as DB -o out"},
		{exitFailed, "from PK only, not from KEK", "uefi auth KEK db.esl --as KEK -o out"},
		{exitFailed, "not from ssig_subca_cml", "uefi auth db db.esl --as ssig_subca_cml -o out"},
		{exitFailed, "from board-a_PK, board-a_KEK only, not from KEK", "uefi auth db db.esl --platform board-a --as KEK -o out"},
		{exitFailed, "nothing to put into it", "uefi dbx -o out"},
		{exitFailed, "nothing to append", "uefi dbx --append -o out"},
		{exitUsage, "--hash", "uefi dbx --hash abc -o out"},
		{exitUsage, "--hash", "uefi dbx --hash " + sum[:62] + " -o out"},
		{exitUsage, "--hash", "uefi dbx --hash " + sum + "ab -o out"},
		{exitUsage, "--hash", "uefi dbx --hash g" + sum[1:] + " -o out"},
		{exitFailed, "firmware can't use a key of type ec:P-256", "uefi dbx --certificate ec.crt -o out"},
		{exitFailed, "no such file", "uefi dbx --certificate none.crt -o out"},
		{exitFailed, "holds 2 certificates", "uefi dbx --certificate pki/ssig_subca.cert -o out"},
		{exitFailed, "db.esl: ", "uefi dbx --image db.esl -o out"},
		{exitFailed, "not a regular file", "uefi dbx --image pipe -o out"},
		{exitFailed, "none: no such file", "uefi dbx --hash " + sum + " -o none/out"},
		{exitFailed, "not a regular file", "uefi dbx --hash " + sum + " -o pipe"},
		{exitFailed, "not a regular file", "uefi dbx --hash " + sum + " -o pki"},
		{exitFailed, "belongs to the PKI", "uefi dbx --hash " + sum + " -o pki/KEK.key"},
		{exitFailed, "belongs to the PKI", "uefi dbx --hash " + sum + " -o pki/platforms/../pki.db"},
		{exitFailed, "belongs to the PKI", "uefi auth db db.esl -o pki/DB.auth"},
		{exitFailed, "belongs to the PKI", "uefi esl DB -o pki/platforms/board-a/DB.key"},
		{exitUsage, "nothing to put into the list", "uefi esl -o out"},
		{exitUsage, "GUID", "uefi esl DB --owner 123 -o out"},
		{exitFailed, "firmware can't use a key of type ec:P-256", "uefi esl ec.crt -o out"},
		{exitFailed, "can't use a key of type rsa-pss", "uefi esl ssig_cml -o out"},
		{exitFailed, "a PRIVATE KEY stands", "uefi esl pki/DB.key -o out"},
		{exitFailed, "no such file", "uefi show nothing"},
		{exitFailed, "not a regular file", "uefi show pipe"},
		{exitFailed, "signature list", "uefi show cut.esl"},
		{exitFailed, `platform "x" is not in the plan`, "uefi show --platform x"},
		{exitUsage, "unknown kind", "uefi frobnicate"},
	} {
		before := d.read("pki/pki.db")
		code, _, stderr := d.run(strings.Fields(row.args)...)
		if code != row.code || !strings.Contains(stderr, row.want) {
			d.Errorf("tmpki %s: exit code %d, want %d and %q:\n%s", row.args, code, row.code, row.want, stderr)
		}
		if d.read("pki/pki.db") != before || d.read("out") != "before" {
			d.Errorf("tmpki %s: something was recorded or written", row.args)
		}
	}
}

// Without a set there is a way out.
func uefiNotMade(d *uefiDir) {
	if err := os.RemoveAll(d.path("pki")); err != nil {
		d.Fatal(err)
	}
	d.ok("generate", "pki", "rsa:2048")
	for _, args := range []string{"uefi show", "uefi dbx --hash " + strings.Repeat("ab", 32) + " -o x", "uefi auth PK --delete -o x", "uefi esl ssig_subca -o x"} {
		if code, _, stderr := d.run(strings.Fields(args)...); code != exitFailed || !strings.Contains(stderr, "tmpki apply --platform-keys makes it") {
			d.Errorf("tmpki %s: exit code %d\n%s", args, code, stderr)
		}
	}
	// A platform needs no base set.
	d.ok("uefi", "keys", "board-b")
	if _, err := os.Stat(d.path("pki/PK.key")); err == nil {
		d.Error("the base set was made")
	}
	d.ok("uefi", "auth", "--platform", "board-b", "--delete", "PK", "-o", "x")
	d.plan("create: on-request", "create: never")
	if code, _, stderr := d.run("uefi", "show"); code != exitFailed || !strings.Contains(stderr, "--platform") {
		d.Errorf("exit code %d\n%s", code, stderr)
	}
}
