package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes this test binary be tmpki, too: scripts and tests run the
// program itself, under the race detector and with its coverage.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "tmpki" {
		// The race detector makes every process wait a second before it ends.
		os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
		// Nothing of the caller's may reach the program.
		for _, name := range []string{"TMPKI_DIR", "DO_PLATFORM_KEYS", "PKI_KEY_SIZE", "KEY_SIZE", "GYROIDOS_TEST_PASSWD_PKI", "TMPKI_PASSPHRASE", "TMPKI_ROOT_PASSPHRASE", "TMPKI_PIN", "PKCS11_MODULE_PATH", "SOFTHSM2_CONF"} {
			os.Unsetenv(name)
		}
		os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	}
	testscript.Main(m, map[string]func(){"tmpki": func() { os.Exit(run()) }})
}

// result is what a run of tmpki left.
type result struct {
	code           int
	stdout, stderr string
}

// runIn runs a command in dir with these variables added to the environment.
func runIn(t testing.TB, dir string, env []string, name string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs a command that must succeed and returns its standard output.
func must(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	r := runIn(t, dir, nil, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %q: exit code %d\n%s%s", name, args, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// fixtures are PKIs that tests copy: each is made once.
var fixtures = struct {
	sync.Mutex
	dir   string
	ready map[string]bool
}{ready: map[string]bool{}}

// fixture copies a PKI to dir: "rsa", the development plan with RSA-2048; "uefi",
// the same with its UEFI part; "ec", the plan with EC keys only.
func fixture(kind, dir string) error {
	fixtures.Lock()
	defer fixtures.Unlock()
	if fixtures.dir == "" {
		// Beside the program, so that TestMain takes it away with that.
		program, err := exec.LookPath("tmpki")
		if err != nil {
			return err
		}
		fixtures.dir = filepath.Dir(program)
	}
	made := filepath.Join(fixtures.dir, kind)
	if !fixtures.ready[kind] {
		var cmd *exec.Cmd
		switch kind {
		case "rsa", "uefi":
			cmd = exec.Command("tmpki", "generate", made, "rsa:2048")
			if kind == "uefi" {
				cmd.Env = append(os.Environ(), "DO_PLATFORM_KEYS=y")
			}
		case "ec":
			text, err := os.ReadFile("../../plan/testdata/all-ec.yaml")
			if err != nil {
				return err
			}
			if err := os.Mkdir(made, 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(made, "pki.yaml"), text, 0o644); err != nil {
				return err
			}
			cmd = exec.Command("tmpki", "apply", made)
		default:
			return fmt.Errorf("unknown fixture %q", kind)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("making fixture %s: %v\n%s", kind, err, out)
		}
		fixtures.ready[kind] = true
	}
	if out, err := exec.Command("cp", "-a", "--", made, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %s", err, out)
	}
	return nil
}

func mustFixture(t testing.TB, kind, dir string) {
	t.Helper()
	if err := fixture(kind, dir); err != nil {
		t.Fatal(err)
	}
}

// state describes everything below dir: names, kinds, modes, times, contents.
// Without dirTimes it leaves out the times of directories, which change when a
// temporary file comes and goes.
func state(dir string, dirTimes bool) (string, error) {
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %v", name, info.Mode())
		if dirTimes || !d.IsDir() {
			fmt.Fprintf(&out, " %d", info.ModTime().UnixNano())
		}
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x", sha256.Sum256(content))
		}
		fmt.Fprintln(&out)
		return nil
	})
	return out.String(), err
}

// names lists a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// keyFiles returns the files below dir that hold a private key, leaving out the
// directories except.
func keyFiles(t testing.TB, dir string, except ...string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, e := range except {
			if path == e {
				return fs.SkipDir
			}
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(content, []byte("PRIVATE KEY")) {
			list = append(list, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
