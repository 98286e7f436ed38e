package spki_test

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tmpki/spki"
)

// TestWriteSeeds makes testdata/fuzz anew, on demand only.
func TestWriteSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	save := func(fuzzer, name string, der []byte) {
		dir := filepath.Join("testdata", "fuzz", fuzzer)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", der), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range signers(t) {
		der, err := spki.MarshalPublicKey(key.signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		save("FuzzParsePublicKey", name, der)
	}
	bare := goodPSS(t)
	bare.trailer = tlv(0xa3, []byte{2, 1, 1})
	save("FuzzParsePublicKey", "trailer", publicKey(t, bare.der(), modulus(2048), 3))
	save("FuzzParseSignatureAlgorithm", "trailer", bare.der())
	for name, a := range map[string]spki.SignatureAlgorithm{
		"v15":     {Scheme: spki.PKCS1v15, Hash: crypto.SHA256},
		"ecdsa":   {Scheme: spki.ECDSA, Hash: crypto.SHA384},
		"ed25519": {Scheme: spki.EdDSA},
		"pss":     {Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64},
		"pss20":   {Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 20},
	} {
		der, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		save("FuzzParseSignatureAlgorithm", name, der)
	}
}
