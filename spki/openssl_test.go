package spki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPublicKeyBytes compares with what OpenSSL writes: both must produce the
// same octets, since a key identifier and an issuer match hang on them.
func TestPublicKeyBytes(t *testing.T) {
	pss := func(options ...string) []string {
		args := []string{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}
		for _, option := range options {
			args = append(args, "-pkeyopt", option)
		}
		return args
	}
	for _, tt := range []struct {
		name string
		args []string
		want *spki.PSSParams
		typ  string
	}{
		{"rsa", []string{"-algorithm", "RSA"}, nil, "rsa:2048"},
		{"pss", pss(), nil, "rsa-pss:2048"},
		{"pss sha256", pss("rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32"), &spki.PSSParams{Hash: crypto.SHA256, SaltLength: 32}, "rsa-pss:2048"},
		{"pss sha384 salt 20", pss("rsa_pss_keygen_md:sha384", "rsa_pss_keygen_mgf1_md:sha384", "rsa_pss_keygen_saltlen:20"), &spki.PSSParams{Hash: crypto.SHA384, SaltLength: 20}, "rsa-pss:2048"},
		{"pss sha512 salt 0", pss("rsa_pss_keygen_md:sha512", "rsa_pss_keygen_mgf1_md:sha512", "rsa_pss_keygen_saltlen:0"), &spki.PSSParams{Hash: crypto.SHA512, SaltLength: 0}, "rsa-pss:2048"},
		{"p256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, nil, "ec:P-256"},
		{"p384", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, nil, "ec:P-384"},
		{"p521", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}, nil, "ec:P-521"},
		{"ed25519", []string{"-algorithm", "ED25519"}, nil, "ed25519"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := write(t, "key.pem", tooltest.Run(t, "openssl", append([]string{"genpkey"}, tt.args...)...))
			der := tooltest.Run(t, "openssl", "pkey", "-in", key, "-pubout", "-outform", "DER")
			pub, err := spki.ParsePublicKey(der)
			if err != nil {
				t.Fatal(err)
			}
			if typ, err := spki.KeyTypeOf(pub); err != nil || typ.String() != tt.typ {
				t.Errorf("KeyTypeOf = %v, %v; want %v", typ, err, tt.typ)
			}
			if pss, ok := pub.(*spki.PSSPublicKey); ok {
				if (pss.Params == nil) != (tt.want == nil) || pss.Params != nil && *pss.Params != *tt.want {
					t.Errorf("parameters = %v, want %v", pss.Params, tt.want)
				}
				params, ok, err := spki.ParsePSSAlgorithm(pss.AlgorithmIdentifier())
				if err != nil || !ok || !spki.Equal(pub, &spki.PSSPublicKey{Key: pss.Key, Params: params}) {
					t.Errorf("ParsePSSAlgorithm(AlgorithmIdentifier) = %v, %v, %v", params, ok, err)
				}
			}
			again, err := spki.MarshalPublicKey(pub)
			if err != nil || !bytes.Equal(again, der) {
				t.Errorf("MarshalPublicKey differs from OpenSSL (%v)\n got %x\nwant %x", err, again, der)
			}
		})
	}
}

// signers returns a signer of each kind with a plain key that OpenSSL reads.
func signers(t *testing.T) map[string]struct {
	signer crypto.Signer
	plain  crypto.PrivateKey
} {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	type pair = struct {
		signer crypto.Signer
		plain  crypto.PrivateKey
	}
	return map[string]pair{
		"rsa":     {rsaKey, rsaKey},
		"pss":     {&spki.PSSSigner{Signer: rsaKey}, rsaKey},
		"pss512":  {&spki.PSSSigner{Signer: rsaKey, Params: &spki.PSSParams{Hash: crypto.SHA512, SaltLength: 64}}, rsaKey},
		"p384":    {p384, p384},
		"ed25519": {ed, ed},
	}
}

// TestSignatures lets OpenSSL verify what we sign, and verifies what it signs.
func TestSignatures(t *testing.T) {
	message := []byte("what was agreed")
	keys := signers(t)
	for _, tt := range []struct {
		key  string
		alg  spki.SignatureAlgorithm
		args []string
	}{
		{"rsa", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, []string{"-digest", "sha256"}},
		{"rsa", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}, []string{"-digest", "sha512", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:64"}},
		{"pss", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 222}, []string{"-digest", "sha256", "-pkeyopt", "rsa_pss_saltlen:222"}},
		{"pss", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA384, SaltLength: 20}, []string{"-digest", "sha384", "-pkeyopt", "rsa_pss_saltlen:20"}},
		{"pss512", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}, []string{"-digest", "sha512", "-pkeyopt", "rsa_pss_saltlen:64"}},
		{"p384", spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA384}, []string{"-digest", "sha384"}},
		{"ed25519", spki.SignatureAlgorithm{Scheme: spki.EdDSA}, nil},
	} {
		t.Run(tt.key+" "+tt.alg.String(), func(t *testing.T) {
			signer, in := keys[tt.key].signer, write(t, "message", message)

			// 1. We sign, OpenSSL verifies with the key's own type.
			signature, err := tt.alg.Sign(signer, message)
			if err != nil {
				t.Fatal(err)
			}
			der, err := spki.MarshalPublicKey(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			pub := write(t, "pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			tooltest.Run(t, "openssl", append([]string{"pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", pub, "-in", in,
				"-sigfile", write(t, "signature", signature)}, tt.args...)...)

			// 2. OpenSSL signs with the same key, and we verify.
			plain, err := x509.MarshalPKCS8PrivateKey(keys[tt.key].plain)
			if err != nil {
				t.Fatal(err)
			}
			args := tt.args
			if tt.alg.Scheme == spki.PSS && tt.key != "rsa" {
				args = append([]string{"-pkeyopt", "rsa_padding_mode:pss"}, args...)
			}
			private := write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: plain}))
			theirs := tooltest.Run(t, "openssl", append([]string{"pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", in}, args...)...)
			if err := tt.alg.Verify(signer.Public(), message, theirs); err != nil {
				t.Error(err)
			}

			// 3. Neither another message nor a changed signature passes.
			if err := tt.alg.Verify(signer.Public(), []byte("another"), theirs); !errors.Is(err, spki.ErrSignature) {
				t.Errorf("another message: %v", err)
			}
			theirs[len(theirs)-1] ^= 1
			if err := tt.alg.Verify(signer.Public(), message, theirs); !errors.Is(err, spki.ErrSignature) {
				t.Errorf("changed signature: %v", err)
			}
		})
	}
}

// TestSaltLengthIsExact verifies with each salt length but the right one.
func TestSaltLengthIsExact(t *testing.T) {
	signer := signers(t)["pss"].signer
	right := spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}
	signature, err := right.Sign(signer, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	for salt := -2; salt < 70; salt++ {
		a := right
		a.SaltLength = salt
		if err := a.Verify(signer.Public(), []byte("m"), signature); (err == nil) != (salt == 32) {
			t.Errorf("salt %d: %v", salt, err)
		}
	}
}
