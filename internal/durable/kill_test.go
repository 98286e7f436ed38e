package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// child is the process that is killed.
func child(role string, args []string) {
	path := args[0]
	var err error
	switch role {
	case "write":
		for i := 0; err == nil; i++ {
			err = WriteFile(path, content(i), 0o600)
		}
	case "create":
		for i := 0; err == nil; i++ {
			err = CreateFile(fmt.Sprintf("%s.%d", path, i), content(i), 0o600)
		}
	case "lock":
		err = countUnderLock(path)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// content is i, as often as makes it span pages.
func content(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d\n", i), 2000)
}

// isContent tells whether data is content(i) for some i.
func isContent(data []byte) bool {
	return len(data) == 9*2000 && bytes.Equal(data, bytes.Repeat(data[:9], 2000))
}

// killAfter runs the test binary in role and kills it.
func killAfter(t *testing.T, delay time.Duration, role string, args ...string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DURABLE_TEST_ROLE="+role)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(delay)
	cmd.Process.Kill()
	cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("%s: %s", role, stderr.String())
	}
}

func TestKilledWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	written := false
	for round := range 20 {
		killAfter(t, time.Duration(5+rand.IntN(40)+3*round)*time.Millisecond, "write", path)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && !written {
			continue // killed before its first file
		}
		if err != nil {
			t.Fatal(err)
		}
		written = true
		if !isContent(data) {
			t.Fatalf("half-written: %d bytes", len(data))
		}
	}
	if !written {
		t.Fatal("no run wrote the file: the test shows nothing")
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	wantNames(t, dir, "file")
}

func TestKilledCreateFileLeavesNoOtherName(t *testing.T) {
	created := 0
	for round := range 20 {
		dir := t.TempDir()
		killAfter(t, time.Duration(5+rand.IntN(40)+3*round)*time.Millisecond, "create", filepath.Join(dir, "key"))
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), "key.") {
				t.Errorf("left %q", entry.Name())
			}
			data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if !isContent(data) {
				t.Errorf("%s is half-written: %d bytes", entry.Name(), len(data))
			}
			created++
		}
	}
	if created == 0 {
		t.Fatal("no run created a file: the test shows nothing")
	}
}
