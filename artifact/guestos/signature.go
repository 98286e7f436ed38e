package guestos

import (
	"crypto"
	"crypto/rsa"
	"fmt"

	"tmpki/spki"
)

// MaxSignature bounds a signature file, in octets: RSA of spki.MaxRSABits.
const MaxSignature = spki.MaxRSABits / 8

// SignatureAlgorithm returns how a key signs configs: the platform's daemon takes
// RSASSA-PSS with SHA-512 and a salt of exactly 64 octets from an id-RSASSA-PSS
// key, and PKCS#1 v1.5 with SHA-512 from an rsaEncryption key. It reads no other
// keys, and no restricted ones but for SHA-512.
func SignatureAlgorithm(key crypto.PublicKey) (spki.SignatureAlgorithm, error) {
	var a spki.SignatureAlgorithm
	switch key.(type) {
	case *spki.PSSPublicKey:
		a = spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: crypto.SHA512.Size()}
	case *rsa.PublicKey:
		a = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}
	default:
		t, err := spki.KeyTypeOf(key)
		if err != nil {
			return a, err
		}
		return a, fmt.Errorf("the platform's daemon can't verify configs with a key of type %v: use rsa or rsa-pss", t)
	}
	return a, a.Fits(key)
}

// SignText signs the octets of a config file. The result is what stands in
// NAME.sig: the raw signature, without encoding or newline.
func SignText(text []byte, signer crypto.Signer) ([]byte, error) {
	a, err := SignatureAlgorithm(signer.Public())
	if err != nil {
		return nil, err
	}
	return a.Sign(signer, text)
}

// VerifyText checks the raw signature of a config file the way the platform's
// daemon does. The error wraps spki.ErrSignature if it is another's, or over
// other octets.
func VerifyText(text, signature []byte, key crypto.PublicKey) error {
	a, err := SignatureAlgorithm(key)
	if err != nil {
		return err
	}
	return a.Verify(key, text, signature)
}
