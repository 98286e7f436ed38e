package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/internal/tooltest"
)

// TestKernelKeyring asks the running kernel: with the anchors of the export in a
// keyring that stands for the built-in one, it takes the signer into another one
// that stands for .ima, and without the signer's own issuer it does not.
func TestKernelKeyring(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "keyctl")
	dir := t.TempDir()
	mustFixture(t, "rsa", filepath.Join(dir, "pki"))
	must(t, dir, "tmpki", "trust", "export", "--for", "kernel,ima", "-o", "out")
	pem, err := os.ReadFile(filepath.Join(dir, "out/kernel/system_trusted_keys.pem"))
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := ca.ParsePEM(pem)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range anchors {
		put(t, dir, fmt.Sprintf("anchor-%d.der", i), string(c.Raw))
	}
	put(t, dir, "root.der", string(anchors[len(anchors)-1].Raw))
	script := `set -eu
ring() { # NAME ANCHOR.der...: keyrings with these anchors, and one that takes what they signed
	builtin=$(keyctl newring "$1-builtin" @s) ima=$(keyctl newring "$1-ima" @s)
	shift
	for a; do keyctl padd asymmetric "" "$builtin" <"$a" >/dev/null; done
	keyctl restrict_keyring "$ima" asymmetric "key_or_keyring:$builtin"
}
ring root root.der || { echo "no asymmetric keys here"; exit 0; }
if keyctl padd asymmetric "" "$ima" <out/ima/x509_ima.der 2>error; then echo "root alone: taken"; else cat error; fi
ring export anchor-*.der
keyctl padd asymmetric "" "$ima" <out/ima/x509_ima.der >/dev/null && echo "export: taken"
cat out/ima/*.der >two.der # of a file with two, the kernel reads one
two=$(keyctl newring two @s)
keyctl padd asymmetric "" "$two" <two.der >/dev/null
keyctl rlist "$two" | wc -w
`
	cmd := exec.Command("keyctl", "session", "-", "sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	// A container may have no say in keyrings, and a kernel no asymmetric keys.
	for _, none := range []string{"no asymmetric keys here", "Operation not permitted", "Function not implemented"} {
		if strings.Contains(string(out), none) {
			t.Skipf("this kernel keeps no such keys for us: %s", out)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Required key not available", "export: taken\n1\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}
