package efi

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

// fails runs a tool, which must not work.
func fails(t testing.TB, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(tooltest.Path(t, name), args...).CombinedOutput(); err == nil {
		t.Errorf("%s %s: no error: %s", name, strings.Join(args, " "), output)
	}
}

// writeFile writes a file into a directory and returns its path.
func writeFile(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pemFiles writes the key and the certificate of an authority.
func (a *authority) pemFiles(t testing.TB, dir, name string) (key, certificate string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	key = writeFile(t, dir, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	certificate = writeFile(t, dir, name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
	return key, certificate
}

// gnuEFI builds a small program against gnu-efi, with its symbol table left on.
func gnuEFI(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	crt0 := tooltest.Path(t, "crt0-efi-x86_64.o")
	library := filepath.Dir(crt0)
	tooltest.Need(t, "gcc", "objcopy")
	c := writeFile(t, dir, "program.c", []byte(`
#include <efi.h>
#include <efilib.h>
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table) { InitializeLib(image, table); Print(L"hello\n"); return EFI_SUCCESS; }
`))
	object, shared, program := filepath.Join(dir, "program.o"), filepath.Join(dir, "program.so"), filepath.Join(dir, "program.efi")
	tooltest.Run(t, "gcc", "-I/usr/include/efi", "-I/usr/include/efi/x86_64", "-fpic", "-ffreestanding", "-fno-stack-protector", "-fshort-wchar", "-mno-red-zone", "-c", c, "-o", object)
	tooltest.Run(t, "ld", "-shared", "-Bsymbolic", "-nostdlib", "-znocombreloc", "-znoexecstack", "-T", library+"/elf_x86_64_efi.lds", "-L"+library, "-L/usr/lib",
		crt0, object, "-o", shared, "-lefi", "-lgnuefi")
	tooltest.Run(t, "objcopy", "-j", ".text", "-j", ".sdata", "-j", ".data", "-j", ".dynamic", "-j", ".dynsym", "-j", ".rel*", "-j", ".reloc", "--target", "efi-app-x86_64", shared, program)
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// toolImages are the images that the tools and we must agree on.
func toolImages(t testing.TB) map[string][]byte {
	t.Helper()
	images := map[string][]byte{"gnu-efi": gnuEFI(t)}
	for _, pe32 := range []bool{false, true} {
		for _, trailing := range []int{0, 1, 3, 4, 7, 8, 13} {
			images[fmt.Sprintf("pe32=%v trailing=%d", pe32, trailing)] = peImage{pe32: pe32, sections: []int{0x400, 0x200}, trailing: trailing}.build()
		}
	}
	images["4 KiB"] = peImage{sections: []int{4096 - testHeaderSize}}.build()
	if !testing.Short() {
		images["100 MiB"] = peImage{sections: []int{100<<20 - testHeaderSize}}.build()
	}
	return images
}

// TestToolsVerifyOurs has all tools verify our signatures and compute our digests.
func TestToolsVerifyOurs(t *testing.T) {
	tooltest.Need(t, "sbverify", "osslsigncode", "pesign")
	a := testAuthorities()
	dir := t.TempDir()
	_, direct := a.direct.pemFiles(t, dir, "direct")
	_, stranger := a.stranger.pemFiles(t, dir, "stranger")
	for name, image := range toolImages(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			signed := signBytes(t, image, a.direct.signer(), SignOptions{Time: time.Now()})
			one := writeFile(t, dir, "one.efi", signed)
			two := writeFile(t, dir, "two.efi", signBytes(t, signed, a.leaf.signer(a.sub), SignOptions{}))
			digest := digestOf(t, signed)
			want := hex.EncodeToString(digest[:])

			tooltest.Run(t, "sbverify", "--cert", direct, one)
			tooltest.Run(t, "sbverify", "--cert", direct, two)
			fails(t, "sbverify", "--cert", stranger, one)
			if list := string(tooltest.Run(t, "sbverify", "--list", two)); strings.Count(list, "image signature issuers") != 2 {
				t.Errorf("sbverify: %s", list)
			}

			// osslsigncode asks for dates; it looks at the first signature.
			verdict := string(tooltest.Run(t, "osslsigncode", "verify", "-CAfile", direct, "-time", "1600000000", "-in", one))
			if !strings.Contains(strings.ToLower(verdict), "calculated message digest : "+want) || !strings.Contains(verdict, "Signature verification: ok") {
				t.Errorf("osslsigncode: want %s: %s", want, verdict)
			}
			if regexp.MustCompile(`(?i)mismatch`).MatchString(verdict) {
				t.Errorf("osslsigncode: %s", verdict)
			}

			if h := string(tooltest.Run(t, "pesign", "-h", "-i", two)); !strings.Contains(h, want) {
				t.Errorf("pesign: %s, want %s", h, want)
			}
			if s := string(tooltest.Run(t, "pesign", "-S", "-i", two)); !strings.Contains(s, "common name is direct") || !strings.Contains(s, "common name is leaf") {
				t.Errorf("pesign: %s", s)
			}
		})
	}
}

// TestOursVerifiesTools has us verify sbsign's and osslsigncode's signatures, add
// to them, and has sbsign add to ours.
func TestOursVerifiesTools(t *testing.T) {
	tooltest.Need(t, "sbsign", "sbverify", "osslsigncode")
	a := testAuthorities()
	keys := t.TempDir()
	leafKey, leaf := a.leaf.pemFiles(t, keys, "leaf")
	_, sub := a.sub.pemFiles(t, keys, "sub")
	_, direct := a.direct.pemFiles(t, keys, "direct")
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, image := range toolImages(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := writeFile(t, dir, "in.efi", image)
			out := func(name string) string { return filepath.Join(dir, name) }

			// 1. sbsign's alone.
			tooltest.Run(t, "sbsign", "--key", leafKey, "--cert", leaf, "--addcert", sub, "--output", out("sb.efi"), in)
			theirs := read(out("sb.efi"))
			if _, err := openBytes(t, theirs).Verify(trusting(a.root)); err != nil {
				t.Errorf("sbsign's: %v", err)
			}
			ours := signBytes(t, image, a.leaf.signer(a.sub), SignOptions{})
			if digestOf(t, ours) != digestOf(t, theirs) {
				t.Errorf("sbsign's digest is %x, ours %x", digestOf(t, theirs), digestOf(t, ours))
			}

			// 2. Ours after sbsign's, and sbsign's after ours.
			both := writeFile(t, dir, "both.efi", signBytes(t, theirs, a.direct.signer(), SignOptions{}))
			tooltest.Run(t, "sbverify", "--cert", leaf, both)
			tooltest.Run(t, "sbverify", "--cert", direct, both)
			one := writeFile(t, dir, "one.efi", signBytes(t, image, a.direct.signer(), SignOptions{}))
			tooltest.Run(t, "sbsign", "--key", leafKey, "--cert", leaf, "--addcert", sub, "--output", out("two.efi"), one)
			for _, file := range []string{"both.efi", "two.efi"} {
				for _, trusted := range []*authority{a.root, a.direct} {
					if _, err := openBytes(t, read(out(file))).Verify(trusting(trusted)); err != nil {
						t.Errorf("%s: %v", file, err)
					}
				}
			}

			// 3. osslsigncode's.
			tooltest.Run(t, "osslsigncode", "sign", "-h", "sha256", "-key", leafKey, "-certs", leaf, "-ac", sub, "-in", in, "-out", out("ossl.efi"))
			img := openBytes(t, read(out("ossl.efi")))
			if _, err := img.Verify(trusting(a.root)); err != nil {
				t.Errorf("osslsigncode's: %v", err)
			}
			if err := img.CheckChecksum(); err != nil {
				t.Errorf("osslsigncode's: %v", err)
			}
			tooltest.Run(t, "osslsigncode", "sign", "-h", "sha1", "-key", leafKey, "-certs", leaf, "-ac", sub, "-in", in, "-out", out("sha1.efi"))
			if s := openBytes(t, read(out("sha1.efi"))).Signatures(); len(s) != 1 || s[0].Err == nil {
				t.Errorf("SHA-1: %+v", s)
			}
		})
	}
}

// TestUnsignedDigest compares digests of images as they are, which pesign pads
// only if told to, like firmware, and unlike Sign.
func TestUnsignedDigest(t *testing.T) {
	tooltest.Need(t, "pesign")
	for name, image := range toolImages(t) {
		digest, err := openBytes(t, image).Digest(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		path := writeFile(t, t.TempDir(), "image.efi", image)
		if h := string(tooltest.Run(t, "pesign", "-h", "-i", path)); !strings.Contains(h, hex.EncodeToString(digest)) {
			t.Errorf("%s: pesign: %s, want %x", name, h, digest)
		}
	}
}

// TestOursVerifiesPesign has pesign sign, which takes its keys from a database of
// NSS, and writes SpcIndirectDataContent in its own way.
func TestOursVerifiesPesign(t *testing.T) {
	tooltest.Need(t, "pesign", "pk12util", "openssl")
	a := testAuthorities()
	dir := t.TempDir()
	database := t.TempDir()
	key, certificate := a.direct.pemFiles(t, dir, "direct")
	p12 := filepath.Join(dir, "direct.p12")
	tooltest.Run(t, "openssl", "pkcs12", "-export", "-inkey", key, "-in", certificate, "-name", "direct", "-passout", "pass:test", "-out", p12)
	tooltest.Run(t, "certutil", "-N", "-d", database, "--empty-password")
	tooltest.Run(t, "pk12util", "-i", p12, "-d", database, "-W", "test")
	in := writeFile(t, dir, "in.efi", peImage{sections: []int{0x400, 0x200}}.build())
	out := filepath.Join(dir, "out.efi")
	tooltest.Run(t, "pesign", "-s", "-n", database, "-c", "direct", "-i", in, "-o", out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openBytes(t, b).Verify(trusting(a.direct)); err != nil {
		t.Error(err)
	}
	both := signBytes(t, b, a.leaf.signer(a.sub), SignOptions{})
	if _, err := openBytes(t, both).Verify(trusting(a.root)); err != nil {
		t.Error(err)
	}
}

// TestPSSKeys has a certificate with an id-RSASSA-PSS key, which can't sign images,
// but can issue the certificate of one that does.
func TestPSSKeys(t *testing.T) {
	tooltest.Need(t, "openssl")
	a := testAuthorities()
	dir := t.TempDir()
	rootKey, root := a.root.pemFiles(t, dir, "root")
	leafKey, _ := a.leaf.pemFiles(t, dir, "leaf")
	subKey := filepath.Join(dir, "sub.key")
	tooltest.Run(t, "openssl", "genpkey", "-algorithm", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-out", subKey)
	certify := func(name, key, issuer, issuerKey, extension string) []byte {
		request := filepath.Join(dir, name+".csr")
		out := filepath.Join(dir, name+".crt")
		tooltest.Run(t, "openssl", "req", "-new", "-key", key, "-subj", "/CN="+name, "-out", request)
		tooltest.Run(t, "openssl", "x509", "-req", "-in", request, "-CA", issuer, "-CAkey", issuerKey, "-CAcreateserial",
			"-extfile", writeFile(t, dir, name+".ext", []byte(extension)), "-out", out)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	sub := certify("sub", subKey, root, rootKey, "basicConstraints=critical,CA:TRUE")
	leaf := certify("leaf", leafKey, filepath.Join(dir, "sub.crt"), subKey, "basicConstraints=CA:FALSE")

	image := peImage{sections: []int{0x100}}.build()
	signed := signBytes(t, image, Signer{Key: a.leaf.key, Certificate: leaf, Chain: [][]byte{sub}}, SignOptions{})
	if _, err := openBytes(t, signed).Verify(trusting(a.root)); err != nil {
		t.Error(err)
	}
	err := openBytes(t, image).Sign(io.Discard, Signer{Key: a.leaf.key, Certificate: sub}, SignOptions{})
	if err == nil || !strings.Contains(err.Error(), "rsa-pss:2048: firmware takes") {
		t.Errorf("a signer with an id-RSASSA-PSS key: %v", err)
	}
}
