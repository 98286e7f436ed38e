package ca

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // CertIDs have it; there it only looks things up
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// Limits of one OCSP request: its octets, the certificates that it asks for, and
// its nonce (RFC 8954, Section 2.1).
const (
	MaxOCSPRequest  = 64 << 10
	maxOCSPRequests = 256
	maxNonce        = 32
)

var (
	oidSHA1      = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidNonce     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
)

// CertID names a certificate by its issuer and serial number (RFC 6960, Section
// 4.1.1).
type CertID struct {
	Hash     crypto.Hash // of the two hashes; 0: one that this program doesn't know
	NameHash []byte
	KeyHash  []byte
	Serial   []byte // magnitude, big-endian; nil if no certificate can have it

	der []byte // as it stands, since the answer repeats it
}

// NewCertID names the certificate with a serial below an issuer. hash is
// crypto.SHA1 or SHA256.
func NewCertID(issuer *Certificate, serial []byte, hash crypto.Hash) (CertID, error) {
	algorithm, err := certIDAlgorithm(hash)
	if err != nil {
		return CertID{}, err
	}
	id := CertID{Hash: hash, Serial: serial}
	if id.NameHash, id.KeyHash, err = issuerHashes(issuer, hash); err != nil {
		return CertID{}, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithmNull(b, algorithm)
		b.AddASN1OctetString(id.NameHash)
		b.AddASN1OctetString(id.KeyHash)
		b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) {
			if len(serial) > 0 && serial[0] >= 0x80 {
				b.AddUint8(0)
			}
			b.AddBytes(serial)
		})
	})
	id.der, err = b.Bytes()
	return id, err
}

// IssuedBy reports whether the name and the key are those of an issuer.
func (id CertID) IssuedBy(issuer *Certificate) bool {
	if id.Hash == 0 {
		return false
	}
	name, key, err := issuerHashes(issuer, id.Hash)
	return err == nil && bytes.Equal(name, id.NameHash) && bytes.Equal(key, id.KeyHash)
}

func certIDAlgorithm(hash crypto.Hash) (asn1.ObjectIdentifier, error) {
	if hash == crypto.SHA1 {
		return oidSHA1, nil
	}
	if oid := spki.HashOID(hash); oid != nil {
		return oid, nil
	}
	return nil, fmt.Errorf("hash %v is not one for a CertID", hash)
}

func addAlgorithmNull(b *cryptobyte.Builder, oid asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1NULL()
	})
}

// issuerHashes hashes the name and the key of an issuer, the latter without tag,
// length and unused bits.
func issuerHashes(issuer *Certificate, hash crypto.Hash) (name, key []byte, err error) {
	bits, err := keyBits(issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, nil, err
	}
	sum := func(data []byte) []byte {
		h := hash.New()
		h.Write(data)
		return h.Sum(nil)
	}
	return sum(issuer.RawSubject), sum(bits), nil
}

func keyBits(der []byte) ([]byte, error) {
	input := cryptobyte.String(der)
	var info cryptobyte.String
	var bits asn1.BitString
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.ReadASN1BitString(&bits) {
		return nil, errors.New("malformed public key")
	}
	return bits.Bytes, nil
}

// OCSPRequest is a parsed OCSP request (RFC 6960, Section 4.1).
type OCSPRequest struct {
	CertIDs []CertID
	Nonce   []byte // nil: none
}

// ParseOCSPRequest reads one DER request. It refuses trailing data, critical
// extensions that it doesn't know, and a nonce of another length than 1 to 32
// octets. A signature of the requestor is passed over, since nothing here depends
// on who asks.
func ParseOCSPRequest(der []byte) (*OCSPRequest, error) {
	if len(der) > MaxOCSPRequest {
		return nil, fmt.Errorf("OCSP request of %d octets is larger than %d", len(der), MaxOCSPRequest)
	}
	r, err := parseOCSPRequest(der)
	if err != nil {
		return nil, fmt.Errorf("OCSP request: %w", err)
	}
	return r, nil
}

func parseOCSPRequest(der []byte) (*OCSPRequest, error) {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	malformed := errors.New("malformed")
	input := cryptobyte.String(der)
	var outer, tbs, skipped, list, extensions cryptobyte.String
	var has bool
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil, malformed
	}
	if !outer.ReadOptionalASN1(&skipped, &has, tag(0)) || !outer.Empty() || has && (!skipped.SkipASN1(cbasn1.SEQUENCE) || !skipped.Empty()) {
		return nil, malformed
	}
	// Version 1 is the DEFAULT, which DER leaves out; OpenSSL takes it there.
	if !tbs.ReadOptionalASN1(&skipped, &has, tag(0)) || has && !bytes.Equal(skipped, []byte{2, 1, 0}) {
		return nil, errors.New("is not of version 1")
	}
	if !tbs.ReadOptionalASN1(&skipped, &has, tag(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) || list.Empty() ||
		!tbs.ReadOptionalASN1(&extensions, &has, tag(2)) || !tbs.Empty() {
		return nil, malformed
	}
	r := &OCSPRequest{}
	if has {
		all, err := readExtensions(extensions)
		if err != nil {
			return nil, err
		}
		for _, x := range all {
			switch {
			case x.Id.Equal(oidNonce):
				if r.Nonce, err = parseNonce(x.Value); err != nil {
					return nil, err
				}
			case x.Critical:
				return nil, fmt.Errorf("critical extension %v is unknown", x.Id)
			}
		}
	}
	for !list.Empty() {
		var one cryptobyte.String
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) {
			return nil, malformed
		}
		id, err := readCertID(&one)
		if err != nil {
			return nil, err
		}
		if !one.ReadOptionalASN1(&extensions, &has, tag(0)) || !one.Empty() {
			return nil, malformed
		}
		if has {
			all, err := readExtensions(extensions)
			if err != nil {
				return nil, err
			}
			for _, x := range all {
				if x.Critical {
					return nil, fmt.Errorf("critical extension %v is unknown", x.Id)
				}
			}
		}
		if r.CertIDs = append(r.CertIDs, id); len(r.CertIDs) > maxOCSPRequests {
			return nil, fmt.Errorf("asks for more than %d certificates", maxOCSPRequests)
		}
	}
	return r, nil
}

func parseNonce(der []byte) ([]byte, error) {
	input := cryptobyte.String(der)
	var nonce cryptobyte.String
	if !input.ReadASN1(&nonce, cbasn1.OCTET_STRING) || !input.Empty() {
		return nil, errors.New("malformed nonce")
	}
	if len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, fmt.Errorf("nonce of %d octets, want 1 to %d", len(nonce), maxNonce)
	}
	return nonce, nil
}

func readCertID(s *cryptobyte.String) (CertID, error) {
	malformed := errors.New("malformed CertID")
	var id CertID
	var element, seq, algorithm, name, key, serial cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !s.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return id, malformed
	}
	id.der = element
	if !element.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!seq.ReadASN1(&name, cbasn1.OCTET_STRING) || !seq.ReadASN1(&key, cbasn1.OCTET_STRING) || !seq.ReadASN1(&serial, cbasn1.INTEGER) || !seq.Empty() {
		return id, malformed
	}
	if !algorithm.Empty() && !bytes.Equal(algorithm, []byte{5, 0}) {
		return id, malformed
	}
	if len(serial) == 0 || len(serial) > 64 {
		return id, malformed
	}
	id.NameHash, id.KeyHash = name, key
	id.Serial, _ = magnitude(serial)
	if oid.Equal(oidSHA1) {
		id.Hash = crypto.SHA1
	} else {
		id.Hash = spki.HashByOID(oid)
	}
	if id.Hash != 0 && (len(name) != id.Hash.Size() || len(key) != id.Hash.Size()) {
		return id, fmt.Errorf("CertID: hashes of %d and %d octets are not %v", len(name), len(key), id.Hash)
	}
	return id, nil
}

// MarshalOCSPRequest writes a request without a signature.
func MarshalOCSPRequest(r OCSPRequest) ([]byte, error) {
	tag := cbasn1.Tag(2).ContextSpecific().Constructed()
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range r.CertIDs {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(id.der) })
				}
			})
			if r.Nonce != nil {
				b.AddASN1(tag, func(b *cryptobyte.Builder) { addExtensions(b, []extension{nonceExtension(r.Nonce)}) })
			}
		})
	})
	return b.Bytes()
}

func nonceExtension(nonce []byte) extension {
	var b cryptobyte.Builder
	b.AddASN1OctetString(nonce)
	return extension{oidNonce, false, b.BytesOrPanic()}
}
