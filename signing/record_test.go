package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/artifact/ima"
	"tmpki/plan"
)

// artifacts are one file of each kind, with the call that signs it.
var artifacts = []struct {
	kind, file string
	content    func(t testing.TB) []byte
	sign       func(ctx context.Context, s *Session, path string) error
}{
	{"guestos", "debos-1.conf", func(testing.TB) []byte { return []byte(text) }, func(ctx context.Context, s *Session, path string) error {
		_, err := s.SignConfig(ctx, path, ConfigOptions{Artifact: "guestos"})
		return err
	}},
	{"container", "core.conf", func(testing.TB) []byte { return []byte(containerText) }, func(ctx context.Context, s *Session, path string) error {
		_, err := s.SignConfig(ctx, path, ConfigOptions{Artifact: "container", CMS: true})
		return err
	}},
	{"file", "any.bin", func(testing.TB) []byte { return []byte("octets\n") }, func(ctx context.Context, s *Session, path string) error {
		_, err := s.SignFile(ctx, path, "")
		return err
	}},
	{"efi", "kernel.efi", func(testing.TB) []byte { return newEFI(4096) }, func(ctx context.Context, s *Session, path string) error {
		_, err := s.SignEFI(ctx, path, EFIOptions{})
		return err
	}},
	{"module", "m.ko", func(t testing.TB) []byte { return newModule(t, "m") }, func(ctx context.Context, s *Session, path string) error {
		_, _, err := s.SignModules(ctx, []string{path}, TreeOptions{})
		return err
	}},
	{"ima", "init", func(testing.TB) []byte { return []byte("#!/bin/sh\n") }, func(ctx context.Context, s *Session, path string) error {
		_, _, err := s.SignIMA(ctx, []string{path}, ima.SigFile, TreeOptions{})
		return err
	}},
}

// layArtifacts writes all artifacts into a directory.
func layArtifacts(t testing.TB, dir string) {
	t.Helper()
	for _, a := range artifacts {
		write(t, dir, a.file, a.content(t))
	}
}

// verifyArtifact is the verdict of the consumer that trusts this PKI.
func verifyArtifact(ctx context.Context, s *Session, kind, path string) Verdict {
	v := Verifier{Trust: s.Anchors(kind), Time: s.Now()}
	switch kind {
	case "guestos", "container":
		return v.VerifyConfig(ctx, kind, path, kind == "container")
	case "file":
		return v.VerifyFile(path)
	case "efi":
		return v.VerifyEFI(path)
	case "module":
		return v.VerifyModule(path)
	default:
		return v.VerifyIMA(path, ima.SigFile)
	}
}

// TestOneEntryEach holds that a signature is one entry of the ledger, that says
// what was signed and with which certificate, and that the consumer accepts it.
func TestOneEntryEach(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	layArtifacts(t, dir)
	for i, a := range artifacts {
		path := filepath.Join(dir, a.file)
		content := read(t, path)
		if err := a.sign(t.Context(), s, path); err != nil {
			t.Fatalf("%s: %v", a.kind, err)
		}
		verdict := verifyArtifact(t.Context(), s, a.kind, path)
		if verdict.Err != nil {
			t.Errorf("%s: %v", a.kind, verdict.Err)
		}
		list := signatures(t, s.PKI.Dir)
		if len(list) != i+1 {
			t.Fatalf("%s: %d entries, not %d", a.kind, len(list), i+1)
		}
		e := list[i]
		sum := fmt.Sprintf("%x", sha256.Sum256(content))
		if a.kind == "efi" { // Authenticode leaves out parts of the header
			digest, err := EFIDigest(path)
			if err != nil {
				t.Fatal(err)
			}
			sum = fmt.Sprintf("%x", digest)
		}
		signer, err := s.PKI.Plan.DefaultSigner(a.kind, "debos")
		if err != nil {
			t.Fatal(err)
		}
		serial := fmt.Sprintf("%x", s.cert(t, signer.Name).SerialNumber.Bytes())
		if e.Detail["artifact"] != a.kind || filepath.Base(e.Name) != a.file || e.SHA256 != sum || e.Detail["size"] != fmt.Sprint(len(content)) ||
			e.Detail["signer"] != signer.Name || e.Serial != serial || e.Actor != "tester@here" || !e.Time.Equal(now) {
			t.Errorf("%s: recorded %+v", a.kind, e)
		}
	}
}

// TestSignAgain holds that a second signature takes the place of the first, and is
// recorded as one of the same content.
func TestSignAgain(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	layArtifacts(t, dir)
	for _, a := range artifacts {
		path := filepath.Join(dir, a.file)
		for range 2 {
			if err := a.sign(t.Context(), s, path); err != nil {
				t.Fatalf("%s: %v", a.kind, err)
			}
		}
		if v := verifyArtifact(t.Context(), s, a.kind, path); v.Err != nil {
			t.Errorf("%s: %v", a.kind, v.Err)
		}
		list := signatures(t, s.PKI.Dir)
		one, two := list[len(list)-2], list[len(list)-1]
		if one.SHA256 != two.SHA256 || one.Detail["size"] != two.Detail["size"] {
			t.Errorf("%s: recorded %+v, then %+v", a.kind, one, two)
		}
	}
}

// TestRecordFirst holds that nothing is put in place that the ledger doesn't take.
func TestRecordFirst(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	layArtifacts(t, dir)
	spoil(t, s)
	for _, a := range artifacts {
		unchanged(t, dir, func() { refused(t, a.sign(t.Context(), s, filepath.Join(dir, a.file)), "pki.db") })
	}
	images := t.TempDir()
	write(t, images, "root.img", make([]byte, 4096))
	out := t.TempDir()
	unchanged(t, out, func() {
		_, _, err := s.BuildGuestOS(t.Context(), BuildOptions{Template: filepath.Join(dir, "debos-1.conf"), Images: images, Out: out,
			Build: guestos.BuildOptions{Version: 2, BuildDate: now}})
		refused(t, err, "pki.db")
	})
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReadOnlyStore is TestRecordFirst for somebody who may read the PKI with its
// keys, but not write its ledger.
func TestReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	pki := filepath.Join(dir, "pki")
	if err := os.Rename(newPKI(t), pki); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	layArtifacts(t, work)
	err := errors.Join(os.Chmod(work, 0o777), os.Chmod(plan.StorePath(pki), 0o444), os.Chmod(pki, 0o555), os.Chmod(filepath.Dir(dir), 0o755))
	for name := range files(t, pki) {
		err = errors.Join(err, os.Chmod(filepath.Join(pki, name), 0o444))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(pki, 0o755)
	unchanged(t, dir, func() {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "TMPKI_TEST_SIGN_IN="+dir)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		for i, line := range lines {
			if i >= len(artifacts) || !strings.HasPrefix(line, artifacts[i].kind+": ") || !strings.Contains(line, "recording") || !strings.Contains(line, "readonly") {
				t.Errorf("line %q", line)
			}
		}
		if len(lines) != len(artifacts) {
			t.Errorf("%d lines:\n%s", len(lines), out)
		}
	})
}

// signAsChild signs dir/work with dir/pki, and tells the errors.
func signAsChild(dir string) int {
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "pki"), "child", clock)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, a := range artifacts {
		err := a.sign(ctx, s, filepath.Join(dir, "work", a.file))
		fmt.Printf("%s: %s\n", a.kind, strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
	}
	return 0
}

// TestNoPlaceToWrite holds that what has no place is not even recorded: here the
// file can be read, but nothing can be put beside it, not even by root.
func TestNoPlaceToWrite(t *testing.T) {
	s := newSession(t)
	_, err := s.SignFile(t.Context(), "/proc/sys/kernel/hostname", "")
	refused(t, err, "/proc/sys/kernel")
	if list := signatures(t, s.PKI.Dir); len(list) > 0 {
		t.Errorf("recorded: %v", list)
	}
}

// TestManyAtOnce signs from many sessions at the same time.
func TestManyAtOnce(t *testing.T) {
	pki, dir := newPKI(t), t.TempDir()
	const n = 20
	var all sync.WaitGroup
	for i := range n {
		s := openSession(t, pki)
		conf := write(t, dir, fmt.Sprintf("debos-%d.conf", i), []byte(text))
		all.Go(func() {
			if _, err := s.SignConfig(t.Context(), conf, ConfigOptions{Artifact: "guestos"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	names := map[string]bool{}
	for _, e := range signatures(t, pki) {
		names[e.Name] = true
	}
	if len(names) != n {
		t.Errorf("%d recorded, not %d", len(names), n)
	}
}

// TestOddNames signs files whose names are not text.
func TestOddNames(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	write(t, dir, "a.ko", newModule(t, "a"))
	odd := write(t, dir, "\xff\x1b[31m.ko", newModule(t, "b"))
	_, results, err := s.SignModules(t.Context(), []string{dir}, TreeOptions{})
	if err != nil || len(results) != 2 {
		t.Fatalf("%d signed, %v", len(results), err)
	}
	if v := verifyArtifact(t.Context(), s, "module", odd); v.Err != nil {
		t.Error(v.Err)
	}
	list := signatures(t, s.PKI.Dir)
	if len(list) != 2 || !strings.HasSuffix(list[0].Name+list[1].Name, `\xff\x1b[31m.ko"`) && !strings.HasPrefix(list[0].Name, `"`) {
		t.Errorf("recorded: %v", list)
	}
}

// TestCancelled holds that nothing is signed for one who has gone away.
func TestCancelled(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	layArtifacts(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ctx.Done()
	for _, a := range artifacts {
		unchanged(t, dir, func() {
			if err := a.sign(ctx, s, filepath.Join(dir, a.file)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", a.kind, err)
			}
		})
	}
}
