package module

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// mustSign signs, or fails the test.
func mustSign(t testing.TB, file []byte, p party) []byte {
	t.Helper()
	signed, err := Sign(file, p.key, p.certificate)
	if err != nil {
		t.Fatal(err)
	}
	return signed.File
}

// TestLikeSignFile compares with the kernel's own tool, octet for octet.
func TestLikeSignFile(t *testing.T) {
	tooltest.Need(t, "sign-file")
	for _, bits := range []int{2048, 3072, 4096} {
		p := newParty(t, rsaKey(t, 0, bits), "signer", 0x7fff0080)
		key, certificate := p.save(t)
		for _, padding := range []int{0, 1, 4097, 1 << 20} {
			path := filepath.Join(t.TempDir(), "m.ko")
			module := newModule(t, "m", padding)
			write(t, path, module)
			tooltest.Run(t, "sign-file", "sha256", key, certificate, path)
			signed, err := Sign(module, p.key, p.certificate)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(signed.File, read(t, path)) {
				t.Errorf("RSA %d, %d octets: not what sign-file writes", bits, len(module))
			}
			if signed.SHA256 != sha256.Sum256(module) || signed.Size != int64(len(module)) {
				t.Errorf("ledger would get %x, %d octets", signed.SHA256, signed.Size)
			}
		}
	}
}

func TestModinfoShowsTheSigner(t *testing.T) {
	tooltest.Need(t, "modinfo")
	p := newParty(t, rsaKey(t, 0, 2048), "the signer of modules", 0x1234)
	for _, compression := range []Compression{None, XZ, Zstd} { // Debian's kmod has no gzip
		name := "m.ko"
		if compression != None {
			name += "." + compression.String()
		}
		path := filepath.Join(t.TempDir(), name)
		file, err := Compress(newModule(t, "m", 5000), compression)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, mustSign(t, file, p))
		out := string(tooltest.Run(t, "modinfo", path))
		for _, want := range []string{"the signer of modules", "12:34", "sha256", "PKCS#7"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: modinfo does not show %q:\n%s", compression, want, out)
			}
		}
	}
}

func TestSignAgainReplaces(t *testing.T) {
	first, second := newParty(t, rsaKey(t, 0, 2048), "first", 1), newParty(t, rsaKey(t, 1, 2048), "second", 2)
	module := newModule(t, "m", 100)
	want := mustSign(t, module, second)
	if got := mustSign(t, mustSign(t, module, first), second); !bytes.Equal(got, want) {
		t.Error("signing a signed module is not like signing the module")
	}
	// sign-file appends to what is signed already; all of that goes.
	message := mustSign(t, module, first)[len(module):]
	if got := mustSign(t, append(mustSign(t, module, first), message...), second); !bytes.Equal(got, want) {
		t.Error("signing a module that is signed twice is not like signing the module")
	}
	signer, err := Verify(want, []*x509.Certificate{first.certificate, second.certificate})
	if err != nil || !signer.Equal(second.certificate) {
		t.Errorf("signer is %v (%v)", signer, err)
	}
}

// TestSignRefuses wants each reason by its own words.
func TestSignRefuses(t *testing.T) {
	p := newParty(t, rsaKey(t, 0, 2048), "signer", 1)
	module := newModule(t, "m", 100)
	ec := newParty(t, ecKey(t), "ec", 1)
	weak := newParty(t, rsaKey(t, 0, 1024), "weak", 1)
	odd := newParty(t, rsaKey(t, 0, 1536), "odd", 1)
	pss := pssCertificate(t, "pss", 1)
	brokenTrailer := mustSign(t, module, p)
	brokenTrailer[len(brokenTrailer)-len(magic)-1] ^= 1
	for _, c := range []struct {
		name string
		file []byte
		by   party
		want string
	}{
		{"ECDSA key", module, ec, "is ec:P-256, but the kernel takes module signatures by rsaEncryption keys only"},
		{"PSS key", module, party{p.key, pss}, "is rsa-pss:2048, but the kernel takes module signatures by rsaEncryption keys only"},
		{"weak key", module, weak, "is rsa:1024, but must have 2048, 3072 or 4096 bits"},
		{"odd key", module, odd, "is rsa:1536, but must have 2048, 3072 or 4096 bits"},
		{"key of another", module, party{rsaKey(t, 1, 2048), p.certificate}, "does not belong to the signing key"},
		{"empty", nil, p, "no ELF header"},
		{"text", []byte("hello, kernel\n"), p, "no ELF header"},
		{"program", newELF(t, elf.ET_EXEC, ".modinfo", "m", 0), p, "ELF type is ET_EXEC, not ET_REL"},
		{"library", newELF(t, elf.ET_DYN, ".modinfo", "m", 0), p, "ELF type is ET_DYN, not ET_REL"},
		{"object file", newELF(t, elf.ET_REL, ".comment", "m", 0), p, "no .modinfo section"},
		{"truncated", module[:len(module)-1], p, "not a kernel module: "},
		{"broken signature", brokenTrailer, p, "are not one DER element"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Sign(c.file, c.by.key, c.by.certificate)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, not %q", err, c.want)
			}
		})
	}
}

func TestVerifyTells(t *testing.T) {
	p, other := newParty(t, rsaKey(t, 0, 2048), "signer", 1), newParty(t, rsaKey(t, 1, 2048), "other", 1)
	module := newModule(t, "m", 100)
	signed := mustSign(t, module, p)
	signer, err := Verify(signed, []*x509.Certificate{other.certificate, p.certificate})
	if err != nil || !signer.Equal(p.certificate) {
		t.Errorf("signer is %v (%v)", signer, err)
	}
	// One name and serial for two keys: the kernel has one of them, or both.
	twin := newParty(t, rsaKey(t, 1, 2048), "signer", 1)
	if signer, err := Verify(signed, []*x509.Certificate{twin.certificate, p.certificate}); err != nil || !signer.Equal(p.certificate) {
		t.Errorf("beside a twin the signer is %v (%v)", signer, err)
	}
	if _, err := Verify(module, []*x509.Certificate{p.certificate}); !errors.Is(err, ErrUnsigned) {
		t.Errorf("error of an unsigned module is %v", err)
	}
	signed[70] ^= 1
	if _, err := Verify(signed, []*x509.Certificate{p.certificate}); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("error of an altered module is %v", err)
	}
}
