//go:build e2e

// Package e2e takes what the program makes to the machines that judge it.
package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tmpki/e2e/secboot"
)

// need skips on a laptop and fails in CI when a tool is missing.
func need(t *testing.T, err error) {
	t.Helper()
	if errors.As(err, new(*secboot.MissingError)) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tmpki runs the program as a user does.
type tmpki struct {
	program string
	env     []string
}

func build(t *testing.T) tmpki {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tmpki")
	cmd := exec.Command("go", "build", "-o", program, "tmpki/cmd/tmpki")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return tmpki{program: program, env: os.Environ()}
}

func (p tmpki) run(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(p.program, args...)
	cmd.Env = p.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmpki %v: %v\n%s", args, err, out)
	}
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestDevelopmentPKIBoots enrols the UEFI keys of "generate" through the firmware
// in the strict order PK, KEK, db, and boots what "sign efi" signs: by the leaf,
// by the sub CA as today's build does it, and by the DB key. What they did not
// sign is denied.
func TestDevelopmentPKIBoots(t *testing.T) {
	machine, err := secboot.New(t.TempDir())
	need(t, err)
	hello, err := secboot.HelloProgram(t.TempDir())
	need(t, err)
	program := build(t)
	program.env = append(program.env, "DO_PLATFORM_KEYS=y")
	dir := filepath.Join(t.TempDir(), "pki")
	program.run(t, "generate", dir, "rsa:2048")

	err = machine.Enrol(
		secboot.Update{Name: "PK", Auth: read(t, filepath.Join(dir, "PK.auth"))},
		secboot.Update{Name: "KEK", Auth: read(t, filepath.Join(dir, "KEK.auth"))},
		secboot.Update{Name: "db", Auth: read(t, filepath.Join(dir, "DB.auth"))})
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	image := write(t, filepath.Join(work, "hello.efi"), hello)
	sign := func(as string) []byte {
		out := filepath.Join(work, as+".efi")
		program.run(t, "--pki", dir, "sign", "efi", "--as", as, "-o", out, image)
		return read(t, out)
	}
	altered := sign("ssig")
	altered[len(hello)/2] ^= 1
	for _, row := range []struct {
		name  string
		image []byte
		want  secboot.Verdict
	}{
		{"by ssig", sign("ssig"), secboot.Booted},
		{"by ssig_subca", sign("ssig_subca"), secboot.Booted},
		{"by DB", sign("DB"), secboot.Booted},
		{"unsigned", hello, secboot.Denied},
		{"altered", altered, secboot.Denied},
	} {
		verdict, console, err := machine.Boot(row.image)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		if verdict != row.want {
			t.Errorf("%s: %v, want %v\n%s", row.name, verdict, row.want, console)
		}
	}
}
