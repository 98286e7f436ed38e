package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"tmpki/spki"
)

// MaxCRL bounds what is read as one CRL, in octets: room for about 100 000
// revoked certificates.
const MaxCRL = 4 << 20

// RevocationList is a parsed CRL (RFC 5280, Section 5) whose signature
// algorithm is known also where crypto/x509 leaves it out.
type RevocationList struct {
	*x509.RevocationList

	// Algorithm is that of the signature. It is zero, and AlgorithmError says
	// why, when this program can't verify it.
	Algorithm      spki.SignatureAlgorithm
	AlgorithmError error
}

// ParseCRL reads one CRL, DER or a single PEM block. It refuses trailing data
// and version 1. It verifies nothing: see CheckSignature.
func ParseCRL(data []byte) (*RevocationList, error) {
	if len(data) > 2*MaxCRL {
		return nil, fmt.Errorf("CRL of %d octets is too large", len(data))
	}
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("a %q stands where a CRL should", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("something follows the CRL")
		}
		data = block.Bytes
	}
	if len(data) > MaxCRL {
		return nil, fmt.Errorf("CRL of %d octets is larger than %d", len(data), MaxCRL)
	}
	parsed, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("CRL: %v", err)
	}
	algorithm, err := outerAlgorithm(data)
	if err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	l := &RevocationList{RevocationList: parsed}
	l.Algorithm, l.AlgorithmError = spki.ParseSignatureAlgorithm(algorithm)
	return l, nil
}

// Issuer returns the name of the CRL's issuer.
func (l *RevocationList) Issuer() Name { return Name(l.RawIssuer) }

// CheckSignature verifies the CRL's signature with the issuer's key.
func (l *RevocationList) CheckSignature(key crypto.PublicKey) error {
	if l.AlgorithmError != nil {
		return l.AlgorithmError
	}
	return l.Algorithm.Verify(key, l.RawTBSRevocationList, l.Signature)
}
