//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/e2e/secboot"
)

// TestPlatformUpdates enrols the keys of a platform with a vendor's certificate
// in KEK and db, and then updates by "uefi auth" and "uefi dbx", each checked by
// the firmware: appended and whole, and at last the removal of PK.
func TestPlatformUpdates(t *testing.T) {
	machine, err := secboot.New(t.TempDir())
	need(t, err)
	hello, err := secboot.HelloProgram(t.TempDir())
	need(t, err)
	program := build(t)
	pki, work := filepath.Join(t.TempDir(), "pki"), t.TempDir()
	platform := filepath.Join(pki, "platforms", "board-a")
	program.run(t, "generate", pki, "rsa:2048")
	program.run(t, "--pki", pki, "uefi", "keys", "board-a")

	image := write(t, filepath.Join(work, "hello.efi"), hello)
	at := func(name string) string { return filepath.Join(work, name) }
	sign := func(as string) []byte {
		program.run(t, "--pki", pki, "sign", "efi", "--as", as, "-o", at(as+".efi"), image)
		return read(t, at(as+".efi"))
	}
	ofSSIG, ofSubCA, ofDB := sign("ssig"), sign("ssig_subca"), sign("board-a_DB")
	uefi := func(args ...string) { program.run(t, append([]string{"--pki", pki, "uefi"}, args...)...) }
	enrol := func(want bool, name, file string, appendWrite bool) {
		t.Helper()
		err := machine.Enrol(secboot.Update{Name: name, Append: appendWrite, Auth: read(t, file)})
		if refused := errors.As(err, new(*secboot.StatusError)); err != nil && !refused {
			t.Fatal(err)
		} else if refused == want {
			t.Errorf("%s by %s: %v, want it taken: %v", name, filepath.Base(file), err, want)
		}
	}
	boots := func(name string, image []byte, want secboot.Verdict) {
		t.Helper()
		verdict, console, err := machine.Boot(image)
		if err != nil {
			t.Fatal(err)
		}
		if verdict != want {
			t.Errorf("%s: %v, want %v\n%s", name, verdict, want, console)
		}
	}

	// 1. The platform's keys; not those of another set.
	err = machine.Enrol(
		secboot.Update{Name: "PK", Auth: read(t, filepath.Join(platform, "PK.auth"))},
		secboot.Update{Name: "KEK", Auth: read(t, filepath.Join(platform, "KEK.auth"))},
		secboot.Update{Name: "db", Auth: read(t, filepath.Join(platform, "DB.auth"))})
	if err != nil {
		t.Fatal(err)
	}
	enroller := write(t, at("enrol.efi"), machine.Enroller)
	program.run(t, "--pki", pki, "sign", "efi", "--as", "ssig_subca", enroller)
	machine.Enroller = read(t, enroller)
	boots("by ssig", ofSSIG, secboot.Booted)
	boots("by ssig_subca", ofSubCA, secboot.Booted)
	boots("by the platform's DB", ofDB, secboot.Booted)
	boots("unsigned", hello, secboot.Denied)

	// 2. An unsigned image by its hash, appended to db.
	uefi("esl", "--platform", "board-a", "--image", image, "-o", at("hash.esl"))
	uefi("auth", "--platform", "board-a", "db", at("hash.esl"), "--append", "-o", at("db.auth"))
	enrol(true, "db", at("db.auth"), true)
	boots("unsigned, with its hash in db", hello, secboot.Booted)
	// What is published is older now, until it is signed anew.
	enrol(false, "db", filepath.Join(platform, "DB.auth"), false)
	uefi("auth", "--platform", "board-a", "db", filepath.Join(platform, "DB.esl"), "-o", at("db.auth"))
	enrol(true, "db", at("db.auth"), false)
	boots("unsigned, with its hash out of db", hello, secboot.Denied)

	// 3. A vendor's certificate comes with the plan.
	vendor := exec.Command("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=Vendor", "-keyout", at("vendor.key"), "-out", filepath.Join(pki, "vendor.crt"))
	if out, err := vendor.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	edit(t, filepath.Join(pki, "pki.yaml"), "[DB, ssig_subca], signer", "[DB, ssig_subca], files: [vendor.crt], signer")
	edit(t, filepath.Join(pki, "pki.yaml"), "[KEK], signer", "[KEK], files: [vendor.crt], signer")
	program.run(t, "apply", pki)
	enrol(true, "KEK", filepath.Join(platform, "KEK.auth"), false)
	enrol(true, "db", filepath.Join(platform, "DB.auth"), false)
	if out, err := exec.Command("sbsign", "--key", at("vendor.key"), "--cert", filepath.Join(pki, "vendor.crt"), "--output", at("vendor.efi"), image).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	boots("by the vendor", read(t, at("vendor.efi")), secboot.Booted)
	boots("by ssig, beside the vendor", ofSSIG, secboot.Booted)

	// 4. Revocation: an image appended, then a certificate in a whole update, which
	// still has the image.
	// The hash of an image is the same whoever signed it, so this is another one.
	other := bytes.Clone(hello)
	other[0x40] ^= 1 // in the DOS stub, which nobody runs
	write(t, at("other.efi"), other)
	program.run(t, "--pki", pki, "sign", "efi", "--as", "board-a_DB", at("other.efi"))
	other = read(t, at("other.efi"))
	boots("another image", other, secboot.Booted)
	uefi("dbx", "--platform", "board-a", "--image", at("other.efi"), "--append", "-o", at("dbx.auth"))
	enrol(true, "dbx", at("dbx.auth"), true)
	boots("a revoked image", other, secboot.Denied)
	boots("an image that is not revoked", ofSSIG, secboot.Booted)
	uefi("dbx", "--platform", "board-a", "--certificate", "ssig", "-o", at("dbx.auth"))
	enrol(true, "dbx", at("dbx.auth"), false)
	boots("by a revoked certificate", ofSSIG, secboot.Denied)
	boots("a revoked image, after a whole update", other, secboot.Denied)
	boots("by the sub CA above", ofSubCA, secboot.Booted)

	// 5. Without its PK the platform is open, and can be enrolled again.
	uefi("auth", "--platform", "board-a", "PK", "--delete", "-o", at("clear.auth"))
	enrol(true, "PK", at("clear.auth"), false)
	enrol(true, "PK", filepath.Join(platform, "PK.auth"), false)
}

// edit replaces a text that stands in a file once.
func edit(t *testing.T, path, old, with string) {
	t.Helper()
	text := string(read(t, path))
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q does not stand in %s once", old, path)
	}
	write(t, path, []byte(strings.Replace(text, old, with, 1)))
}
