package keys

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/spki"
)

// TestKeysOfOpenSSL reads what OpenSSL makes, and writes the same octets.
func TestKeysOfOpenSSL(t *testing.T) {
	for _, tt := range []struct {
		typ  string
		args []string
	}{
		{"rsa:2048", []string{"-algorithm", "RSA"}},
		{"rsa-pss:2048", []string{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}},
		{"rsa-pss:2048", []string{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_pss_keygen_md:sha512", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha512", "-pkeyopt", "rsa_pss_keygen_saltlen:64"}},
		{"ec:P-256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}},
		{"ec:P-384", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}},
		{"ec:P-521", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}},
		{"ed25519", []string{"-algorithm", "ED25519"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			data := openssl(t, append([]string{"genpkey"}, tt.args...)...)
			signer, err := ParsePEM(data, nil)
			if err != nil {
				t.Fatal(err)
			}
			if typ, err := spki.KeyTypeOf(signer.Public()); err != nil || typ.String() != tt.typ {
				t.Errorf("key type %v, %v; want %s", typ, err, tt.typ)
			}
			if d, err := Describe(data); err != nil || d.Type.String() != tt.typ || d.Encryption != "" || d.Label != "PRIVATE KEY" {
				t.Errorf("Describe = %+v, %v", d, err)
			}
			if again := mustPEM(t, signer, nil); !bytes.Equal(again, data) {
				t.Error("the key is written with other octets than OpenSSL's")
			}
		})
	}
}

// TestKeysForOpenSSL lets OpenSSL read what we make, plain and encrypted.
func TestKeysForOpenSSL(t *testing.T) {
	for name, signer := range testKeys(t) {
		t.Run(name, func(t *testing.T) {
			plain := mustPEM(t, signer, nil)
			if got := openssl(t, "pkey", "-in", write(t, "key", plain)); !bytes.Equal(got, plain) {
				t.Error("OpenSSL writes another plain key")
			}
			sealed := mustPEM(t, signer, passphrase(t))
			if !IsEncrypted(sealed) || IsEncrypted(plain) {
				t.Error("IsEncrypted is wrong")
			}
			got := openssl(t, "pkey", "-in", write(t, "key", sealed), "-passin", "file:"+write(t, "pass", []byte(secret)))
			if !bytes.Equal(got, plain) {
				t.Error("OpenSSL opens another key")
			}
			again, err := ParsePEM(sealed, passphrase(t))
			if err != nil || !spki.Equal(again.Public(), signer.Public()) {
				t.Errorf("we open another key: %v", err)
			}
			if d, err := Describe(sealed); err != nil || d.Encryption != "PBKDF2-HMAC-SHA-256 with 600000 iterations, AES-256-CBC" {
				t.Errorf("Describe = %+v, %v", d, err)
			}
		})
	}
}

// TestEncryptedByOpenSSL reads the encryptions that OpenSSL can write.
func TestEncryptedByOpenSSL(t *testing.T) {
	pass := "file:" + write(t, "pass", []byte(secret))
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	plain := mustPEM(t, ec, nil)
	in := write(t, "key", plain)
	for _, tt := range []struct{ args, want, refusal string }{
		{"", "PBKDF2-HMAC-SHA-256 with 2048 iterations, AES-256-CBC", ""},
		{"-v2 aes-128-cbc -v2prf hmacWithSHA512", "PBKDF2-HMAC-SHA-512 with 2048 iterations, AES-128-CBC", ""},
		{"-v2 aes-192-cbc -v2prf hmacWithSHA384 -iter 1", "PBKDF2-HMAC-SHA-384 with 1 iterations, AES-192-CBC", ""},
		{"-v2 aes-256-cbc -v2prf hmacWithSHA1", "PBKDF2-HMAC-SHA-1 with 2048 iterations, AES-256-CBC", ""},
		{"-v2 aes-256-cbc -v2prf hmacWithSHA224", "PBKDF2-HMAC-SHA-224 with 2048 iterations, AES-256-CBC", ""},
		{"-v2 des3", "PBKDF2-HMAC-SHA-256 with 2048 iterations, DES-EDE3-CBC", ""},
		{"-scrypt", "scrypt with N=16384, r=8, p=1, AES-256-CBC", ""},
		{"-v2 aes-128-cbc -scrypt -scrypt_N 1024 -scrypt_r 4 -scrypt_p 3", "scrypt with N=1024, r=4, p=3, AES-128-CBC", ""},
		{"-v1 PBE-SHA1-3DES", "", "is not PBES2; convert the key with: openssl pkcs8 -topk8"},
		{"-v2 aes-256-cfb", "", "is not supported"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			args := append([]string{"pkcs8", "-topk8", "-in", in, "-passout", pass}, strings.Fields(tt.args)...)
			sealed := openssl(t, args...)
			d, err := Describe(sealed)
			checkError(t, err, tt.refusal)
			if d.Encryption != tt.want {
				t.Errorf("Describe = %q, want %q", d.Encryption, tt.want)
			}
			signer, err := ParsePEM(sealed, passphrase(t))
			checkError(t, err, tt.refusal)
			if err == nil && !bytes.Equal(mustPEM(t, signer, nil), plain) {
				t.Error("another key comes out")
			}
		})
	}
}

// TestTraditionalForms reads the forms that existing PKIs have.
func TestTraditionalForms(t *testing.T) {
	for name, signer := range testKeys(t) {
		if strings.HasPrefix(name, "pss") || name == "ed25519" {
			continue // they have no traditional form
		}
		t.Run(name, func(t *testing.T) {
			in := write(t, "key", mustPEM(t, signer, nil))
			data := openssl(t, "pkey", "-in", in, "-traditional")
			got, err := ParsePEM(data, nil)
			if err != nil || !spki.Equal(got.Public(), signer.Public()) {
				t.Errorf("%s: %v", data[:30], err)
			}
			encrypted := openssl(t, "pkey", "-in", in, "-traditional", "-aes256", "-passout", "file:"+write(t, "pass", []byte(secret)))
			if !bytes.Contains(encrypted, []byte("DEK-Info")) {
				t.Fatal("OpenSSL wrote another form than the test needs")
			}
			_, err = ParsePEM(encrypted, passphrase(t))
			checkError(t, err, "openssl pkcs8 -topk8")
		})
	}
	t.Run("parameters first", func(t *testing.T) {
		data := openssl(t, "ecparam", "-name", "prime256v1", "-genkey")
		if !bytes.Contains(data, []byte("EC PARAMETERS")) {
			t.Fatal("OpenSSL wrote another form than the test needs")
		}
		if _, err := ParsePEM(data, nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("parameters spelled out", func(t *testing.T) {
		data := openssl(t, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-param_enc", "explicit")
		_, err := ParsePEM(data, nil)
		checkError(t, err, "curve")
	})
	t.Run("curve not in use", func(t *testing.T) {
		_, err := ParsePEM(openssl(t, "ecparam", "-name", "secp256k1", "-genkey", "-noout"), nil)
		checkError(t, err, "curve")
	})
}

// TestNotAKey gives what lies beside the key in a PKI directory.
func TestNotAKey(t *testing.T) {
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	in := write(t, "key", mustPEM(t, ec, nil))
	for name, data := range map[string][]byte{
		"certificate": openssl(t, "req", "-x509", "-new", "-key", in, "-subj", "/CN=test"),
		"request":     openssl(t, "req", "-new", "-key", in, "-subj", "/CN=test"),
		"public key":  openssl(t, "pkey", "-in", in, "-pubout"),
	} {
		if _, err := ParsePEM(data, nil); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
	der := openssl(t, "pkey", "-in", in, "-outform", "DER")
	_, err = ParsePEM(der, nil)
	checkError(t, err, "looks like DER")

	// A PSS key made without an MGF1 hash has SHA-1 there.
	_, err = ParsePEM(openssl(t, "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_pss_keygen_md:sha256"), nil)
	checkError(t, err, "SHA-1 (the default) is not supported")

	// An RSA key whose parts do not belong together.
	block, _ := pem.Decode(openssl(t, "genrsa", "-traditional", "2048"))
	block.Bytes[40] ^= 1
	if _, err := ParsePEM(pem.EncodeToMemory(block), nil); err == nil {
		t.Error("a key with a changed modulus is read")
	}
}

// TestOpenSSLAgreesOnSignatures signs with a key that went through a file.
func TestOpenSSLAgreesOnSignatures(t *testing.T) {
	dir := t.TempDir()
	key := mustPEM(t, testKeys(t)["pss512"], passphrase(t))
	if err := os.WriteFile(filepath.Join(dir, "root.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := Open(dir, URI{Scheme: SchemeFile, Path: "root.key"}, func() (*Passphrase, error) { return passphrase(t), nil })
	if err != nil {
		t.Fatal(err)
	}
	typ, err := spki.KeyTypeOf(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	a, err := spki.DefaultAlgorithm(typ, signer.Public().(*spki.PSSPublicKey).Params.Hash)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := a.Sign(signer, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	openssl(t, "pkeyutl", "-verify", "-rawin", "-digest", "sha512", "-inkey", filepath.Join(dir, "root.key"),
		"-passin", "file:"+write(t, "pass", []byte(secret)), "-in", write(t, "in", []byte("message")), "-sigfile", write(t, "sig", signature))
}
