package keys_test

import (
	"bytes"
	"crypto"
	"encoding/hex"
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

func keyType(t testing.TB, s string) spki.KeyType {
	t.Helper()
	k, err := spki.ParseKeyType(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func uri(t testing.TB, s string) keys.URI {
	t.Helper()
	u, err := keys.ParseURI(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// allowed are the algorithms that a key made for a use may be used with.
func allowed(key crypto.PublicKey, use keys.TokenUse) []spki.SignatureAlgorithm {
	var list []spki.SignatureAlgorithm
	for _, a := range spki.Algorithms(key) {
		if use.Type.Kind == spki.RSA && a.Scheme == spki.PSS && !use.PSS {
			continue
		}
		list = append(list, a)
	}
	return list
}

// suiteTypes are the keys that the suite runs on, over every kind of signer.
var suiteTypes = []string{"rsa:2048", "rsa-pss:2048", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"}

func TestSuiteFiles(t *testing.T) {
	for _, s := range suiteTypes {
		t.Run(s, func(t *testing.T) {
			signer, err := keys.Generate(keyType(t, s))
			if err != nil {
				t.Fatal(err)
			}
			pem, err := keys.MarshalPEM(signer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if signer, err = keys.ParsePEM(pem, nil); err != nil {
				t.Fatal(err)
			}
			keytest.Signer(t, signer, keyType(t, s), spki.Algorithms(signer.Public())...)
		})
	}
}

// importTypes are some of them: to import one wrapped, the token makes an RSA key.
var importTypes = []string{"rsa-pss:2048", "ec:P-521", "ed25519"}

func TestSuiteTokens(t *testing.T) {
	h := keytest.SoftHSM(t, "suite")
	for _, s := range append(suiteTypes, "rsa:2048 with PSS") {
		t.Run(s, func(t *testing.T) {
			name, _, pss := strings.Cut(s, " with ")
			use := keys.TokenUse{Type: keyType(t, name), PSS: pss}
			u := uri(t, "pkcs11:token=suite;object="+strings.NewReplacer(":", "_", " ", "_").Replace(s))
			if err := keys.CheckToken(u, use); err != nil {
				t.Fatal(err)
			}
			if sight := keys.Look(u)[0]; sight.Key != nil || sight.Err != nil {
				t.Fatalf("before: %+v", sight)
			}
			made, isNew, err := keys.GenerateInToken(u, use)
			if err != nil || !isNew {
				t.Fatal(isNew, err)
			}
			keytest.Signer(t, made, use.Type, allowed(made.Public(), use)...)
			// A run that died after this would find it again.
			again, isNew, err := keys.GenerateInToken(u, use)
			if err != nil || isNew || !spki.Equal(again.Public(), made.Public()) {
				t.Fatal(isNew, err)
			}
			opened, err := keys.Open(".", u, nil)
			if err != nil {
				t.Fatal(err)
			}
			if opened = keys.AsType(opened, use.Type); !spki.Equal(opened.Public(), made.Public()) {
				t.Error("another key is opened")
			}
			if sight := keys.Look(u)[0]; sight.Err != nil || !spki.Equal(keys.InToken(made).Public(), sight.Key) {
				t.Errorf("after: %+v", sight)
			}
			if _, err := keys.MarshalPKCS8(made); err == nil {
				t.Error("the key is exported")
			}
			list, err := keys.ListTokens(u)
			if err != nil || len(list) != 1 || len(list[0].Objects) != 2 {
				t.Fatalf("%+v, %v", list, err)
			}
			for _, o := range list[0].Objects {
				if p := o.Private; p != nil && (!p.Sensitive || p.Extractable || !p.Local || strings.Join(p.Uses, " ") != "sign" || len(p.Mechanisms) == 0) {
					t.Errorf("%+v", p)
				}
			}
		})
	}
	// What others see of such a key.
	out := h.Tool(t, "suite", "--list-objects", "--type", "privkey")
	for _, want := range []string{"sensitive", "never extractable", "Allowed mechanisms"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("pkcs11-tool shows no %q:\n%s", want, out)
		}
	}
	if bytes.Contains(out, []byte("decrypt")) || bytes.Contains(out, []byte("unwrap")) || bytes.Contains(out, []byte("derive")) {
		t.Errorf("a key is for more than signing:\n%s", out)
	}
	// And a signature that is not made here.
	u := uri(t, "pkcs11:token=suite;object=rsa_2048")
	signer, err := keys.Open(".", u, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := spki.MarshalPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir+"/message", []byte("message"))
	writeFile(t, dir+"/key.der", der)
	list, err := keys.ListTokens(u)
	if err != nil {
		t.Fatal(err)
	}
	h.Tool(t, "suite", "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", hex.EncodeToString(list[0].Objects[0].ID), "--input-file", dir+"/message", "--output-file", dir+"/signature")
	tooltest.Run(t, "openssl", "dgst", "-sha256", "-verify", dir+"/key.der", "-keyform", "DER", "-signature", dir+"/signature", dir+"/message")
}

func TestImportToToken(t *testing.T) {
	keytest.SoftHSM(t, "import")
	for _, s := range importTypes {
		for _, wrapped := range []bool{false, true} {
			name := strings.ReplaceAll(s, ":", "_") + map[bool]string{true: "_wrapped"}[wrapped]
			t.Run(name, func(t *testing.T) {
				use := keys.TokenUse{Type: keyType(t, s)}
				signer, err := keys.Generate(use.Type)
				if err != nil {
					t.Fatal(err)
				}
				u := uri(t, "pkcs11:token=import;object="+name)
				moved, err := keys.ImportToToken(u, use, signer, wrapped)
				if wrapped && use.Type.Kind == spki.Ed25519 { // SoftHSM unwraps no such keys
					if list, err := keys.ListTokens(u); err != nil || len(list[0].Objects) > 0 {
						t.Errorf("a failed import leaves %+v, %v", list, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if !spki.Equal(moved.Public(), signer.Public()) {
					t.Fatal("another key")
				}
				keytest.Signer(t, moved, use.Type, allowed(moved.Public(), use)...)
				if _, err := keys.ImportToToken(u, use, signer, wrapped); !errors.Is(err, fs.ErrExist) {
					t.Errorf("a second import: %v", err)
				}
				if err := keys.InToken(moved).Destroy(); err != nil {
					t.Fatal(err)
				}
				if _, err := keys.Open(".", u, nil); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("after Destroy: %v", err)
				}
			})
		}
	}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
