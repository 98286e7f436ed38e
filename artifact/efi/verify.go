package efi

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"tmpki/spki"
)

// Databases are what a platform has in db and dbx.
type Databases struct {
	Certificates [][]byte   // db: trusted certificates, in DER
	Images       [][32]byte // db: images that may run, by Digest with SHA-256

	RevokedCertificates [][]byte   // dbx: certificates, in DER
	RevokedImages       [][32]byte // dbx: images, by Digest with SHA-256

	// RevokedTBS are certificates in dbx by the SHA-256 of their
	// TBSCertificate (EFI_CERT_X509_SHA256_GUID). A time of revocation is not
	// looked at, since timestamps are not: they are revoked for all times.
	RevokedTBS [][32]byte
}

// Allowed says why a platform would run an image.
type Allowed struct {
	Digest [32]byte // of the image, SHA-256

	// Signature is the first one that db trusts, or nil if db has the image's
	// hash and trusts no signature.
	Signature *Signature

	// Chain are the certificates from the signer's to one that db has, each in
	// DER. It is that one alone if db has the signer's.
	Chain [][]byte
}

// Reason is why a platform would not run an image.
type Reason int

const (
	Unsigned           Reason = iota + 1 // no signature, and db does not have its hash
	Unusable                             // the signature is not in a form that firmware takes
	Altered                              // the signature is for another image
	BadSignature                         // the signature is not made with the signer's key
	Untrusted                            // no certificate in db issued the signer's, or is it
	RevokedImage                         // dbx has the image's hash
	RevokedCertificate                   // dbx has the signer's certificate, or one above it
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case Unsigned:
		return "unsigned"
	case Unusable:
		return "unusable signature"
	case Altered:
		return "altered"
	case BadSignature:
		return "bad signature"
	case Untrusted:
		return "untrusted signer"
	case RevokedImage:
		return "revoked image"
	case RevokedCertificate:
		return "revoked certificate"
	default:
		return fmt.Sprintf("unknown reason %d", int(r))
	}
}

// DeniedError says why a platform would not run an image. It is the only error
// of Verify that is a verdict.
type DeniedError struct {
	Reason Reason // if no signature is any good: what is wrong with the first
	Digest [32]byte
	Err    error // the details, of all signatures
}

// Error returns reason and details.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("EFI image %x: %v: %v", e.Digest, e.Reason, e.Err)
}

// Unwrap returns the details.
func (e *DeniedError) Unwrap() error { return e.Err }

// Verify tells whether firmware with Secure Boot on would run the image (UEFI
// 2.10, Section 32.5.3.3, and EDK II's DxeImageVerificationLib): dbx has not its
// hash, no valid signature leads to a certificate in dbx, and a valid signature
// leads to a certificate in db, over certificates in the signature itself, or db
// has the image's hash. Dates and extended key usage don't matter; a certificate
// that issued another must be one of a CA, even in db. An image that would not
// run is a *DeniedError; any other error is no verdict.
//
// It is stricter than EDK II where that costs nobody anything: RevokedImages
// count whatever hash the signatures use, and certificates signed with SHA-1 or
// issued by version 1 certificates lead nowhere.
func (img *Image) Verify(databases Databases) (*Allowed, error) {
	// 1. Read the databases: of one that can't be read in full, no verdict.
	trusted, err := parseCertificates("db", databases.Certificates)
	if err != nil {
		return nil, err
	}
	revoked, err := parseCertificates("dbx", databases.RevokedCertificates)
	if err != nil {
		return nil, err
	}

	// 2. Hash the image, with all that its signatures need.
	signatures := img.Signatures()
	algorithms := []crypto.Hash{crypto.SHA256}
	// Firmware looks in db for the hashes that signatures use, else for SHA-256.
	lookUp := len(signatures) == 0
	for _, s := range signatures {
		if s.Err == nil && !slices.Contains(algorithms, s.Hash) {
			algorithms = append(algorithms, s.Hash)
		}
		lookUp = lookUp || s.Hash == crypto.SHA256
	}
	digests, err := img.digests(algorithms...)
	if err != nil {
		return nil, err
	}
	digest := [32]byte(digests[crypto.SHA256])
	if slices.Contains(databases.RevokedImages, digest) {
		return nil, &DeniedError{RevokedImage, digest, errors.New("dbx has the image's hash")}
	}

	// 3. Look at every signature: one that dbx denies outweighs all others.
	allowed := &Allowed{Digest: digest}
	denied := &DeniedError{Unsigned, digest, errors.New("no signature, and db does not have the image's hash")}
	var faults []error
	for i := range signatures {
		s := &signatures[i]
		chain, fault := s.judge(digests, trusted, revoked, databases.RevokedTBS)
		switch {
		case fault != nil && fault.Reason == RevokedCertificate:
			fault.Digest = digest
			return nil, fault
		case fault != nil:
			if i == 0 {
				denied.Reason = fault.Reason
			}
			faults = append(faults, fmt.Errorf("signature %d: %w", i+1, fault.Err))
		case allowed.Signature == nil:
			allowed.Signature, allowed.Chain = s, chain
		}
	}
	if allowed.Signature != nil || lookUp && slices.Contains(databases.Images, digest) {
		return allowed, nil
	}
	if len(faults) > 0 {
		denied.Err = errors.Join(faults...)
	}
	return nil, denied
}

// judge returns the chain over which db trusts the signature, or what is wrong.
func (s *Signature) judge(digests map[crypto.Hash][]byte, trusted, revoked []*x509.Certificate, revokedTBS [][32]byte) ([][]byte, *DeniedError) {
	// 1. The signature is by the signer, and for this image.
	if s.Err != nil {
		return nil, &DeniedError{Reason: Unusable, Err: s.Err}
	}
	if err := s.check(digests); err != nil {
		reason := Unusable
		if !bytes.Equal(s.Digest, digests[s.Hash]) {
			reason = Altered
		} else if errors.Is(err, spki.ErrSignature) {
			reason = BadSignature
		}
		return nil, &DeniedError{Reason: reason, Err: err}
	}

	// 2. Nothing between the signer and the top of its certificates is revoked.
	signer, err := x509.ParseCertificate(s.Signer)
	if err != nil {
		return nil, &DeniedError{Reason: Unusable, Err: fmt.Errorf("the signer's certificate: %v", err)}
	}
	var pool []*x509.Certificate
	for _, der := range s.Certificates {
		if c, err := x509.ParseCertificate(der); err == nil { // else it leads nowhere
			pool = append(pool, c)
		}
	}
	for _, c := range pool {
		if slices.Contains(revokedTBS, sha256.Sum256(c.RawTBSCertificate)) {
			revoked = append(slices.Clip(revoked), c)
		}
	}
	if chain, err := findChain(signer, pool, revoked); err == nil {
		return nil, &DeniedError{Reason: RevokedCertificate, Err: fmt.Errorf("dbx has the certificate of %q, to which that of %q leads", chain[len(chain)-1].Subject, signer.Subject)}
	}

	// 3. It leads to db.
	chain, err := findChain(signer, pool, trusted)
	if err != nil {
		return nil, &DeniedError{Reason: Untrusted, Err: err}
	}
	var ders [][]byte
	for _, c := range chain {
		ders = append(ders, c.Raw)
	}
	return ders, nil
}

// check checks that s is for an image with these digests, and made with the
// signer's key.
func (s *Signature) check(digests map[crypto.Hash][]byte) error {
	if got := digests[s.Hash]; !bytes.Equal(s.Digest, got) {
		return fmt.Errorf("the image's %v is %x, but %x was signed", s.Hash, got, s.Digest)
	}
	signer, err := x509.ParseCertificate(s.Signer)
	if err != nil {
		return fmt.Errorf("the signer's certificate: %v", err)
	}
	pub, err := spki.ParsePublicKey(signer.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", signer.Subject, err)
	}
	return s.message.VerifyEmbedded(&s.message.Signers[0], pub)
}

func parseCertificates(database string, ders [][]byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for i, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %v", database, i+1, err)
		}
		certificates = append(certificates, c)
	}
	return certificates, nil
}
