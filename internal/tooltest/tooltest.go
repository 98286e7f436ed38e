// Package tooltest finds the programs that tests ask for a second opinion.
// Where one is missing, a test on a laptop is skipped and says what to install;
// in CI, with the variable CI set, it fails, since nothing may be skipped there.
package tooltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// debian names the package of each tool. scripts/deps installs them.
var debian = map[string]string{
	"age":                  "age",
	"age-keygen":           "age",
	"cert-to-efi-sig-list": "efitools",
	"certutil":             "libnss3-tools",
	"crt0-efi-x86_64.o":    "gnu-efi",
	"evmctl":               "ima-evm-utils",
	"gcc":                  "gcc",
	"gzip":                 "gzip",
	"hash-to-efi-sig-list": "efitools",
	"HelloWorld.efi":       "efitools",
	"initdb":               "postgresql-15",
	"ld":                   "binutils",
	"keyctl":               "keyutils",
	"libsofthsm2.so":       "softhsm2",
	"modinfo":              "kmod",
	"objcopy":              "binutils",
	"openssl":              "openssl",
	"osslsigncode":         "osslsigncode",
	"pesign":               "pesign",
	"pk12util":             "libnss3-tools",
	"pkcs11-tool":          "opensc",
	"postgres":             "postgresql-15",
	"sbsign":               "sbsigntool",
	"sbverify":             "sbsigntool",
	"sig-list-to-certs":    "efitools",
	"sha256sum":            "coreutils",
	"sign-efi-sig-list":    "efitools",
	"sign-file":            "linux-kbuild-6.1",
	"softhsm2-util":        "softhsm2",
	"swtpm":                "swtpm",
	"swtpm_setup":          "swtpm-tools",
	"tar":                  "tar",
	"tpm2.so":              "tpm2-openssl",
	"tpm2_createprimary":   "tpm2-tools",
	"unshare":              "util-linux",
	"veritysetup":          "cryptsetup-bin",
	"xz":                   "xz-utils",
	"zstd":                 "zstd",
}

// elsewhere says where those stand that are in nobody's PATH.
var elsewhere = map[string][]string{
	"crt0-efi-x86_64.o": {"/usr/lib/crt0-efi-x86_64.o", "/usr/lib/x86_64-linux-gnu/gnuefi/crt0-efi-x86_64.o", "/usr/lib/gnuefi/crt0-efi-x86_64.o"},
	"HelloWorld.efi":    {"/usr/lib/efitools/*/HelloWorld.efi"},
	"initdb":            {"/usr/lib/postgresql/*/bin/initdb"},
	"libsofthsm2.so":    {"/usr/lib/softhsm/libsofthsm2.so"},
	"postgres":          {"/usr/lib/postgresql/*/bin/postgres"},
	"sign-file":         {"/usr/lib/linux-kbuild-*/scripts/sign-file"},
	"tpm2.so":           {"/usr/lib/x86_64-linux-gnu/ossl-modules/tpm2.so"},
}

// T is what there is to do about a missing tool: a testing.TB can, and so can the
// testscript.T of a script.
type T interface {
	Fatal(args ...any)
	Skip(args ...any)
}

// Path returns where a tool is, or skips the test, or fails it in CI.
func Path(t T, name string) string {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	pkg, ok := debian[name]
	if !ok {
		t.Fatal(fmt.Sprintf("unknown tool %q: add its package to tooltest and scripts/deps", name))
		return ""
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range append(elsewhere[name], "/usr/sbin/"+name, "/sbin/"+name) { // not in the PATH of users
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[len(found)-1]
		}
	}
	missing := fmt.Sprintf("%s is missing: apt-get install %s", name, pkg)
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
		return ""
	}
	t.Skip(missing)
	return ""
}

// Need asks for tools before a test begins.
func Need(t T, names ...string) {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	for _, name := range names {
		Path(t, name)
	}
}

// Run runs a tool, which must succeed, and returns its standard output.
func Run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), Path(t, name), args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
	}
	return out
}
