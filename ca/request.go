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

// CertificateRequest is a parsed PKCS#10 request (RFC 2986).
type CertificateRequest struct {
	*x509.CertificateRequest
	Key       crypto.PublicKey
	Algorithm spki.SignatureAlgorithm
}

// ParseRequest reads one request, DER or a single PEM block, and checks its
// proof of possession: the error wraps spki.ErrSignature when that is bad.
func ParseRequest(data []byte) (*CertificateRequest, error) {
	if len(data) > 2*MaxCertificate {
		return nil, fmt.Errorf("request of %d octets is too large", len(data))
	}
	if block, rest := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			return nil, fmt.Errorf("a %s stands where a certificate request should", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("something follows the certificate request")
		}
		data = block.Bytes
	} else if bytes.Contains(data, []byte("-----BEGIN ")) {
		return nil, errors.New("the PEM block is malformed or cut off")
	}
	parsed, err := x509.ParseCertificateRequest(data)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %v", err)
	}
	r := &CertificateRequest{CertificateRequest: parsed}
	if r.Key, err = spki.ParsePublicKey(parsed.RawSubjectPublicKeyInfo); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	algorithm, err := outerAlgorithm(data)
	if err != nil {
		return nil, err
	}
	if r.Algorithm, err = spki.ParseSignatureAlgorithm(algorithm); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := r.Algorithm.Verify(r.Key, parsed.RawTBSCertificateRequest, parsed.Signature); err != nil {
		return nil, fmt.Errorf("certificate request: proof of possession: %w", err)
	}
	return r, nil
}

// Subject returns the name that the request asks for.
func (r *CertificateRequest) Subject() Name { return Name(r.RawSubject) }
