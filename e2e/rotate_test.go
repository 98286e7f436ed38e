//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tmpki/e2e/secboot"
)

// rollout runs, in a directory, the commands for the firmware that "tmpki rollout"
// tells for a step.
func (p tmpki) rollout(t *testing.T, work, name, step string) {
	t.Helper()
	cmd := exec.Command(p.program, "--json", "rollout", name)
	cmd.Env = p.env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tmpki rollout %s: %v\n%s", name, err, out)
	}
	var told struct {
		Rollouts []struct {
			Steps []struct {
				Step string
				How  []string
			}
		}
	}
	if err := json.Unmarshal(out, &told); err != nil || len(told.Rollouts) != 1 {
		t.Fatalf("tmpki rollout %s: %v\n%s", name, err, out)
	}
	ran := 0
	for _, s := range told.Rollouts[0].Steps {
		for _, how := range s.How {
			command := uefiCommand.FindString(how)
			if s.Step != step || command == "" {
				continue
			}
			shell := exec.Command("sh", "-e", "-c", strings.Replace(command, "tmpki", `"$TMPKI"`, 1))
			shell.Dir, shell.Env = work, append(p.env, "TMPKI="+p.program)
			if out, err := shell.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, out)
			}
			ran++
		}
	}
	if ran == 0 {
		t.Fatalf("tmpki rollout %s tells no command of %s:\n%s", name, step, out)
	}
}

// uefiCommand is one that the firmware is concerned with, in a line that may say
// more.
var uefiCommand = regexp.MustCompile(`tmpki (uefi|trust export --for efi) [^,;:]*`)

// TestRotatedKeysBoot changes the keys that the firmware trusts, with the commands
// that rollout tells. In each phase the firmware must take what the plan says that
// it takes, and nothing else: an update too early or too late would leave devices
// that do not boot.
func TestRotatedKeysBoot(t *testing.T) {
	machine, err := secboot.New(t.TempDir())
	need(t, err)
	hello, err := secboot.HelloProgram(t.TempDir())
	need(t, err)
	program := build(t)
	pki, work := filepath.Join(t.TempDir(), "pki"), t.TempDir()
	program.env = append(program.env, "DO_PLATFORM_KEYS=y", "TMPKI_DIR="+pki)
	program.run(t, "generate", pki, "rsa:2048")
	at := func(name string) string { return filepath.Join(work, name) }
	image := write(t, at("hello.efi"), hello)
	sign := func(as string) []byte {
		program.run(t, "sign", "efi", "--as", as, "-o", at("signed.efi"), image)
		return read(t, at("signed.efi"))
	}
	update := func(name, file string) secboot.Update {
		return secboot.Update{Name: name, Auth: read(t, file)}
	}
	enrol := func(m *secboot.Machine, updates ...secboot.Update) {
		t.Helper()
		if err := m.Enrol(updates...); err != nil {
			t.Fatal(err)
		}
	}
	boots := func(m *secboot.Machine, name string, image []byte, want secboot.Verdict) {
		t.Helper()
		verdict, console, err := m.Boot(image)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if verdict != want {
			t.Errorf("%s: %v, want %v\n%s", name, verdict, want, console)
		}
	}

	// 1. A device that knows the first keys.
	enrol(machine, update("PK", filepath.Join(pki, "PK.auth")), update("KEK", filepath.Join(pki, "KEK.auth")), update("db", filepath.Join(pki, "DB.auth")))
	enroller := write(t, at("enrol.efi"), machine.Enroller)
	program.run(t, "sign", "efi", "--as", "DB", enroller)
	machine.Enroller = read(t, enroller)
	old := sign("ssig")

	// 2. Rotate. Somebody who signs with the new key before db has it makes what
	// does not boot.
	program.run(t, "rotate", "ssig_subca")
	boots(machine, "by the new key, too early", sign("ssig_subca-g2"), secboot.Denied)
	boots(machine, "by the old key, while the new one waits", old, secboot.Booted)

	// 3. The new certificate in db, beside the old one; then switch.
	program.rollout(t, work, "ssig_subca", "add-efi")
	enrol(machine, secboot.Update{Name: "db", Append: true, Auth: read(t, at("db.auth"))})
	for _, step := range []string{"add-efi", "add-kernel", "add-ima"} {
		program.run(t, "rollout", "done", "ssig_subca", step)
	}
	program.run(t, "rollout", "switch", "ssig_subca")
	newer := sign("ssig")
	boots(machine, "by the old key, with both in db", old, secboot.Booted)
	boots(machine, "by the new key, with both in db", newer, secboot.Booted)

	// 4. The old key is stolen: dbx alone shuts it out.
	stolen, err := machine.Copy(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program.rollout(t, work, "ssig_subca", "retire")
	enrol(stolen, update("dbx", at("dbx.auth")))
	boots(stolen, "by the old key, in dbx", old, secboot.Denied)
	boots(stolen, "by the new key, with the old one in dbx", newer, secboot.Booted)

	// 5. It is retired: db without it shuts it out, too.
	program.run(t, "rollout", "retire", "--accept-artifacts", "ssig_subca")
	program.rollout(t, work, "ssig_subca", "remove-efi")
	enrol(machine, update("db", at("DIR/efi/DB.auth")))
	boots(machine, "by the old key, out of db", old, secboot.Denied)
	boots(machine, "by the new key, alone in db", newer, secboot.Booted)

	// 6. KEK, then PK. Each update is signed by a key that the firmware knows when it
	// comes.
	var updates []secboot.Update
	program.run(t, "rotate", "KEK")
	program.rollout(t, work, "KEK", "add-efi")
	updates = append(updates, secboot.Update{Name: "KEK", Append: true, Auth: read(t, at("KEK.auth"))})
	program.run(t, "rollout", "done", "KEK", "add-efi")
	program.run(t, "rollout", "switch", "KEK")
	updates = append(updates, update("db", filepath.Join(pki, "DB.auth")))
	program.run(t, "uefi", "auth", "--as", "KEK-g1", "db", filepath.Join(pki, "DB.esl"), "-o", at("by-old-KEK.auth"))
	program.run(t, "rollout", "retire", "KEK")
	program.rollout(t, work, "KEK", "remove-efi")
	updates = append(updates, update("KEK", at("DIR/efi/KEK.auth")))
	program.run(t, "rotate", "PK")
	program.rollout(t, work, "PK", "add-efi")
	updates = append(updates, update("PK", at("PK.auth")))
	program.run(t, "rollout", "done", "PK", "add-efi")
	program.run(t, "rollout", "switch", "PK")
	updates = append(updates, update("KEK", filepath.Join(pki, "KEK.auth")))
	program.run(t, "uefi", "auth", "--as", "PK-g1", "KEK", filepath.Join(pki, "KEK.esl"), "-o", at("by-old-PK.auth"))
	program.run(t, "rollout", "retire", "PK")
	enrol(machine, updates...)

	// 7. What the old keys sign last is newer than all that the device has, and refused
	// all the same. One that has missed the change takes it.
	for file, name := range map[string]string{"by-old-KEK.auth": "db", "by-old-PK.auth": "KEK"} {
		if err := machine.Enrol(update(name, at(file))); !errors.As(err, new(*secboot.StatusError)) {
			t.Errorf("%s: %v, want it refused", file, err)
		}
	}
	enrol(stolen, update("db", at("by-old-KEK.auth")), update("KEK", at("by-old-PK.auth")))
}
