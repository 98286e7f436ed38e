package keytest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"
	"testing"

	"tmpki/spki"
)

// Signer runs the suite on a signer of type want, whose key may be used with the
// given algorithms: all others must fail.
func Signer(t *testing.T, signer crypto.Signer, want spki.KeyType, allowed ...spki.SignatureAlgorithm) {
	t.Helper()
	if is, err := spki.KeyTypeOf(signer.Public()); err != nil || is != want {
		t.Fatalf("a signer of type %v, %v; want %v", is, err, want)
	}
	may := map[spki.SignatureAlgorithm]bool{}
	for _, a := range allowed {
		may[a] = true
	}
	message := []byte("what is signed")
	for _, a := range spki.Algorithms(signer.Public()) {
		t.Run(a.String(), func(t *testing.T) {
			signature, err := a.Sign(signer, message) // which verifies
			if may[a] != (err == nil) {
				t.Fatalf("signing: %v; allowed: %v", err, may[a])
			}
			if err == nil && a.Verify(signer.Public(), append(message, '!'), signature) == nil {
				t.Error("the signature fits another message")
			}
		})
	}
	t.Run("concurrently", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for _, a := range allowed {
					if _, err := a.Sign(signer, fmt.Append(nil, i)); err != nil {
						t.Errorf("%v: %v", a, err)
					}
				}
			})
		}
		all.Wait()
	})
	t.Run("refuses", func(t *testing.T) {
		for name, opts := range map[string]crypto.SignerOpts{
			"SHA-1":           crypto.SHA1,
			"SHA-1 with PSS":  &rsa.PSSOptions{Hash: crypto.SHA1, SaltLength: 20},
			"a short digest":  crypto.SHA256,
			"short, with PSS": &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 32},
			"a negative salt": &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: -7},
		} {
			digest := make([]byte, 16)
			if want.Kind == spki.EC {
				continue // crypto/ecdsa takes digests of any length and name
			}
			if signature, err := signer.Sign(rand.Reader, digest, opts); err == nil {
				t.Errorf("%s: signed: %x", name, signature)
			}
		}
	})
}
