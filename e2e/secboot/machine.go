//go:build e2e

// Package secboot runs EFI programs on real firmware with Secure Boot: OVMF in a
// virtual machine of qemu. The firmware takes updates of PK, KEK, db and dbx
// through SetVariable, as a board's would, and judges the programs itself.
//
// It needs qemu-system-x86, ovmf, and for building EFI programs gcc, binutils and
// gnu-efi; no privileges and no KVM.
package secboot

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// MissingError says what is not installed.
type MissingError struct {
	What string // a command or a file
	Hint string // the Debian packages to install
}

// Error names what is missing and what to install.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is missing: install %s", e.What, e.Hint)
}

// Machine is a virtual machine, with variables of its own that outlive each run.
// It is for one goroutine.
type Machine struct {
	// Timeout bounds each run; the default, 60 s, is ten times what one takes.
	Timeout time.Duration

	// Enroller is the EFI program that Enrol runs: that of EnrolProgram, signed
	// so that this machine runs it. A machine without PK runs it unsigned.
	Enroller []byte

	dir  string
	code string // the firmware
	vars string // its variables
}

// New returns a machine in setup mode: no keys enrolled, Secure Boot off. It
// keeps its files in a directory, which must be there, and be for it alone.
func New(dir string) (*Machine, error) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return nil, &MissingError{"qemu-system-x86_64", "qemu-system-x86"}
	}
	code, err := firstFile("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
	if err != nil {
		return nil, err
	}
	empty, err := firstFile("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		return nil, err
	}
	variables, err := os.ReadFile(empty)
	if err != nil {
		return nil, err
	}
	m := &Machine{
		Timeout: time.Minute,
		dir:     dir,
		code:    code,
		vars:    filepath.Join(dir, "vars.fd"),
	}
	if m.Enroller, err = EnrolProgram(dir); err != nil {
		return nil, err
	}
	return m, os.WriteFile(m.vars, variables, 0o600)
}

// Copy returns a machine as this one is now, which from then on has variables of its
// own. Its directory is as for New.
func (m *Machine) Copy(dir string) (*Machine, error) {
	variables, err := os.ReadFile(m.vars)
	if err != nil {
		return nil, err
	}
	c := *m
	c.dir, c.vars = dir, filepath.Join(dir, "vars.fd")
	return &c, os.WriteFile(c.vars, variables, 0o600)
}

// firstFile returns the first of some paths that is there.
func firstFile(packages string, paths ...string) (string, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &MissingError{paths[0], packages}
}

// Verdict is what the firmware made of a program.
type Verdict int

const (
	Booted Verdict = iota + 1 // the firmware started the program
	Denied                    // the firmware refused it: Access Denied or Security Violation
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case Booted:
		return "booted"
	case Denied:
		return "denied"
	default:
		return fmt.Sprintf("unknown verdict %d", int(v))
	}
}

// Boot has the firmware load a program as a disk's EFI/BOOT/BOOTX64.EFI, and
// returns the verdict and what stood on the console. A program that doesn't turn
// off the machine has 5 s to say something. Neither verdict is an error; that
// Secure Boot was on, only the program itself can tell.
func (m *Machine) Boot(program []byte) (Verdict, string, error) {
	return m.run(map[string][]byte{"EFI/BOOT/BOOTX64.EFI": program})
}

// What EDK II's boot manager says; the shell that it falls back to is not ours.
var (
	started = regexp.MustCompile(`BdsDxe: starting Boot[0-9A-F]{4} "UEFI `)
	refused = regexp.MustCompile(`BdsDxe: failed to load Boot[0-9A-F]{4} .*: (Access Denied|Security Violation)`)
	control = regexp.MustCompile("\x1b\\[[0-9;=?]*[A-Za-z]|[\x00\r]")
)

// run starts the machine with a disk of these files, and stops it once the
// firmware has judged and the program, if started, is done.
func (m *Machine) run(files map[string][]byte) (Verdict, string, error) {
	// 1. The disk is a directory, which qemu shows as a FAT file system.
	disk, err := os.MkdirTemp(m.dir, "disk")
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(disk)
	for name, content := range files {
		path := filepath.Join(disk, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return 0, "", err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return 0, "", err
		}
	}

	// 2. Only code in system management mode may write the flash with the
	// variables, which is what makes their protection real.
	command := exec.Command("qemu-system-x86_64",
		"-machine", "q35,smm=on", "-accel", "tcg", "-cpu", "max", "-m", "512",
		"-global", "driver=cfi.pflash01,property=secure,value=on",
		"-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+escape(m.code),
		"-drive", "if=pflash,unit=1,format=raw,file="+escape(m.vars),
		"-drive", "if=none,id=disk,format=raw,readonly=on,file=fat:"+escape(disk),
		"-device", "virtio-blk-pci,drive=disk,bootindex=1",
		"-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot")
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.StdoutPipe()
	if err != nil {
		return 0, "", err
	}
	if err := command.Start(); err != nil {
		return 0, "", err
	}
	chunks := make(chan []byte)
	stop := make(chan struct{})
	go copyChunks(output, chunks, stop)

	// 3. Follow the console until the machine is off, or has no more to say.
	var raw []byte
	var verdict Verdict
	timeout := time.After(m.Timeout)
	for running := true; running; {
		select {
		case chunk, more := <-chunks:
			raw = append(raw, chunk...)
			running = more
		case <-timeout:
			running = false
		}
		text := control.ReplaceAllString(string(raw), "")
		switch {
		case verdict == 0 && refused.MatchString(text):
			verdict, running = Denied, false
		case verdict == 0 && started.MatchString(text):
			verdict, timeout = Booted, time.After(5*time.Second)
		}
	}
	close(stop)
	command.Process.Kill() // which fails if it is off already
	command.Wait()
	console := strings.TrimSpace(control.ReplaceAllString(string(raw), ""))
	if verdict == 0 {
		return 0, console, fmt.Errorf("the firmware gave no verdict, or the machine ran for %v: qemu: %q: console: %q", m.Timeout, complaints.String(), console)
	}
	return verdict, console, nil
}

// escape writes a path as a value in an option of qemu.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// copyChunks sends what r has until it ends, or nobody listens any more.
func copyChunks(r io.Reader, chunks chan<- []byte, stop <-chan struct{}) {
	defer close(chunks)
	for {
		buffer := make([]byte, 4096)
		n, err := r.Read(buffer)
		select {
		case chunks <- buffer[:n]:
		case <-stop:
			return
		}
		if err != nil {
			return
		}
	}
}
