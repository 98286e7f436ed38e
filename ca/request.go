package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// CertificateRequest is a parsed PKCS#10 request (RFC 2986).
type CertificateRequest struct {
	*x509.CertificateRequest
	Key crypto.PublicKey

	// Algorithm is that of the signature. It is zero, and AlgorithmError says
	// why, when this program can't verify it; ParseRequest returns no such one.
	Algorithm      spki.SignatureAlgorithm
	AlgorithmError error
}

// ParseRequest reads one request, DER or a single PEM block, and checks its
// proof of possession: the error wraps spki.ErrSignature when that is bad.
func ParseRequest(data []byte) (*CertificateRequest, error) {
	r, err := ParseUnprovenRequest(data)
	if err != nil {
		return nil, err
	}
	if err := r.CheckProof(); err != nil {
		return nil, err
	}
	return r, nil
}

// ParseUnprovenRequest is ParseRequest for a request that is only looked at:
// nothing says that its sender has the private key. See CheckProof.
func ParseUnprovenRequest(data []byte) (*CertificateRequest, error) {
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
	r.Algorithm, r.AlgorithmError = spki.ParseSignatureAlgorithm(algorithm)
	if r.AlgorithmError != nil {
		// The OpenSSL provider for TPMs (tpm2-openssl 1.1) writes NULL where RFC
		// 5758, Section 3.2 has no parameters. Nothing of it gets into a certificate.
		if a, err := spki.ParseSignatureAlgorithm(withoutNull(algorithm)); err == nil && a.Scheme == spki.ECDSA {
			r.Algorithm, r.AlgorithmError = a, nil
		}
	}
	return r, nil
}

// withoutNull takes NULL parameters out of an AlgorithmIdentifier.
func withoutNull(algorithm []byte) []byte {
	input := cryptobyte.String(algorithm)
	var seq, oid cryptobyte.String
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Element(&oid, cbasn1.OBJECT_IDENTIFIER) || !bytes.Equal(seq, []byte{5, 0}) {
		return algorithm
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(oid) })
	return b.BytesOrPanic()
}

// CheckProof verifies the request's signature with the key that it asks a
// certificate for. The error wraps spki.ErrSignature when that is bad.
func (r *CertificateRequest) CheckProof() error {
	if r.AlgorithmError != nil {
		return fmt.Errorf("certificate request: %w", r.AlgorithmError)
	}
	if err := r.Algorithm.Verify(r.Key, r.RawTBSCertificateRequest, r.Signature); err != nil {
		return fmt.Errorf("certificate request: proof of possession: %w", err)
	}
	return nil
}

// Subject returns the name that the request asks for.
func (r *CertificateRequest) Subject() Name { return Name(r.RawSubject) }

// NewRequest makes a request for a certificate of the key under a name: PKCS#10
// without attributes, in DER, signed with the key itself.
func NewRequest(subject Name, key crypto.Signer, algorithm spki.SignatureAlgorithm) ([]byte, error) {
	public, err := spki.MarshalPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddBytes(subject)
		b.AddBytes(public)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {})
	})
	info, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	signature, err := algorithm.Sign(key, info)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	id, err := algorithm.Marshal()
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddBytes(id)
		b.AddASN1BitString(signature)
	})
	der, err := out.Bytes()
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if _, err := ParseRequest(der); err != nil { // what the signer returned
		return nil, err
	}
	return der, nil
}
