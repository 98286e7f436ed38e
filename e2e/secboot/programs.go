//go:build e2e

package secboot

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed programs/enrol.c
var enrolSource string

//go:embed programs/hello.c
var helloSource string

// EnrolProgram builds the unsigned EFI program that Machine.Enrol runs. The
// directory is for temporary files.
func EnrolProgram(dir string) ([]byte, error) { return Build(dir, enrolSource) }

// HelloProgram builds an unsigned EFI program that prints
// "hello: SecureBoot=1", or 0, and turns the machine off.
func HelloProgram(dir string) ([]byte, error) { return Build(dir, helloSource) }

// Build builds an EFI application for x64 from C source, against gnu-efi.
func Build(dir, source string) ([]byte, error) {
	// 1. Find the tools. Distributions put gnu-efi in different places.
	for _, tool := range [][2]string{{"gcc", "gcc"}, {"ld", "binutils"}, {"objcopy", "binutils"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			return nil, &MissingError{tool[0], tool[1]}
		}
	}
	headers, err := firstFile("gnu-efi", "/usr/include/efi/efi.h")
	if err != nil {
		return nil, err
	}
	crt0, err := firstFile("gnu-efi", "/usr/lib/crt0-efi-x86_64.o", "/usr/lib/x86_64-linux-gnu/gnuefi/crt0-efi-x86_64.o", "/usr/lib/gnuefi/crt0-efi-x86_64.o")
	if err != nil {
		return nil, err
	}
	include, library := filepath.Dir(headers), filepath.Dir(crt0)

	// 2. Compile, link to a shared object, and turn that into PE/COFF.
	work, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "program.c"), []byte(source), 0o600); err != nil {
		return nil, err
	}
	for _, command := range [][]string{
		{"gcc", "-I" + include, "-I" + filepath.Join(include, "x86_64"), "-O2", "-Wall", "-Wno-pointer-sign",
			"-fpic", "-ffreestanding", "-fno-stack-protector", "-fshort-wchar", "-mno-red-zone",
			"-maccumulate-outgoing-args", "-DEFI_FUNCTION_WRAPPER", "-c", "program.c", "-o", "program.o"},
		{"ld", "-shared", "-Bsymbolic", "-nostdlib", "-znocombreloc", "-znoexecstack",
			"-T", filepath.Join(library, "elf_x86_64_efi.lds"), "-L" + library, "-L/usr/lib",
			crt0, "program.o", "-o", "program.so", "-lefi", "-lgnuefi"},
		{"objcopy", "-j", ".text", "-j", ".sdata", "-j", ".data", "-j", ".dynamic", "-j", ".dynsym",
			"-j", ".rel*", "-j", ".reloc", "-S", "--target", "efi-app-x86_64", "program.so", "program.efi"},
	} {
		c := exec.Command(command[0], command[1:]...)
		c.Dir = work
		if output, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building an EFI program: %s: %w: %s", command[0], err, output)
		}
	}
	return os.ReadFile(filepath.Join(work, "program.efi"))
}
