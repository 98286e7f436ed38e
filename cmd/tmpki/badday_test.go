package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/internal/tooltest"
)

// TestTwentyAtOnce runs 20 processes on one directory, and 20 on 20 directories
// with one parent.
func TestTwentyAtOnce(t *testing.T) {
	t.Parallel()
	const n = 20
	for _, tt := range []struct {
		name  string
		dir   func(i int) string
		empty bool
	}{
		{"one directory", func(int) string { return "pki" }, false},
		{"one empty directory", func(int) string { return "pki" }, true},
		{"as many directories", func(i int) string { return fmt.Sprintf("pki%d", i) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			if tt.empty {
				if err := os.Mkdir(filepath.Join(parent, "pki"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			results := make([]result, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { results[i] = runIn(t, parent, nil, "tmpki", "generate", tt.dir(i), "rsa:2048") })
			}
			wg.Wait()
			made, dirs := 0, map[string]bool{}
			for i, r := range results {
				if r.code != 0 {
					t.Errorf("%d: exit code %d\n%s", i, r.code, r.stderr)
				}
				if strings.Contains(r.stdout, "13 keys, 14 certificates") {
					made++
				}
				dirs[tt.dir(i)] = true
			}
			if made != len(dirs) {
				t.Errorf("%d processes made a PKI, want %d", made, len(dirs))
			}
			roots := map[string]bool{}
			for dir := range dirs {
				must(t, parent, "tmpki", "check", dir)
				root, err := os.ReadFile(filepath.Join(parent, dir, "ssig_rootca.cert"))
				if err != nil {
					t.Fatal(err)
				}
				roots[string(root)] = true
			}
			if len(roots) != len(dirs) {
				t.Errorf("%d roots for %d directories", len(roots), len(dirs))
			}
			if got := names(t, parent); len(got) != len(dirs) {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// openProgram puts the program where everybody may run it, and returns a
// directory that everybody may write to, and its path.
func openProgram(t *testing.T) (dir, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	dir, err := os.MkdirTemp("", "tmpki-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	program = filepath.Join(dir, "tmpki")
	to, err := os.OpenFile(program, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir, program
}

// TestReadOnly calls as somebody who may not write: root's programs may always.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	work, program := openProgram(t)
	const nobody = 65534
	call := func(args ...string) result {
		t.Helper()
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = work, &stdout, &stderr
		cmd.Env = append(os.Environ(), "HOME=/", "GOCOVERDIR="+work)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Run()
		return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
	refused := func(dir string, args ...string) {
		t.Helper()
		before, err := state(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		r := call(args...)
		if r.code != 1 || !strings.Contains(r.stderr, "tmpki: error: ") || !strings.Contains(r.stderr, "tmpki: hint: ") {
			t.Errorf("%q: exit code %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		if after, err := state(dir, false); err != nil || after != before {
			t.Errorf("%q: changed: %v\nbefore\n%safter\n%s", args, err, before, after)
		}
	}
	mkdir := func(name string, mode fs.FileMode, uid int) string {
		t.Helper()
		dir := filepath.Join(work, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}

	// A parent that can't be written, its own and root's; an empty directory.
	for i, uid := range []int{0, nobody} {
		parent := mkdir(fmt.Sprintf("parent%d", i), 0o555, uid)
		refused(parent, "generate", filepath.Join(parent, "pki"), "rsa:2048")
		refused(parent, "generate", filepath.Join(parent, "deep", "pki"), "rsa:2048")
		refused(parent, "init", filepath.Join(parent, "pki"))
		refused(parent, "generate", parent, "rsa:2048")
	}

	// Somebody else's PKI.
	foreign := filepath.Join(work, "foreign")
	mustFixture(t, "rsa", foreign)
	refused(foreign, "generate", foreign)
	refused(foreign, "apply", foreign)
	refused(foreign, "check", foreign)
	link := filepath.Join(work, "link")
	if err := os.Symlink(foreign, link); err != nil {
		t.Fatal(err)
	}
	refused(foreign, "generate", link)

	// Without rights beyond the common ones, all works in a directory of one's own,
	// also an empty one whose parent can't be written.
	home := mkdir("home", 0o700, nobody)
	pki := filepath.Join(home, "pki")
	if r := call("generate", pki, "rsa:2048"); r.code != 0 {
		t.Fatalf("generate: %d\n%s", r.code, r.stderr)
	}
	if r := call("check", pki); r.code != 0 {
		t.Errorf("check: %d\n%s", r.code, r.stdout)
	}
	parent := mkdir("parent", 0o755, 0)
	own := mkdir("parent/own", 0o755, nobody)
	if r := call("generate", own, "rsa:2048"); r.code != 0 {
		t.Errorf("generate in an empty directory: %d\n%s", r.code, r.stderr)
	}
	if r := call("check", own); r.code != 0 {
		t.Errorf("check: %d\n%s", r.code, r.stdout)
	}
	if got := names(t, parent); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}

	// A PKI that one may only read: nothing to do is done, and checked.
	if err := os.Chmod(own, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"generate", "apply", "check"} {
		if r := call(verb, own); r.code != 0 {
			t.Errorf("%s, read-only: %d\n%s%s", verb, r.code, r.stdout, r.stderr)
		}
	}
	if err := os.Remove(filepath.Join(own, "backend.cert")); err != nil {
		t.Fatal(err)
	}
	refused(own, "generate", own)
	refused(own, "apply", own)
}

// TestFullDisk gives runs less room than they need: each fails, and leaves what
// was there before, or it succeeds.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "unshare")
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skipf("no mount namespaces here: %v", err)
	}
	work := t.TempDir()
	mustFixture(t, "ec", filepath.Join(work, "ec"))
	// $1 is the size of the disk or what is free, $2 how many files it can hold, $3
	// a PKI. The first line tells the exit code, the rest what is left.
	scripts := map[string]string{
		"generate": `mount -t tmpfs -o size=$1 none disk
			tmpki generate disk/pki rsa:2048 >&2; code=$?
			echo code $code; ls -A disk; [ $code = 1 ] || tmpki check disk/pki >&2`,
		"empty directory": `mount -t tmpfs -o size=$1 none disk; mkdir disk/pki
			tmpki generate disk/pki rsa:2048 >&2; code=$?
			echo code $code; ls -A disk/pki; [ $code = 1 ] || tmpki check disk/pki >&2`,
		"mount point": `mount -t tmpfs -o size=$1 none disk
			tmpki generate disk rsa:2048 >&2; code=$?
			echo code $code; ls -A disk; [ $code = 1 ] || tmpki check disk >&2`,
		"few files": `mount -t tmpfs -o size=4m,nr_inodes=$2 none disk
			tmpki generate disk/pki rsa:2048 >&2; code=$?
			echo code $code; ls -A disk; [ $code = 1 ] || tmpki check disk/pki >&2`,
		// Somebody else fills the disk while the keys are made, with a file that has
		// no name.
		"filled meanwhile": `mount -t tmpfs -o size=4m none disk; touch busy
			(while ! [ -e disk/.pki.tmpki/pki.yaml ]; do sleep 0.01; done
			exec 9>disk/fill; rm disk/fill; head -c $((4096 - ${1%k}))k /dev/zero >&9
			while [ -e busy ]; do sleep 0.05; done) &
			tmpki generate disk/pki rsa:2048 >&2; code=$?
			rm busy; wait
			echo code $code; ls -A disk; [ $code = 1 ] || tmpki check disk/pki >&2`,
		"mount point filled meanwhile": `mount -t tmpfs -o size=4m none disk; touch busy
			(while ! [ -e disk/pki.yaml ]; do sleep 0.01; done
			exec 9>disk/.fill; rm disk/.fill; head -c $((4096 - ${1%k}))k /dev/zero >&9
			while [ -e busy ]; do sleep 0.05; done) &
			tmpki generate disk rsa:2048 >&2; code=$?
			rm busy; wait
			echo code $code; ls -A disk; [ $code = 1 ] || tmpki check disk >&2`,
		// Filled up to a few blocks: a new entry has no room.
		"apply": `mount -t tmpfs -o size=2m none disk; cp -a $3 disk/pki
			sed -i '/^certificates:/a\  more: {issuer: guestos_subca, profile: guestos, key: "ec:P-256", subject: {common_name: More}}' disk/pki/pki.yaml
			cp -a disk/pki before
			head -c 4m /dev/zero >disk/fill 2>/dev/null; truncate -s -$1 disk/fill
			tmpki apply disk/pki >&2; code=$?
			echo code $code
			if [ $code = 1 ]; then diff -r before disk/pki; else tmpki check disk/pki >&2; fi`,
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFullDisk(t, work, script)
		})
	}
}

func testFullDisk(t *testing.T, work, script string) {
	failed, done := 0, 0
	for i, size := range []string{"16k", "64k", "128k", "256k", "384k", "1900k"} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "disk"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := runIn(t, dir, nil, "unshare", "-m", "sh", "-c", script, "sh", size, strconv.Itoa(3+15*i), filepath.Join(work, "ec"))
		first, rest, _ := strings.Cut(r.stdout, "\n")
		switch {
		case first == "code 1":
			failed++
			if rest != "" {
				t.Errorf("%s: failed and left\n%s%s", size, rest, r.stderr)
			}
			if !strings.Contains(r.stderr, "tmpki: hint: make room") {
				t.Errorf("%s: no hint:\n%s", size, r.stderr)
			}
		case first == "code 0" && r.code == 0:
			done++
		default:
			t.Errorf("%s: %q, %d\n%s%s", size, first, r.code, rest, r.stderr)
		}
	}
	if failed == 0 || done == 0 {
		t.Errorf("%d failed, %d done: the sizes show nothing", failed, done)
	}
}

// TestInterrupted sends SIGINT and SIGTERM: exit code 1, the staging directory is
// removed, and nothing else has come about.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for i, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
		for _, empty := range []bool{false, true} {
			parent := t.TempDir()
			dir := filepath.Join(parent, "pki")
			if empty {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("tmpki", "generate", dir, "rsa:4096")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Once its plan is there, it is at its keys for seconds.
			begun := filepath.Join(parent, ".pki.tmpki", "pki.yaml")
			if empty {
				begun = filepath.Join(dir, "pki.yaml")
			}
			for range 1000 {
				if _, err := os.Stat(begun); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(time.Duration(i*100) * time.Millisecond)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 || stderr.String() != "tmpki: interrupted\n" {
				t.Errorf("%v: exit code %d\n%s", sig, code, stderr.String())
			}
			left := names(t, parent)
			if empty {
				left = append(left[1:], names(t, dir)...)
			}
			if len(left) > 0 {
				t.Errorf("%v, empty %v: left %q", sig, empty, left)
			}
		}
	}
}

// TestKilledProgram kills the program itself, with the keys that the platform
// has; package plan does it often, with keys that take no time.
func TestKilledProgram(t *testing.T) {
	t.Parallel()
	count := 8
	if testing.Short() {
		count = 3
	}
	for i := range count {
		parent := t.TempDir()
		dir := filepath.Join(parent, "pki")
		temp := filepath.Join(parent, "tmp")
		if err := os.Mkdir(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("tmpki", "generate", dir, "rsa:2048")
		cmd.Env = append(os.Environ(), "TMPDIR="+temp, "DO_PLATFORM_KEYS=y")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration((float64(i)+rand.Float64())*1500/float64(count)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := os.Lstat(dir); err == nil {
			must(t, parent, "tmpki", "check", dir)
		}
		if r := runIn(t, parent, []string{"DO_PLATFORM_KEYS=y"}, "tmpki", "generate", dir, "rsa:2048"); r.code != 0 {
			t.Fatalf("the next run: %d\n%s", r.code, r.stderr)
		}
		must(t, parent, "tmpki", "check", dir)
		if left := keyFiles(t, parent, dir); len(left) > 0 {
			t.Errorf("keys of a dead run: %q", left)
		}
		if left := names(t, parent); len(left) != 2 {
			t.Errorf("left: %q", left)
		}
	}
}
