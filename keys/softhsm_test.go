package keys_test

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/keys"
	"tmpki/keys/keytest"
	"tmpki/spki"
)

func sign(s crypto.Signer) error {
	digest := sha256.Sum256([]byte("message"))
	_, err := spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}.SignDigest(s, digest[:])
	return err
}

// TestWrongPIN: a real token counts.
func TestWrongPIN(t *testing.T) {
	h := keytest.SoftHSM(t, "pins")
	u := uri(t, "pkcs11:token=pins;object=a")
	use := keys.TokenUse{Type: keyType(t, "ec:P-256")}
	if _, _, err := keys.GenerateInToken(u, use); err != nil {
		t.Fatal(err)
	}
	keys.CloseTokens()

	const wrong = "1618033"
	t.Setenv(keys.EnvPIN, wrong)
	for range 3 {
		_, err := keys.Open(".", u, nil)
		if !errors.Is(err, keys.ErrPINWrong) || strings.Contains(err.Error(), wrong) {
			t.Fatal(err)
		}
	}
	// The next process has the right one, but only a person may say so.
	keys.CloseTokens()
	t.Setenv(keys.EnvPIN, keytest.PIN)
	if list, err := keys.ListTokens(u); err != nil || list[0].PIN != "a wrong one was tried" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := keys.Open(".", u, nil); !errors.Is(err, keys.ErrPINNeeded) {
		t.Fatal(err)
	}
	h.Tool(t, "pins", "--list-objects")
	keys.CloseTokens()
	signer, err := keys.Open(".", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign(signer); err != nil {
		t.Error(err)
	}
}

// TestRemoved takes the files of a token away and puts them back.
func TestRemoved(t *testing.T) {
	h := keytest.SoftHSM(t, "here", "there")
	u := uri(t, "pkcs11:token=there;object=a")
	use := keys.TokenUse{Type: keyType(t, "ec:P-256")}
	signer, _, err := keys.GenerateInToken(u, use)
	if err != nil {
		t.Fatal(err)
	}
	dir, away := h.TokenDir(t, "there"), t.TempDir()+"/away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if err := sign(signer); err == nil {
		t.Log("the library signs from memory")
	} else {
		t.Log(err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if err := sign(signer); err != nil {
		t.Errorf("back again: %v", err)
	}
	// A new process looks anew.
	keys.CloseTokens()
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	_, err = keys.Open(".", u, nil)
	if !errors.Is(err, keys.ErrNoToken) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("away: %v", err)
	}
	// What was closed stays closed.
	keys.CloseTokens()
	if err := sign(signer); err == nil || !strings.Contains(err.Error(), "tokens were closed") {
		t.Errorf("after CloseTokens: %v", err)
	}
}

// TestForeignKeys: keys that others made are found by label and id, and used for
// what they may do.
func TestForeignKeys(t *testing.T) {
	h := keytest.SoftHSM(t, "foreign")
	for name, args := range map[string][]string{
		"rsa":       {"--key-type", "rsa:2048", "--id", "01"},
		"no_id":     {"--key-type", "EC:prime256v1"},
		"twice":     {"--key-type", "EC:prime256v1", "--id", "02"},
		"secp256k1": {"--key-type", "EC:secp256k1", "--id", "06"},
	} {
		h.Tool(t, "foreign", append([]string{"--keypairgen", "--label", name}, args...)...)
	}
	h.Tool(t, "foreign", "--keypairgen", "--label", "twice", "--key-type", "EC:prime256v1", "--id", "03")
	for _, row := range []struct{ uri, kind, want string }{
		{"object=rsa", "rsa:2048", ""},
		{"id=%01", "rsa:2048", ""},
		{"object=no_id", "ec:P-256", ""},
		{"object=twice;id=%02", "ec:P-256", ""},
		{"object=twice", "", "2 private objects match"},
		{"object=twice", "", "object=twice;id=%03"},
		{"id=%07", "", "no private object for"},
		{"object=secp256k1", "", "does not tell the public half"},
	} {
		signer, err := keys.Open(".", uri(t, "pkcs11:token=foreign;"+row.uri), nil)
		if row.want != "" {
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v, want %q", row.uri, err, row.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", row.uri, err)
			continue
		}
		keytest.Signer(t, signer, keyType(t, row.kind), spki.Algorithms(signer.Public())...)
		if p := keys.AsType(signer, keyType(t, "rsa-pss:2048")); row.kind == "rsa:2048" {
			keytest.Signer(t, p, keyType(t, "rsa-pss:2048"), spki.Algorithms(p.Public())...)
		} else if p != signer {
			t.Errorf("%s: becomes %T", row.uri, p)
		}
	}
}

// TestStoreCertificate: one certificate lies beside a key, that which was put
// there last.
func TestStoreCertificate(t *testing.T) {
	keytest.SoftHSM(t, "certs")
	u := uri(t, "pkcs11:token=certs;object=a")
	use := keys.TokenUse{Type: keyType(t, "rsa:2048")}
	if _, _, err := keys.GenerateInToken(u, use); err != nil {
		t.Fatal(err)
	}
	signer, err := keys.Generate(use.Type)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pem, err := keys.MarshalPEM(signer, nil)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/key.pem", pem)
	certificate := func(name string, args ...string) []byte {
		tooltest.Run(t, "openssl", append([]string{"req", "-x509", "-new", "-key", dir + "/key.pem", "-subj", "/CN=" + name, "-outform", "DER", "-out", dir + "/cert"}, args...)...)
		der, err := os.ReadFile(dir + "/cert")
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if err := keys.StoreCertificate(u, certificate("foreign")); err == nil || !strings.Contains(err.Error(), "is not of the key") {
		t.Errorf("a certificate of another key: %v", err)
	}
	if err := keys.StoreCertificate(u, []byte("x")); err == nil {
		t.Error("no certificate is stored")
	}
	b := uri(t, "pkcs11:token=certs;object=b")
	if _, err := keys.ImportToToken(b, use, signer, false); err != nil {
		t.Fatal(err)
	}
	one, two := certificate("one"), certificate("two")
	for _, der := range [][]byte{one, two, two, one} {
		if err := keys.StoreCertificate(b, der); err != nil {
			t.Fatal(err)
		}
		if got, err := keys.CertificatesAt(b); err != nil || len(got) != 1 || string(got[0]) != string(der) {
			t.Fatalf("%d certificates, %v", len(got), err)
		}
	}
	if _, _, err := keys.GenerateInToken(b, use); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key in use is taken: %v", err)
	}
}
