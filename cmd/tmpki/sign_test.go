package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"tmpki/artifact/efi"
	"tmpki/plan"
	"tmpki/spki"
	"tmpki/store"
)

const guestOSConfig = `name: "debos"
hardware: "x86"
version: 1
init_path: "/sbin/init"
mounts {
	image_file: "root"
	mount_point: "/"
	fs_type: "squashfs"
	mount_type: SHARED_RW
}
description {
	en: "example userland (x86)"
}
`

// madePKI is a development PKI, in memory: keys take long to make.
var madePKI = sync.OnceValues(func() (fstest.MapFS, error) {
	parent, err := os.MkdirTemp("", "tmpki-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "pki")
	o := plan.Options{Actor: "tester", Now: time.Now}
	if _, err := plan.Generate(context.Background(), dir, spki.KeyType{Kind: spki.RSA, Bits: 2048}, o); err != nil {
		return nil, err
	}
	made := fstest.MapFS{}
	from := os.DirFS(dir)
	return made, fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, path)
		made[path] = &fstest.MapFile{Data: data, Mode: 0o600}
		return err
	})
})

// signingPKI returns a development PKI of the test's own, whose customer side is
// encrypted.
func signingPKI(t *testing.T) string {
	t.Helper()
	t.Setenv(testPassphrase, "opensesame")
	made, err := madePKI()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.CopyFS(dir, made); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantError fails unless err has this exit code and says so.
func wantError(t *testing.T, err error, code int, text string) {
	t.Helper()
	got := exitFailed
	switch {
	case err == nil:
		got = exitDone
	case errors.As(err, new(noError)):
		got = exitNo
	case errors.As(err, new(*usageError)):
		got = exitUsage
	}
	if got != code || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("exit code %d, error %v; want %d, %q", got, err, code, text)
	}
}

// TestSignConfigDropIn calls the drop-in as the platform's build does.
func TestSignConfigDropIn(t *testing.T) {
	pki := signingPKI(t)
	key, cert := filepath.Join(pki, "guestos_debos.key"), filepath.Join(pki, "guestos_debos.cert")
	file := put(t, t.TempDir(), "pass", "opensesame\n")
	for _, row := range []struct {
		name string
		env  string // "" unsets it
		args []string
		code int
		want string
	}{
		{"by position", "opensesame", []string{"CONF", key, cert}, exitDone, ""},
		{"by flags", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert}, exitDone, ""},
		{"two certificates", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "--cert", filepath.Join(pki, "guestos_subca.cert")}, exitDone, ""},
		{"as CMS", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "--cms"}, exitDone, ""},
		{"passphrase from a variable", "", []string{"-c", "CONF", "-k", key, "--cert", cert, "-p", "env:OTHER"}, exitDone, ""},
		{"passphrase from a file", "", []string{"-c", "CONF", "-k", key, "--cert", cert, "-p", "file:" + file}, exitDone, ""},
		{"passphrase itself", "", []string{"--quiet", "-c", "CONF", "-k", key, "--cert", cert, "-p", "opensesame"}, exitDone, ""},
		{"plain key", "", []string{"CONF", filepath.Join(pki, "ssig_cml.key"), filepath.Join(pki, "ssig_cml.cert")}, exitDone, ""},
		{"no passphrase", "", []string{"CONF", key, cert}, exitFailed, "needs a passphrase"},
		{"wrong passphrase", "guess", []string{"CONF", key, cert}, exitFailed, "passphrase"},
		{"wrong passphrase from a variable", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "-p", "env:WRONG"}, exitFailed, "passphrase"},
		{"variable not set", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "-p", "env:NOWHERE"}, exitFailed, "environment variable NOWHERE is not set"},
		{"file not there", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "-p", "file:" + file + ".none"}, exitFailed, "no such file"},
		{"nothing", "opensesame", nil, exitUsage, "are needed"},
		{"two positions", "opensesame", []string{"CONF", key}, exitUsage, "not both"},
		{"four positions", "opensesame", []string{"CONF", key, cert, cert}, exitUsage, "too many"},
		{"both forms", "opensesame", []string{"-c", "CONF", key, cert, cert}, exitUsage, "not both"},
		{"no certificate", "opensesame", []string{"-c", "CONF", "-k", key}, exitUsage, "are needed"},
		{"unknown flag", "opensesame", []string{"-c", "CONF", "-k", key, "--cert", cert, "--sha1"}, exitUsage, "unknown flag"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv(testPassphrase, row.env)
			if row.env == "" {
				os.Unsetenv(testPassphrase)
			}
			t.Setenv("OTHER", "opensesame")
			t.Setenv("WRONG", "guess")
			dir := t.TempDir()
			conf := put(t, dir, "debos-1.conf", guestOSConfig)
			args := []string{"sign-config"}
			for _, a := range row.args {
				args = append(args, strings.ReplaceAll(a, "CONF", conf))
			}
			_, err := call(t, nil, args...)
			wantError(t, err, row.code, row.want)
			if err != nil && strings.Contains(err.Error(), "opensesame") {
				t.Errorf("the passphrase is in the error: %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(dir, "debos-1.*"))
			want := 1
			if row.code == exitDone {
				want = 3
				verify := []string{"verify", "guestos", "--pki", pki, conf}
				if slices.Contains(row.args, "--cms") {
					verify, want = append(verify, "--cms"), 2
				}
				if out, err := call(t, nil, verify...); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
			if len(left) != want {
				t.Errorf("files: %v", left)
			}
		})
	}
	// Under the script's name the program needs no verb.
	defer func(old []string) { os.Args = old }(os.Args)
	os.Args = []string{"/usr/bin/tmpki-sign-config", "a", "b", "c"}
	if got := arguments(); !slices.Equal(got, []string{"sign-config", "a", "b", "c"}) {
		t.Errorf("arguments: %q", got)
	}
	os.Args = []string{"tmpki", "tree"}
	if got := arguments(); !slices.Equal(got, []string{"tree"}) {
		t.Errorf("arguments: %q", got)
	}
}

// TestSignVerifyVerbs goes from a signature to a verdict to the record.
func TestSignVerifyVerbs(t *testing.T) {
	pki, dir := signingPKI(t), t.TempDir()
	a, b := put(t, dir, "a-1.conf", guestOSConfig), put(t, dir, "b-1.conf", "no config\n")
	odd := put(t, dir, "\x1b[31m\u202e-1.conf", guestOSConfig)

	// What was signed is told, also if the next file fails.
	out, err := call(t, nil, "sign", "guestos", "--pki", pki, "--json", a, odd, b)
	wantError(t, err, exitFailed, "b-1.conf")
	var signed []signedJSON
	if jsonErr := json.Unmarshal([]byte(out), &signed); jsonErr != nil || len(signed) != 2 || signed[0].File != a || signed[0].Signer != "ssig_cml" {
		t.Errorf("%v: %s", jsonErr, out)
	}
	out, err = call(t, nil, "sign", "guestos", "--pki", pki, a, odd)
	if err != nil {
		t.Fatal(err)
	}
	checkTerminal(t, out)
	wantAll(t, out, a+": signed by ssig_cml\n")

	out, err = call(t, nil, "verify", "guestos", "--pki", pki, a, odd, b)
	wantError(t, err, exitNo, "")
	checkTerminal(t, out)
	wantAll(t, out, "a-1.conf: accepted\n", "b-1.conf: refused\n", "no such file", "CN=GyroidOS CML Signing Certificate", "below   C=DE")
	out, err = call(t, nil, "verify", "guestos", "--json", "--trust", filepath.Join(pki, "guestos_anchor.cert"), a)
	wantError(t, err, exitNo, "")
	var verdicts []verdictJSON
	if err := json.Unmarshal([]byte(out), &verdicts); err != nil || len(verdicts) != 1 || verdicts[0].Accepted || verdicts[0].Reason == "" {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := call(t, nil, "verify", "guestos", "--quiet", "--trust", filepath.Join(pki, "ssig_rootca.cert"), a); err != nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
	_, err = call(t, nil, "verify", "file", "--pki", pki, a)
	wantError(t, err, exitFailed, "nobody signs file in this PKI, so it has no trust anchor: name one with --trust")
	_, err = call(t, nil, "verify", "guestos", "--trust", b, a)
	wantError(t, err, exitFailed, "b-1.conf: certificate")
	for _, verb := range []string{"sign", "verify"} {
		_, err = call(t, nil, verb, "firmware", a)
		wantError(t, err, exitUsage, `unknown kind "firmware"`)
		_, err = call(t, nil, verb, "guestos", "--pki", pki)
		wantError(t, err, exitUsage, "too few arguments")
	}
	_, err = call(t, nil, "sign", "guestos", "--pki", filepath.Join(dir, "none"), a)
	wantError(t, err, exitFailed, "no PKI directory")

	// The record, by the beginning of the hash.
	out, err = call(t, nil, "log", "--pki", pki, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var entries []store.Entry
	if err := json.Unmarshal([]byte(out), &entries); err != nil {
		t.Fatal(err)
	}
	last := entries[len(entries)-1]
	out, err = call(t, nil, "log", "--pki", pki, "--artifact", strings.ToUpper(last.SHA256[:9]))
	if err != nil || strings.Count(out, "guestos by ssig_cml") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
	checkTerminal(t, out)
	if out, err := call(t, nil, "log", "--pki", pki, "--artifact", "00000000"); err != nil || out != "nothing\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, bad := range []string{"xyz", strings.Repeat("0", 65)} {
		_, err = call(t, nil, "log", "--pki", pki, "--artifact", bad)
		wantError(t, err, exitUsage, "is not the beginning of a SHA-256")
	}
}

// TestGuestOSVerbs adds a GuestOS, builds it and verifies it with its images.
func TestGuestOSVerbs(t *testing.T) {
	pki, dir := signingPKI(t), t.TempDir()
	if _, err := call(t, nil, "guestos", "add", "--pki", pki, "mine"); err != nil {
		t.Fatal(err)
	}
	if out, err := call(t, nil, "guestos", "add", "--pki", pki, "mine"); err != nil || strings.Contains(out, "guestos_mine") {
		t.Errorf("the second time: %q, %v", out, err)
	}
	_, err := call(t, nil, "guestos", "add", "--pki", pki, "../mine")
	wantError(t, err, exitFailed, "is not a name")
	template := put(t, dir, "t.conf", strings.Replace(guestOSConfig, "debos", "mine", 1))
	images, out := filepath.Join(dir, "images"), filepath.Join(dir, "out")
	if err := os.Mkdir(images, 0o755); err != nil {
		t.Fatal(err)
	}
	image := put(t, images, "root.img", strings.Repeat("root", 20<<10))
	t.Setenv("SOURCE_DATE_EPOCH", "1900000000")
	build := []string{"guestos", "build", "--pki", pki, "--template", template, "--version", "3", "--as", "guestos_mine", images, "-o", out}
	printed, err := call(t, nil, build...)
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, printed, "root.img: 81920 octets", "root.hash.img: dm-verity root ", "mine-3.conf: signed by guestos_mine")
	_, err = call(t, nil, build...)
	wantError(t, err, exitFailed, "exists already")
	conf := filepath.Join(out, "mine-3.conf")
	if printed, err := call(t, nil, "verify", "guestos", "--trust", filepath.Join(pki, "guestos_anchor.cert"), conf); err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
	if err := os.WriteFile(filepath.Join(out, "mine-3", "root.img"), bytes.Repeat([]byte("evil"), 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	printed, err = call(t, nil, "verify", "guestos", "--pki", pki, conf)
	wantError(t, err, exitNo, "")
	wantAll(t, printed, "mine-3.conf: refused", "image_verity_sha256")
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	_, err = call(t, nil, build...)
	wantError(t, err, exitFailed, "SOURCE_DATE_EPOCH")
	_, err = call(t, nil, "guestos", "build", "--pki", pki, images)
	wantError(t, err, exitUsage, "needs --template")

	// The image is never the output.
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{image, filepath.Join(images, ".", "root.img")} {
		_, err = call(t, nil, "verity", image, "-o", o)
		wantError(t, err, exitFailed, "is the image itself")
	}
	if after, err := os.ReadFile(image); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the image is changed, %v", err)
	}
}

// TestSignEFIVerb asks for images that can't be signed.
func TestSignEFIVerb(t *testing.T) {
	pki, dir := signingPKI(t), t.TempDir()
	image := put(t, dir, "kernel.efi", "MZ")
	_, err := call(t, nil, "sign", "efi", "--pki", pki, image)
	wantError(t, err, exitFailed, "EFI image")
	_, err = call(t, nil, "sign", "efi", "--pki", pki, image, image)
	wantError(t, err, exitUsage, "too many")
	_, err = call(t, nil, "verify", "efi", "--pki", pki, image)
	wantError(t, err, exitNo, "")
	if err := os.Truncate(image, efi.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	_, err = call(t, nil, "sign", "efi", "--pki", pki, image)
	wantError(t, err, exitFailed, "is larger than")
}
