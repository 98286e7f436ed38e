package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tmpki/internal/tooltest"
)

// TestBackupInUse makes backups while five processes issue and sign, and restores
// each on what could be another machine: the old directory is gone.
func TestBackupInUse(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "age-keygen")
	home := t.TempDir()
	pki := filepath.Join(home, "pki")
	mustFixture(t, "rsa", pki)
	must(t, home, "age-keygen", "-o", "key.txt")
	recipient := strings.TrimSpace(must(t, home, "age-keygen", "-y", "key.txt"))

	// 1. Three sign, two issue, until the backups are made.
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 5 {
		others.Go(func() {
			work := filepath.Join(home, fmt.Sprint("work", i))
			if err := os.Mkdir(work, 0o700); err != nil {
				t.Error(err)
				return
			}
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				var r result
				if i < 3 {
					file := filepath.Join(work, fmt.Sprint("file", n))
					if err := os.WriteFile(file, []byte(file), 0o644); err != nil {
						t.Error(err)
						return
					}
					r = runIn(t, work, nil, "tmpki", "--pki", pki, "sign", "ima", "--sigfile", file)
				} else {
					r = runIn(t, work, nil, "tmpki", "--pki", pki, "guestos", "add", fmt.Sprintf("os%d-%d", i, n))
				}
				if r.code != 0 {
					t.Errorf("process %d: exit code %d\n%s", i, r.code, r.stderr)
					return
				}
			}
		})
	}
	const backups = 4
	for i := range backups {
		must(t, home, "tmpki", "--pki", pki, "backup", "-o", fmt.Sprintf("b%d.age", i), "--recipient", recipient)
	}
	close(stop)
	others.Wait()
	entries := func(dir string) int {
		return strings.Count(must(t, home, "tmpki", "log", dir), "\n") - 1
	}
	last := entries(pki)

	// 2. Elsewhere.
	if err := os.Rename(pki, filepath.Join(home, "burnt")); err != nil {
		t.Fatal(err)
	}
	machine := t.TempDir()
	file := filepath.Join(machine, "file")
	if err := os.WriteFile(file, []byte("file"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := 0
	for i := range backups {
		dir := filepath.Join(machine, fmt.Sprint("restored", i))
		must(t, machine, "tmpki", "restore", "--identity", filepath.Join(home, "key.txt"), filepath.Join(home, fmt.Sprintf("b%d.age", i)), dir)
		if out := must(t, machine, "tmpki", "check", dir); strings.Contains(out, "warning") {
			t.Errorf("backup %d: %s", i, out)
		}
		if out := must(t, machine, "tmpki", "apply", dir); !strings.Contains(out, "nothing to do") {
			t.Errorf("backup %d: apply: %s", i, out)
		}
		// The backup's own entry is in it, and restoring it made one more.
		n := entries(dir)
		if n <= before || n > last+1 {
			t.Errorf("backup %d has %d entries, the one before %d, all %d", i, n, before, last)
		}
		before = n
		must(t, machine, "tmpki", "--pki", dir, "sign", "ima", "--sigfile", file)
		must(t, machine, "tmpki", "--pki", dir, "verify", "ima", "--sigfile", file)
		must(t, machine, "tmpki", "--pki", dir, "guestos", "add", "after")
	}
}
