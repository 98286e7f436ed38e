//go:build !cgo

package keys_test

import (
	"errors"
	"testing"

	"tmpki/keys"
)

// TestWithoutCgo: a program that was built without cgo says that it has no PKCS#11,
// whatever it is asked to do with a token. make test runs it.
func TestWithoutCgo(t *testing.T) {
	if keys.HavePKCS11() {
		t.Fatal("PKCS#11 is there")
	}
	u := uri(t, "pkcs11:token=a;object=b?module-path=/usr/lib/libsofthsm2.so")
	use := keys.TokenUse{Type: keyType(t, "ec:P-256")}
	_, open := keys.Open(".", u, nil)
	_, _, generate := keys.GenerateInToken(u, use)
	_, list := keys.ListTokens(u)
	_, certs := keys.CertificatesAt(u)
	for name, err := range map[string]error{
		"Open": open, "GenerateInToken": generate, "ListTokens": list, "CertificatesAt": certs,
		"CheckToken": keys.CheckToken(u, use), "Look": keys.Look(u)[0].Err, "Login": keys.Login(u, true), "StoreCertificate": keys.StoreCertificate(u, nil),
	} {
		if name != "StoreCertificate" && !errors.Is(err, keys.ErrNoPKCS11) || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
