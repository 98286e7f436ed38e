package ima

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// sign signs, or fails the test.
func sign(t testing.TB, content []byte, p party) []byte {
	t.Helper()
	signed, err := Sign(bytes.NewReader(content), p.key, p.certificate)
	if err != nil {
		t.Fatal(err)
	}
	return signed.Signature
}

// TestLikeEvmctl compares with the field's own tool, octet for octet, and has it
// verify.
func TestLikeEvmctl(t *testing.T) {
	tooltest.Need(t, "evmctl")
	for _, bits := range []int{2048, 3072, 4096} {
		p := newParty(t, rsaKey(t, 0, bits), nil)
		key, certificate := p.save(t)
		for _, size := range []int{1, 4096, 1<<20 + 1} { // evmctl refuses an empty file
			path := filepath.Join(t.TempDir(), "firmware.bin")
			content := bytes.Repeat([]byte{0x5a}, size)
			write(t, path, content)
			signed, err := Sign(bytes.NewReader(content), p.key, p.certificate)
			if err != nil {
				t.Fatal(err)
			}
			tooltest.Run(t, "evmctl", "ima_sign", "--sigfile", "-n", "-a", "sha256", "-k", key, path)
			if !bytes.Equal(signed.Signature, read(t, path+".sig")) {
				t.Errorf("RSA %d, %d octets: not what evmctl writes", bits, size)
			}
			if signed.SHA256 != sha256.Sum256(content) || signed.Size != int64(size) {
				t.Errorf("ledger would get %x, %d octets", signed.SHA256, signed.Size)
			}
			write(t, path+".sig", signed.Signature)
			tooltest.Run(t, "evmctl", "ima_verify", "--sigfile", "-k", certificate, path)
		}
	}
}

func TestEvmctlVerifiesTheXattr(t *testing.T) {
	tooltest.Need(t, "evmctl")
	if os.Getuid() != 0 {
		t.Skip("setting security.ima needs root")
	}
	p := newParty(t, rsaKey(t, 0, 2048), nil)
	key, certificate := p.save(t)
	path := filepath.Join(mount(t, "tmpfs", "size=1m"), "firmware.bin")
	content := []byte("firmware")
	write(t, path, content)
	if _, err := SignFiles(t.Context(), []string{path}, p.key, p.certificate, Xattr, testOptions); err != nil {
		t.Fatal(err)
	}
	tooltest.Run(t, "evmctl", "ima_verify", "-k", certificate, path)

	// And the other way round.
	tooltest.Run(t, "evmctl", "ima_sign", "-a", "sha256", "-k", key, path)
	signature, err := Load(path, Xattr)
	if err != nil {
		t.Fatal(err)
	}
	if signer, err := Verify(bytes.NewReader(content), signature, []*x509.Certificate{p.certificate}); err != nil || !signer.Equal(p.certificate) {
		t.Errorf("signer is %v (%v)", signer, err)
	}
}

// TestSignRefuses wants each reason by its own words.
func TestSignRefuses(t *testing.T) {
	good := newParty(t, rsaKey(t, 0, 2048), nil)
	pss := pssCertificate(t)
	for _, c := range []struct {
		name string
		by   party
		want string
	}{
		{"ECDSA key", newParty(t, ecKey(t), nil), "is ec:P-256, but IMA signatures are made by rsaEncryption keys only"},
		{"PSS key", party{good.key, pss}, "is rsa-pss:2048, but IMA signatures are made by rsaEncryption keys only"},
		{"weak key", newParty(t, rsaKey(t, 0, 1024), nil), "is rsa:1024, but must have 2048, 3072 or 4096 bits"},
		{"odd key", newParty(t, rsaKey(t, 0, 1536), nil), "is rsa:1536, but must have 2048, 3072 or 4096 bits"},
		{"key of another", party{rsaKey(t, 1, 2048), good.certificate}, "does not belong to the signing key"},
		{"no key identifier", newParty(t, rsaKey(t, 0, 2048), func(c *x509.Certificate) { c.SubjectKeyId = nil }), "has no subject key identifier"},
		{"SHA-256 key identifier, as Go makes it for a CA", newParty(t, rsaKey(t, 0, 2048), func(c *x509.Certificate) {
			c.SubjectKeyId, c.IsCA, c.BasicConstraintsValid = nil, true, true
		}), "not the SHA-1 of its key"},
		{"right end of a key identifier", newParty(t, rsaKey(t, 0, 2048), func(c *x509.Certificate) { c.SubjectKeyId = c.SubjectKeyId[16:] }), "not the SHA-1 of its key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Sign(strings.NewReader("firmware"), c.by.key, c.by.certificate)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, not %q", err, c.want)
			}
		})
	}
	if _, err := Sign(iotest.ErrReader(os.ErrDeadlineExceeded), good.key, good.certificate); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("error of an unreadable file is %v", err)
	}
}

// TestManipulations alters a good signature in one place each, and wants the
// reason by its own words.
func TestManipulations(t *testing.T) {
	p, other := newParty(t, rsaKey(t, 0, 2048), nil), newParty(t, rsaKey(t, 1, 2048), nil)
	content := []byte("firmware of a device")
	good := sign(t, content, p)
	trusted := []*x509.Certificate{p.certificate}
	if _, err := Verify(bytes.NewReader(content), good, trusted); err != nil {
		t.Fatal(err)
	}
	at := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	flip := func(i int) []byte { return at(i, good[i]^1) }
	digest := sha256.Sum256(content)
	raw := func(scheme spki.Scheme, salt int) []byte {
		octets, err := spki.SignatureAlgorithm{Scheme: scheme, Hash: algorithm().Hash, SaltLength: salt}.SignDigest(p.key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return (&Signature{KeyID: [4]byte(good[3:7]), Octets: octets}).Marshal()
	}
	// Another key whose certificate claims the signer's identifier.
	claimed := func(key party, cut int) *x509.Certificate {
		return newParty(t, key.key, func(c *x509.Certificate) { c.SubjectKeyId = p.certificate.SubjectKeyId[cut:] }).certificate
	}

	for _, c := range []struct {
		name      string
		content   string
		signature []byte
		trusted   []*x509.Certificate
		want      string
	}{
		// The content.
		{"flipped bit in the content", "girmware of a device", good, trusted, "signature does not verify"},
		{"octet behind the content", "firmware of a device ", good, trusted, "signature does not verify"},
		{"empty content", "", good, trusted, "signature does not verify"},

		// The header.
		{"nothing", string(content), nil, trusted, "0 octets are too few for a header"},
		{"header cut", string(content), good[:8], trusted, "8 octets are too few for a header"},
		{"plain SHA-1 hash", string(content), append([]byte{1}, digest[:20]...), trusted, "its type is 0x01, not a signature"},
		{"HMAC of EVM", string(content), at(0, 2), trusted, "its type is 0x02, not a signature"},
		{"hash with algorithm", string(content), append([]byte{4, 4}, digest[:]...), trusted, "its type is 0x04, not a signature"},
		{"portable EVM signature", string(content), at(0, 5), trusted, "its type is 0x05, not a signature"},
		{"version 1", string(content), at(1, 1), trusted, "its version is 1, not 2"},
		{"version 3, of fs-verity", string(content), at(1, 3), trusted, "its version is 3, not 2"},
		{"SHA-1", string(content), at(2, 2), trusted, "its hash is number 2, not SHA-256"},
		{"SHA-512", string(content), at(2, 6), trusted, "its hash is number 6, not SHA-256"},
		{"first octet of the key identifier", string(content), flip(3), trusted, "none of 1 trusted certificates has key identifier"},
		{"last octet of the key identifier", string(content), flip(6), trusted, "none of 1 trusted certificates has key identifier"},
		{"size 0", string(content), append(bytes.Clone(good[:7]), 0, 0), trusted, "its size is 0, outside 1 to 1024"},
		{"size beyond any key", string(content), at(7, 0xff), trusted, "its size is 65280, outside 1 to 1024"},
		{"size one more", string(content), at(8, 1), trusted, "its size is 257, but 256 octets follow"},
		{"trailing octet", string(content), append(bytes.Clone(good), 0), trusted, "its size is 256, but 257 octets follow"},
		{"truncated", string(content), good[:len(good)-1], trusted, "its size is 256, but 255 octets follow"},

		// The signature.
		{"flipped bit at the start", string(content), flip(headerSize), trusted, "signature does not verify"},
		{"flipped bit at the end", string(content), flip(len(good) - 1), trusted, "signature does not verify"},
		{"PSS", string(content), raw(spki.PSS, 32), trusted, "signature does not verify"},
		{"shorter, and says so", string(content), func() []byte {
			b := bytes.Clone(good[:len(good)-1])
			b[7], b[8] = 0, 255
			return b
		}(), trusted, "signature does not verify"},
		{"of another file", string(content), sign(t, []byte("other firmware"), p), trusted, "signature does not verify"},

		// The keyring.
		{"empty keyring", string(content), good, nil, "none of 0 trusted certificates"},
		{"another key", string(content), good, []*x509.Certificate{other.certificate}, "none of 1 trusted certificates"},
		{"another key that claims the identifier", string(content), good, []*x509.Certificate{claimed(other, 0)}, "not the SHA-1 of its key"},
		{"another key that claims its end", string(content), good, []*x509.Certificate{claimed(other, 16)}, "not the SHA-1 of its key"},
		{"no identifier", string(content), good, []*x509.Certificate{newParty(t, p.key, func(c *x509.Certificate) { c.SubjectKeyId = nil }).certificate}, "none of 1 trusted certificates"},
	} {
		t.Run(c.name, func(t *testing.T) {
			signer, err := Verify(strings.NewReader(c.content), c.signature, c.trusted)
			if err == nil || signer != nil {
				t.Fatalf("accepted, by %v", signer)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %q, not %q", err, c.want)
			}
		})
	}

	// What else is in the keyring does not matter.
	renewed := newParty(t, p.key, func(c *x509.Certificate) { c.Subject.CommonName = "signer, renewed" })
	keyring := []*x509.Certificate{claimed(other, 0), other.certificate, pssCertificate(t), p.certificate, renewed.certificate}
	if signer, err := Verify(bytes.NewReader(content), good, keyring); err != nil || !signer.Equal(p.certificate) {
		t.Errorf("in a full keyring the signer is %v (%v)", signer, err)
	}
}

// TestWeakAndPSSKeysInTheKeyring has signatures that only a careless verifier
// takes.
func TestWeakAndPSSKeysInTheKeyring(t *testing.T) {
	weak := newParty(t, rsaKey(t, 0, 1024), nil)
	pss := pssCertificate(t)
	digest := sha256.Sum256([]byte("firmware"))
	octets, err := algorithm().SignDigest(weak.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		certificate *x509.Certificate
		want        string
	}{
		{weak.certificate, "is rsa:1024, but must have 2048, 3072 or 4096 bits"},
		{pss, "is rsa-pss:2048, but IMA signatures are made by rsaEncryption keys only"},
	} {
		keyID, err := KeyID(c.certificate)
		if err != nil {
			t.Fatal(err)
		}
		signature := (&Signature{KeyID: keyID, Octets: octets}).Marshal()
		if _, err := VerifyDigest(digest, signature, []*x509.Certificate{c.certificate}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error is %v, not %q", err, c.want)
		}
	}
}

func TestCheckKeyring(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*x509.Certificate)
		want   string
	}{
		{"fit", nil, ""},
		{"end entity that says so", func(c *x509.Certificate) { c.BasicConstraintsValid = true }, ""},
		{"CA", func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true }, "is a CA's"},
		{"keyCertSign", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "has key usage keyCertSign"},
		{"other usage", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, "lacks key usage digitalSignature"},
		{"no usage", func(c *x509.Certificate) { c.KeyUsage = 0 }, "lacks key usage digitalSignature"},
	} {
		p := newParty(t, rsaKey(t, 0, 2048), c.change)
		err := CheckKeyring(p.certificate)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, not %q", c.name, err, c.want)
		}
		// Earlier kernels take each of them.
		if _, err := Verify(strings.NewReader("firmware"), sign(t, []byte("firmware"), p), []*x509.Certificate{p.certificate}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
