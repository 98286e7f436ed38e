package module

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/internal/tree"
	"tmpki/spki"
)

// forget is a ledger for tests that don't read it.
func forget([]tree.Result) error { return nil }

// newTree makes n small modules in directories of a new tree, every tenth
// compressed, and returns its root and the modules by path.
func newTree(t testing.TB, n, size int) (string, map[string][]byte) {
	t.Helper()
	root := t.TempDir()
	files := map[string][]byte{}
	for i := range n {
		path := filepath.Join(root, fmt.Sprintf("kernel/d%d/m%03d.ko", i%7, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		file, compression := newModule(t, fmt.Sprint(i), size), None
		if i%10 == 9 {
			compression = Compression(1 + i/10%3)
			path += "." + compression.String()
		}
		file, err := Compress(file, compression)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, file)
		files[path] = file
	}
	return root, files
}

func TestSignFiles(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	root, files := newTree(t, 200, 3000)
	for path := range files {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			if err := os.Chown(path, 1234, 5678); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What is not to be touched: other names, links, and one bad module.
	outside := filepath.Join(t.TempDir(), "outside.ko")
	write(t, outside, newModule(t, "outside", 10))
	write(t, filepath.Join(root, "modules.dep"), []byte("m.ko:\n"))
	write(t, filepath.Join(root, "bad.ko"), []byte("not a module"))
	if err := errors.Join(os.Symlink(outside, filepath.Join(root, "link.ko")), os.Symlink("..", filepath.Join(root, "kernel/up"))); err != nil {
		t.Fatal(err)
	}

	recorded := map[string]tree.Result{}
	record := func(results []tree.Result) error {
		for _, r := range results {
			if !bytes.Equal(read(t, r.Path), files[r.Path]) {
				t.Errorf("%s: recorded after it was replaced", r.Path)
			}
			recorded[r.Path] = r
		}
		return nil
	}
	results, err := SignFiles(t.Context(), []string{root}, p.key, p.certificate, tree.Options{Record: record})
	if want := filepath.Join(root, "bad.ko") + ": not a kernel module: no ELF header"; err == nil || err.Error() != want {
		t.Errorf("error is %v, not %q", err, want)
	}
	if len(results) != 200 || len(recorded) != 200 {
		t.Errorf("%d results, %d recorded", len(results), len(recorded))
	}
	for path, old := range files {
		module, _, err := Decompress(old)
		if err != nil {
			t.Fatal(err)
		}
		if r := recorded[path]; r.SHA256 != sha256.Sum256(module) || r.Size != int64(len(module)) {
			t.Errorf("%s: ledger got %x, %d octets", path, r.SHA256, r.Size)
		}
		if _, err := Verify(read(t, path), []*x509.Certificate{p.certificate}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s: mode is %v", path, info.Mode())
		}
		if s := info.Sys().(*syscall.Stat_t); os.Getuid() == 0 && (s.Uid != 1234 || s.Gid != 5678) {
			t.Errorf("%s: owner is %d:%d", path, s.Uid, s.Gid)
		}
	}
	if _, err := Verify(read(t, outside), []*x509.Certificate{p.certificate}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("followed a link: %v", err)
	}
	if got := read(t, filepath.Join(root, "bad.ko")); string(got) != "not a module" {
		t.Errorf("bad module is now %q", got)
	}
	wantNoStrays(t, root)
}

// wantNoStrays looks for temporary files.
func wantNoStrays(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if strings.Contains(entry.Name(), ".tmp-") {
			t.Errorf("left %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSignFilesRefusesTheKeyAtOnce(t *testing.T) {
	ec := newParty(t, ecKey(t), "ec", 1)
	root, _ := newTree(t, 3, 10)
	recorded := false
	_, err := SignFiles(t.Context(), []string{root}, ec.key, ec.certificate, tree.Options{Record: func([]tree.Result) error {
		recorded = true
		return nil
	}})
	if err == nil || recorded || strings.Count(err.Error(), "rsaEncryption") != 1 {
		t.Errorf("recorded %v, error %v", recorded, err)
	}
}

func TestLedgerFailureChangesNothing(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	root, files := newTree(t, 20, 10)
	broken := errors.New("ledger is broken")
	results, err := SignFiles(t.Context(), []string{root}, p.key, p.certificate, tree.Options{Record: func([]tree.Result) error { return broken }})
	if !errors.Is(err, broken) || len(results) != 0 {
		t.Errorf("%d results, error %v", len(results), err)
	}
	for path, old := range files {
		if !bytes.Equal(read(t, path), old) {
			t.Errorf("%s: changed", path)
		}
	}
}

func TestChangedMeanwhile(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	path := filepath.Join(t.TempDir(), "m.ko")
	write(t, path, newModule(t, "m", 10))
	other := newModule(t, "other", 10)
	_, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, tree.Options{Record: func([]tree.Result) error {
		write(t, path, other)
		return nil
	}})
	if err == nil || !strings.Contains(err.Error(), "file changed since it was read") {
		t.Errorf("error is %v", err)
	}
	if !bytes.Equal(read(t, path), other) {
		t.Error("the other's content is lost")
	}
}

// mountTmpfs mounts a file system of that size, or skips the test.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	dir := mountTmpfs(t, "1m")
	files := map[string][]byte{}
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprintf("%d.ko", i))
		files[path] = newModule(t, path, 240<<10) // nothing of that size fits in beside them
		write(t, path, files[path])
	}
	results, err := SignFiles(t.Context(), []string{dir}, p.key, p.certificate, tree.Options{Record: forget})
	if !errors.Is(err, unix.ENOSPC) || len(results) != 0 {
		t.Errorf("%d results, error %v", len(results), err)
	}
	for path, old := range files {
		if !bytes.Equal(read(t, path), old) {
			t.Errorf("%s: old content is lost", path)
		}
	}
	wantNoStrays(t, dir)
}

func TestReadOnly(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	dir, want := t.TempDir(), error(unix.EACCES)
	if os.Getuid() == 0 {
		dir, want = mountTmpfs(t, "1m"), unix.EROFS // root writes into any directory
	}
	path := filepath.Join(dir, "m.ko")
	module := newModule(t, "m", 10)
	write(t, path, module)
	if os.Getuid() == 0 {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o755) // or it can't be removed
	recorded := false
	results, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, tree.Options{Record: func([]tree.Result) error {
		recorded = true
		return nil
	}})
	if !errors.Is(err, want) || len(results) != 0 || recorded {
		t.Errorf("%d results, recorded %v, error %v", len(results), recorded, err)
	}
	if !bytes.Equal(read(t, path), module) {
		t.Error("old content is lost")
	}
}

// TestKilled kills the signing of a tree, again and again: each module is as it
// was, or signed, and what is signed is in the ledger.
func TestKilled(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	root, files := newTree(t, 200, 3000)
	key, certificate := p.save(t)
	ledger := filepath.Join(t.TempDir(), "ledger")
	signed := 0
	for round := 0; signed < len(files); round++ {
		if round == 100 {
			t.Fatalf("after 100 rounds %d of %d are signed", signed, len(files))
		}
		var stderr bytes.Buffer
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "MODULE_TEST_SIGN="+strings.Join([]string{root, key, certificate, ledger}, ":"))
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20*round+rand.IntN(100)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if stderr.Len() > 0 {
			t.Fatal(stderr.String())
		}

		recorded, _ := os.ReadFile(ledger) // none, if killed before the first batch
		signed = 0
		for path, old := range files {
			now := read(t, path)
			if bytes.Equal(now, old) {
				continue
			}
			if _, err := Verify(now, []*x509.Certificate{p.certificate}); err != nil {
				t.Errorf("%s: neither old nor new: %v", path, err)
			}
			if !bytes.Contains(recorded, []byte(path+"\n")) {
				t.Errorf("%s: signed, but not in the ledger", path)
			}
			signed++
		}
		if t.Failed() {
			return
		}
	}
}

// signTree is the process that is killed.
func signTree(root, key, certificate, ledger string) error {
	p, err := load(key, certificate)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(ledger, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = SignFiles(context.Background(), []string{root}, p.key, p.certificate, tree.Options{Record: func(results []tree.Result) error {
		var lines strings.Builder
		for _, r := range results {
			lines.WriteString(r.Path + "\n")
		}
		_, err := f.WriteString(lines.String())
		return err
	}})
	return err
}

// TestMain is the tests, or the process that one of them kills.
func TestMain(m *testing.M) {
	if args := os.Getenv("MODULE_TEST_SIGN"); args != "" {
		a := strings.Split(args, ":")
		if err := signTree(a[0], a[1], a[2], a[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// faulty is a token whose signatures have a flipped bit.
type faulty struct{ crypto.Signer }

func (f faulty) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := f.Signer.Sign(random, digest, opts)
	if err == nil {
		signature[7] ^= 1
	}
	return signature, err
}

func TestFaultyToken(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	path := filepath.Join(t.TempDir(), "m.ko")
	module := newModule(t, "m", 10)
	write(t, path, module)
	_, err := SignFiles(t.Context(), []string{path}, faulty{p.key}, p.certificate, tree.Options{Record: func([]tree.Result) error {
		t.Error("recorded a bad signature")
		return nil
	}})
	if !errors.Is(err, spki.ErrSignature) {
		t.Errorf("error is %v", err)
	}
	if !bytes.Equal(read(t, path), module) {
		t.Error("old content is lost")
	}
}
