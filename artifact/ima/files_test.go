package ima

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
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
)

var testOptions = tree.Options{Record: forget}

// newFiles writes n small files into directories under root.
func newFiles(t testing.TB, root string, n int) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for i := range n {
		path := filepath.Join(root, fmt.Sprintf("d%d/f%03d.bin", i%7, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		files[path] = bytes.Repeat([]byte{byte(i)}, 100*i)
		write(t, path, files[path])
	}
	return files
}

func TestSignFiles(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	for _, place := range []Place{Xattr, SigFile} {
		t.Run(fmt.Sprint(place), func(t *testing.T) {
			root := t.TempDir()
			if place == Xattr {
				root = mount(t, "tmpfs", "size=16m")
			}
			files := newFiles(t, root, 200)
			outside := filepath.Join(t.TempDir(), "outside")
			write(t, outside, nil)
			if err := errors.Join(os.Symlink(outside, filepath.Join(root, "link")), unix.Mkfifo(filepath.Join(root, "fifo"), 0o644)); err != nil {
				t.Fatal(err)
			}
			for round := range 2 { // the second time all are signed already
				recorded := map[string]tree.Result{}
				record := func(results []tree.Result) error {
					for _, r := range results {
						if _, err := Load(r.Path, place); round == 0 && !errors.Is(err, ErrUnsigned) {
							t.Errorf("%s: signed before it is recorded (%v)", r.Path, err)
						}
						recorded[r.Path] = r
					}
					return nil
				}
				results, err := SignFiles(t.Context(), []string{root}, p.key, p.certificate, place, tree.Options{Record: record})
				if err != nil || len(results) != 200 || len(recorded) != 200 {
					t.Fatalf("%d results, %d recorded, error %v", len(results), len(recorded), err)
				}
				for path, content := range files {
					if r := recorded[path]; r.SHA256 != sha256.Sum256(content) || r.Size != int64(len(content)) {
						t.Errorf("%s: ledger got %x, %d octets", path, r.SHA256, r.Size)
					}
					signature, err := Load(path, place)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := Verify(bytes.NewReader(read(t, path)), signature, []*x509.Certificate{p.certificate}); err != nil {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
			if _, err := Load(outside, place); !errors.Is(err, ErrUnsigned) {
				t.Errorf("followed a link: %v", err)
			}
		})
	}
}

// TestNoPlace wants the reason before anything is recorded.
func TestNoPlace(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	never := tree.Options{Record: func([]tree.Result) error {
		t.Error("recorded")
		return nil
	}}
	readOnly := func(t *testing.T, dir string) {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		kind  string
		place Place
		ready func(t *testing.T, dir string)
		want  error
		say   string
	}{
		{"no attributes", "ramfs", Xattr, nil, unix.EOPNOTSUPP, "its file system has no such attributes; keep the signature in FILE.sig"},
		{"read-only, attribute", "tmpfs", Xattr, readOnly, unix.EROFS, "setting security.ima"},
		{"read-only, file", "tmpfs", SigFile, readOnly, unix.EROFS, "write to directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := mount(t, c.kind, "")
			path := filepath.Join(dir, "f")
			write(t, path, []byte("firmware"))
			if c.ready != nil {
				c.ready(t, dir)
			}
			results, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, c.place, never)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.say) || len(results) != 0 {
				t.Errorf("%d results, error %v", len(results), err)
			}
		})
	}
	if _, err := SignFiles(t.Context(), []string{t.TempDir()}, p.key, p.certificate, 0, never); err == nil {
		t.Error("place 0 is taken")
	}
}

// TestNotRoot signs as nobody, in a process of its own.
func TestNotRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	root := mount(t, "tmpfs", "mode=0777")
	ledger := filepath.Join(filepath.Dir(root), "ledger") // outside of what is signed
	if err := os.Chmod(filepath.Dir(root), 0o777); err != nil {
		t.Fatal(err)
	}
	files := newFiles(t, root, 3)
	for path := range files {
		if err := errors.Join(os.Chmod(filepath.Dir(path), 0o777), os.Chmod(path, 0o666), os.Chown(path, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := child(t, p, root, Xattr, ledger, &syscall.Credential{Uid: 65534, Gid: 65534}).CombinedOutput()
	if err == nil || strings.Count(string(out), "only root (CAP_SYS_ADMIN) may; keep the signature in FILE.sig: operation not permitted") != 3 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := child(t, p, root, SigFile, ledger, &syscall.Credential{Uid: 65534, Gid: 65534}).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestChangedMeanwhile(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, []byte("old"))
	_, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, SigFile, tree.Options{Record: func([]tree.Result) error {
		write(t, path, []byte("newer"))
		return nil
	}})
	if err == nil || !strings.Contains(err.Error(), "file changed since it was read") {
		t.Errorf("error is %v", err)
	}
	if _, err := Load(path, SigFile); !errors.Is(err, ErrUnsigned) {
		t.Errorf("signed all the same (%v)", err)
	}
}

func TestFullDisk(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	dir := mount(t, "tmpfs", "size=64k")
	path := filepath.Join(dir, "f")
	write(t, path, bytes.Repeat([]byte{1}, 60<<10))
	old := sign(t, read(t, path), newParty(t, rsaKey(t, 1, 2048), nil))
	write(t, path+".sig", old)
	results, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, SigFile, testOptions)
	if !errors.Is(err, unix.ENOSPC) || len(results) != 0 {
		t.Errorf("%d results, error %v", len(results), err)
	}
	if !bytes.Equal(read(t, path+".sig"), old) {
		t.Error("the old signature is lost")
	}
}

// TestKilled kills the signing of a tree, again and again: each file has no
// signature, or a good one that is in the ledger.
func TestKilled(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	for _, place := range []Place{Xattr, SigFile} {
		t.Run(fmt.Sprint(place), func(t *testing.T) {
			root, ledger := t.TempDir(), filepath.Join(t.TempDir(), "ledger")
			if place == Xattr {
				root = mount(t, "tmpfs", "size=16m")
			}
			files := newFiles(t, root, 200)
			signed := 0
			for round := 0; signed < len(files); round++ {
				if round == 100 {
					t.Fatalf("after 100 rounds %d of %d are signed", signed, len(files))
				}
				cmd := child(t, p, root, place, ledger, nil)
				var stderr bytes.Buffer
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
				for path, content := range files {
					signature, err := Load(path, place)
					if errors.Is(err, ErrUnsigned) {
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if _, err := Verify(bytes.NewReader(content), signature, []*x509.Certificate{p.certificate}); err != nil {
						t.Fatalf("%s: half signed: %v", path, err)
					}
					if !bytes.Contains(recorded, []byte(path+"\n")) {
						t.Fatalf("%s: signed, but not in the ledger", path)
					}
					signed++
				}
			}
		})
	}
}

// child is a process that signs a tree.
func child(t *testing.T, p party, root string, place Place, ledger string, as *syscall.Credential) *exec.Cmd {
	t.Helper()
	key, certificate := p.save(t)
	cmd := exec.Command("/proc/self/exe")
	var environment strings.Builder
	fmt.Fprintf(&environment, "IMA_TEST_SIGN=%s:%d:%s:%s%s", root, place, ledger, read(t, key), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: read(t, certificate)}))
	cmd.Env = append(os.Environ(), environment.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return cmd
}

// signTree is what that process does.
func signTree(task string) error {
	a := strings.SplitN(task, ":", 4)
	block, rest := pem.Decode([]byte(a[3]))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return err
	}
	block, _ = pem.Decode(rest)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(a[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = SignFiles(context.Background(), []string{a[0]}, key.(crypto.Signer), certificate, Place(a[1][0]-'0'), tree.Options{Record: func(results []tree.Result) error {
		var lines strings.Builder
		for _, r := range results {
			lines.WriteString(r.Path + "\n")
		}
		_, err := f.WriteString(lines.String())
		return err
	}})
	return err
}

// TestMain is the tests, or a process that one of them starts.
func TestMain(m *testing.M) {
	if task := os.Getenv("IMA_TEST_SIGN"); task != "" {
		if err := signTree(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
