package signing

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/artifact/efi"
	"tmpki/artifact/ima"
	"tmpki/artifact/module"
	"tmpki/ca"
	"tmpki/cms"
	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// TestSignerRefused asks each kind of artifact for signers that are not its own.
func TestSignerRefused(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	layArtifacts(t, dir)
	sign := map[string]func(s *Session, path, as string) error{
		"efi": func(s *Session, path, as string) error {
			_, err := s.SignEFI(t.Context(), path, EFIOptions{As: as})
			return err
		},
		"module": func(s *Session, path, as string) error {
			_, _, err := s.SignModules(t.Context(), []string{path}, TreeOptions{As: as})
			return err
		},
		"ima": func(s *Session, path, as string) error {
			_, _, err := s.SignIMA(t.Context(), []string{path}, ima.SigFile, TreeOptions{As: as})
			return err
		},
		"file": func(s *Session, path, as string) error {
			_, err := s.SignFile(t.Context(), path, as)
			return err
		},
	}
	for _, a := range artifacts {
		do := sign[a.kind]
		if do == nil {
			continue // see TestSignConfigRefuses
		}
		path := filepath.Join(dir, a.file)
		for as, want := range map[string]string{
			"guestos_debos": "guestos_debos signs guestos, not " + a.kind,
			"ssig_cml":      "ssig_cml signs guestos, container, not " + a.kind,
			"device_1":      "device_1 signs no artifacts",
			"PK":            "PK signs no artifacts",
			"guestos_subca": "guestos_subca signs no artifacts",
			"nobody":        `"nobody" is not an entry of the plan`,
			"../ssig":       `"../ssig" is not an entry of the plan`,
		} {
			unchanged(t, dir, func() { refused(t, do(s, path, as), want) })
		}
		late := *s
		late.Now = func() time.Time { return now.AddDate(3, 0, 1) }
		unchanged(t, dir, func() { refused(t, do(&late, path, ""), "can't sign now") })
	}
	for _, kind := range []string{"efi", "module", "ima"} {
		spoiled := newSession(t)
		if err := os.Remove(filepath.Join(spoiled.PKI.Dir, "ssig.key")); err != nil {
			t.Fatal(err)
		}
		unchanged(t, dir, func() { refused(t, sign[kind](spoiled, filepath.Join(dir, "m.ko"), ""), "ssig") })
	}
	if list := signatures(t, s.PKI.Dir); len(list) > 0 {
		t.Errorf("recorded: %v", list)
	}
}

func TestEFI(t *testing.T) {
	s := newSession(t)
	db := Verifier{Trust: s.Anchors("efi")}
	for _, as := range []string{"ssig", "ssig_subca", "DB"} {
		path := write(t, t.TempDir(), "kernel.efi", newEFI(4099))
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SignEFI(t.Context(), path, EFIOptions{As: as}); err != nil {
			t.Fatalf("%s: %v", as, err)
		}
		v := db.VerifyEFI(path)
		if v.Err != nil || !v.Signer.Equal(s.cert(t, as)) {
			t.Errorf("%s: %+v", as, v)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", as, info.Mode(), err)
		}
		// With the root in db the sub CA must be in the signature; PK is not its issuer.
		root := Verifier{Trust: []*ca.Certificate{s.cert(t, "ssig_rootca")}}
		if err := root.VerifyEFI(path).Err; (err == nil) != (as != "DB") {
			t.Errorf("%s, with the root in db: %v", as, err)
		}
		other := Verifier{Trust: []*ca.Certificate{s.cert(t, "PK"), s.cert(t, "gen_rootca")}}
		refused(t, other.VerifyEFI(path).Err, "untrusted signer")
		write(t, filepath.Dir(path), "altered.efi", flip(read(t, path), 0x800))
		refused(t, db.VerifyEFI(filepath.Join(filepath.Dir(path), "altered.efi")).Err, "altered")
		// Firmware asks for no dates.
		old := Verifier{Trust: db.Trust, Time: now.AddDate(50, 0, 0)}
		if err := old.VerifyEFI(path).Err; err != nil {
			t.Error(err)
		}
		if as == "DB" {
			sbverify(t, path, s.cert(t, "DB"))
		}
	}
	unsigned := write(t, t.TempDir(), "unsigned.efi", newEFI(4096))
	refused(t, db.VerifyEFI(unsigned).Err, "unsigned")
	refused(t, db.VerifyEFI(unsigned+".none").Err, "no such file")
}

// TestEFIForeign signs beside another's signature, and in its place.
func TestEFIForeign(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	path := write(t, dir, "kernel.efi", newEFI(4096))
	key := newKey(t, "rsa:2048", 0)
	foreign := issue(t, key, nil, nil, opts{name: "Vendor", ca: true})
	image := newEFI(4096)
	img, err := efi.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	var signed bytes.Buffer
	if err := img.Sign(&signed, efi.Signer{Key: key, Certificate: foreign.Raw}, efi.SignOptions{}); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "kernel.efi", signed.Bytes())
	vendor := Verifier{Trust: []*ca.Certificate{foreign}}
	db := Verifier{Trust: s.Anchors("efi")}
	beside, replaced := filepath.Join(dir, "beside.efi"), filepath.Join(dir, "replaced.efi")
	if _, err := s.SignEFI(t.Context(), path, EFIOptions{Out: beside}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignEFI(t.Context(), path, EFIOptions{Out: replaced, Replace: true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, path), signed.Bytes()) {
		t.Error("-o changed the input")
	}
	for path, want := range map[string][2]bool{path: {true, false}, beside: {true, true}, replaced: {false, true}} {
		got := [2]bool{vendor.VerifyEFI(path).Err == nil, db.VerifyEFI(path).Err == nil}
		if got != want {
			t.Errorf("%s: %v, not %v", filepath.Base(path), got, want)
		}
	}
	list := signatures(t, s.PKI.Dir)
	if len(list) != 2 || list[0].SHA256 != list[1].SHA256 || list[0].Detail["size"] != "4096" || list[1].Detail["size"] != "4096" {
		t.Errorf("recorded: %v", list)
	}
}

// TestEFIOutsideDB refuses a signer that the firmware would not know, also when it
// knows another one that has signed before.
func TestEFIOutsideDB(t *testing.T) {
	s := newSession(t)
	path := write(t, t.TempDir(), "kernel.efi", newEFI(4096))
	outside := s.PKI.Plan.Entry("PK")
	outside.Signs = []string{"efi"}
	for range 2 {
		before := read(t, path)
		_, err := s.SignEFI(t.Context(), path, EFIOptions{As: "PK"})
		refused(t, err, "the plan's db holds neither the certificate of PK nor one above it")
		if !bytes.Equal(before, read(t, path)) {
			t.Error("the image is changed")
		}
		if _, err := s.SignEFI(t.Context(), path, EFIOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEFIReproducible(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	path := write(t, dir, "kernel.efi", newEFI(4096))
	for _, out := range []string{"a", "b"} {
		if _, err := s.SignEFI(t.Context(), path, EFIOptions{Out: filepath.Join(dir, out), Reproducible: true}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, filepath.Join(dir, "a")), read(t, filepath.Join(dir, "b"))) {
		t.Error("two images")
	}
}

// TestEFIPlaces tries outputs that can't be, and images that are none.
func TestEFIPlaces(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	image := write(t, dir, "kernel.efi", newEFI(4096))
	link, fifo := filepath.Join(dir, "link.efi"), filepath.Join(dir, "fifo.efi")
	text := write(t, dir, "text.efi", []byte("#!/bin/sh\n"))
	huge := write(t, dir, "huge.efi", nil)
	if err := errors.Join(os.Symlink(image, link), unix.Mkfifo(fifo, 0o644), os.Truncate(huge, efi.MaxSize+1)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ in, out, want string }{
		{image, filepath.Join(dir, "missing", "out.efi"), "no such file or directory"},
		{image, dir, "is not a regular file"},
		{image, fifo, "is not a regular file"},
		{image, "/proc/self/out.efi", "/proc/self"}, // nobody, not even root, makes files there
		{link, "", "link.efi is not a regular file: name another output"},
		{fifo, image, "fifo.efi is not a regular file"},
		{text, image, "EFI image"},
		{huge, image, "huge.efi is larger than"},
		{image + ".none", image, "no such file"},
	} {
		before := read(t, image)
		_, err := s.SignEFI(t.Context(), row.in, EFIOptions{Out: row.out})
		refused(t, err, row.want)
		if !bytes.Equal(before, read(t, image)) {
			t.Errorf("%s → %s: the image is changed", row.in, row.out)
		}
	}
	if list := signatures(t, s.PKI.Dir); len(list) > 0 {
		t.Errorf("recorded: %v", list)
	}
	// With an output of its own, an image may be read through a link.
	if _, err := s.SignEFI(t.Context(), link, EFIOptions{Out: filepath.Join(dir, "out.efi")}); err != nil {
		t.Error(err)
	}
}

// sbverify asks sbsigntool, which builds no chains.
func sbverify(t *testing.T, image string, anchor *ca.Certificate) {
	t.Helper()
	t.Run("sbverify", func(t *testing.T) {
		tooltest.Run(t, "sbverify", "--cert", pemFile(t, t.TempDir(), "db.pem", anchor), image)
	})
}

func TestModules(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	path := write(t, dir, "m.ko", newModule(t, "m"))
	broken := write(t, dir, "broken.ko", []byte("not a module"))
	signer, results, err := s.SignModules(t.Context(), []string{dir}, TreeOptions{})
	refused(t, err, "broken.ko")
	if len(results) != 1 || results[0].Path != path || signer.Entry.Name != "ssig" {
		t.Fatalf("signed %v", results)
	}
	if string(read(t, broken)) != "not a module" {
		t.Error("the broken module is changed")
	}
	if list := signatures(t, s.PKI.Dir); len(list) != 1 {
		t.Errorf("recorded: %v", list)
	}
	for _, row := range []struct {
		name  string
		trust []string
		want  string
	}{
		{"signer in the keyring", []string{"ssig"}, ""},
		{"signer among others", []string{"ssig_rootca", "ssig_subca", "ssig", "PK"}, ""},
		{"its CA only", []string{"ssig_subca", "ssig_rootca"}, "is not among the 2 trusted"},
		{"nobody", nil, "is not among the 0 trusted"},
	} {
		v := Verifier{Time: now.AddDate(50, 0, 0)} // the kernel asks for no dates
		for _, name := range row.trust {
			v.Trust = append(v.Trust, s.cert(t, name))
		}
		verdict := v.VerifyModule(path)
		if row.want != "" {
			refused(t, verdict.Err, row.want)
		} else if verdict.Err != nil || !verdict.Signer.Equal(s.cert(t, "ssig")) {
			t.Errorf("%s: %+v", row.name, verdict)
		}
	}
	// A certificate with the signer's name and serial, and another key.
	key := newKey(t, "rsa:2048", 0)
	impostor := issue(t, key, s.cert(t, "ssig_subca"), s.key(t, "ssig_subca"), opts{name: "Impostor"})
	impostor.SerialNumber = s.cert(t, "ssig").SerialNumber
	v := Verifier{Trust: []*ca.Certificate{impostor}}
	if err := v.VerifyModule(path).Err; !errors.Is(err, spki.ErrSignature) {
		t.Errorf("an impostor: %v", err)
	}
	v = Verifier{Trust: s.Anchors("module")}
	write(t, dir, "altered.ko", flip(read(t, path), 70))
	if err := v.VerifyModule(filepath.Join(dir, "altered.ko")).Err; !errors.Is(err, spki.ErrSignature) {
		t.Errorf("altered: %v", err)
	}
	write(t, dir, "unsigned.ko", newModule(t, "m"))
	if err := v.VerifyModule(filepath.Join(dir, "unsigned.ko")).Err; !errors.Is(err, module.ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	fifo := filepath.Join(dir, "fifo.ko")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, v.VerifyModule(fifo).Err, "is not a regular file")
	refused(t, v.VerifyModule(dir).Err, "is not a regular file")
}

func TestIMA(t *testing.T) {
	s := newSession(t)
	for place, name := range map[ima.Place]string{ima.SigFile: "FILE.sig", ima.Xattr: "attribute"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := write(t, dir, "init", []byte("#!/bin/sh\n"))
			probe := unix.Setxattr(path, "security.ima", []byte{3}, 0)
			if place == ima.Xattr && probe != nil {
				if os.Getenv("CI") != "" && os.Geteuid() == 0 && !errors.Is(probe, unix.EOPNOTSUPP) && !errors.Is(probe, unix.EPERM) {
					t.Fatal(probe)
				}
				t.Skipf("security.ima can't be set here: %v", probe)
			}
			before := read(t, path)
			if _, _, err := s.SignIMA(t.Context(), []string{path}, place, TreeOptions{}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, read(t, path)) {
				t.Error("the content is changed")
			}
			v := Verifier{Trust: s.Anchors("ima")}
			if verdict := v.VerifyIMA(path, place); verdict.Err != nil || !verdict.Signer.Equal(s.cert(t, "ssig_subca")) && !verdict.Signer.Equal(s.cert(t, "ssig")) {
				t.Errorf("%+v", verdict)
			}
			issuer := Verifier{Trust: []*ca.Certificate{s.cert(t, "ssig_subca"), s.cert(t, "ssig_rootca")}}
			refused(t, issuer.VerifyIMA(path, place).Err, "none of 2 trusted certificates")
			// The content changes under its signature.
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
				t.Fatal(err)
			} else if _, err := f.WriteString("evil\n"); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
			if err := v.VerifyIMA(path, place).Err; !errors.Is(err, spki.ErrSignature) {
				t.Errorf("altered: %v", err)
			}
			other := write(t, dir, "other", []byte("x"))
			if err := v.VerifyIMA(other, place).Err; !errors.Is(err, ima.ErrUnsigned) {
				t.Errorf("unsigned: %v", err)
			}
		})
	}
	// FILE.sig that must not be waited for, or read whole.
	dir := t.TempDir()
	v := Verifier{Trust: s.Anchors("ima")}
	fifo, huge := write(t, dir, "fifo", nil), write(t, dir, "huge", nil)
	write(t, dir, "huge.sig", nil)
	if err := errors.Join(unix.Mkfifo(fifo+".sig", 0o644), os.Truncate(huge+".sig", 1<<40)); err != nil {
		t.Fatal(err)
	}
	refused(t, v.VerifyIMA(fifo, ima.SigFile).Err, "is not a regular file")
	refused(t, v.VerifyIMA(huge, ima.SigFile).Err, "IMA signature")
}

func TestSignFile(t *testing.T) {
	s := newSession(t)
	for _, as := range []string{"", "config_rsa"} {
		path := write(t, t.TempDir(), "any.bin", []byte("a\r\nb\nc"))
		if _, err := s.SignFile(t.Context(), path, as); err != nil {
			t.Fatal(err)
		}
		opensslVerifiesCMS(t, path, path+".p7s", s.cert(t, "ssig_rootca"))
		v := Verifier{Trust: s.Anchors("file"), Time: now}
		if err := v.VerifyFile(path).Err; err != nil {
			t.Error(err)
		}
		write(t, filepath.Dir(path), "any.bin", []byte("a\nb\nc"))
		refused(t, v.VerifyFile(path).Err, "the content's digest is")
	}
	// The signature of an EFI image speaks of another type of content.
	element := []byte{0x30, 3, 'a', 'b', 'c'}
	p7s, err := cms.SignElement(cms.Signer{Key: s.key(t, "config_rsa"), Certificate: s.cert(t, "config_rsa").Raw, Algorithm: pkcs1},
		[]int{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}, element, cms.Options{Certificates: [][]byte{s.cert(t, "config_rsa").Raw}})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, t.TempDir(), "any.bin", []byte("abc"))
	write(t, filepath.Dir(path), "any.bin.p7s", p7s)
	v := Verifier{Trust: s.Anchors("file"), Time: now}
	refused(t, v.VerifyFile(path).Err, "CMS: the signature is not detached")
}

func TestAnchors(t *testing.T) {
	s := newSession(t)
	for kind, want := range map[string][]string{
		"efi":       {"DB", "ssig_subca"},
		"module":    {"ssig_subca", "ssig", "ssig_rootca"},
		"ima":       {"ssig_subca", "ssig"},
		"guestos":   {"ssig_rootca", "guestos_anchor"},
		"container": {"ssig_rootca", "guestos_anchor"},
		"file":      {"ssig_rootca"},
		"unknown":   nil,
	} {
		var got []string
		for _, c := range s.Anchors(kind) {
			for _, e := range s.PKI.Plan.Entries {
				if c.Equal(s.cert(t, e.Name)) {
					got = append(got, e.Name)
				}
			}
		}
		if !sameSet(got, want) {
			t.Errorf("%s: %v, not %v", kind, got, want)
		}
	}
}

// TestTrustFiles reads trust in all forms, and refuses what is no certificate.
func TestTrustFiles(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	root, sub := s.cert(t, "ssig_rootca"), s.cert(t, "ssig_subca")
	der := write(t, dir, "der", root.Raw)
	pem := pemFile(t, dir, "pem", root, sub)
	trust, err := ReadTrust([]string{der, pem})
	if err != nil || len(trust) != 3 || !trust[0].Equal(root) || !trust[2].Equal(sub) {
		t.Errorf("%d certificates, %v", len(trust), err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		write(t, dir, "empty", nil):                    "empty: certificate",
		write(t, dir, "text", []byte("hello")):         "text: certificate",
		write(t, dir, "trailing", append(root.Raw, 0)): "trailing: certificate",
		filepath.Join(s.PKI.Dir, "ssig.key"):           "a PRIVATE KEY stands where a certificate should",
		write(t, dir, "half", bytes.TrimSuffix(ca.MarshalPEM(root, sub), []byte("END CERTIFICATE-----\n"))): "half: a PEM block is malformed or cut off",
		dir:           "is not a regular file",
		fifo:          "is not a regular file",
		der + ".none": "no such file",
	} {
		_, err := ReadTrust([]string{pem, path})
		refused(t, err, want)
	}
}
