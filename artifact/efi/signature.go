package efi

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/cms"
	"tmpki/spki"
)

// Object identifiers of Authenticode ("Windows Authenticode Portable Executable
// Signature Format", section "SpcIndirectDataContent" and following).
var (
	oidIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}  // SPC_INDIRECT_DATA_OBJID
	oidOpusInfo     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 12} // SPC_SP_OPUS_INFO_OBJID
	oidPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15} // SPC_PE_IMAGE_DATAOBJ
)

// EDK II looks for the digest algorithm at a fixed place, where it is if all
// lengths before it take two octets (DxeImageVerificationLib).
const (
	minSignatureSize = 0x100
	maxSignatureSize = 0xffff
)

// Signature is one signature of an image, as found. It says who claims to have
// signed; only Verify tells whether that is so.
type Signature struct {
	// DER is the PKCS #7 message, without padding.
	DER []byte

	// Err tells why firmware can't use the signature, such as an algorithm that
	// it does not take. The fields below are then not to be relied upon, and
	// may be nil. Whether it is for this image is not a question here.
	Err error

	// Hash and Digest are what was signed: the image's Authenticode digest.
	Hash   crypto.Hash
	Digest []byte

	// Signer is the certificate, in DER, that names itself the signer's.
	Signer []byte

	// Certificates are all certificates in the message, each in DER.
	Certificates [][]byte

	// Time is the signing time that the signer claims, in UTC, or the zero time.
	Time time.Time

	message *cms.SignedData
}

// Signatures returns the signatures of the image, in the order of the
// certificate table, with those that firmware could not use.
func (img *Image) Signatures() []Signature {
	var signatures []Signature
	for _, der := range img.entries {
		s := Signature{DER: bytes.Clone(der)}
		s.Err = s.parse()
		signatures = append(signatures, s)
	}
	return signatures
}

// parse fills in what s.DER says.
func (s *Signature) parse() error {
	// 1. A message of one signer, whose certificate is there.
	if n := len(s.DER); n < minSignatureSize || n > maxSignatureSize {
		return fmt.Errorf("a message of %d octets, outside %d to %d", n, minSignatureSize, maxSignatureSize)
	}
	message, err := cms.Parse(s.DER)
	if err != nil {
		return err
	}
	s.message, s.Certificates = message, message.Certificates
	if n := len(message.Signers); n != 1 {
		return fmt.Errorf("%d signers, not 1", n)
	}
	signer := &message.Signers[0]
	if s.Signer, err = message.Certificate(signer); err != nil {
		return err
	}
	if s.Time, err = signer.SigningTime(); err != nil {
		return err
	}

	// 2. What was signed is the digest of an image.
	if !message.ContentType.Equal(oidIndirectData) || message.Content == nil {
		return fmt.Errorf("the content is of type %v, not the digest of an image (%v)", message.ContentType, oidIndirectData)
	}
	if s.Hash, s.Digest, err = parseIndirectData(message.Content); err != nil {
		return err
	}

	// 3. All in the algorithms that firmware takes. It hashes the image with
	// what the message hashes with.
	if signer.SignedAttributes == nil {
		return errors.New("no signed attributes")
	}
	if signer.Issuer == nil {
		return errors.New("the signer is named by its key, not by issuer and serial")
	}
	if signer.Algorithm != firmwareAlgorithm(signer.Algorithm.Hash) {
		return fmt.Errorf("the signature is %v: firmware takes RSA PKCS#1 v1.5 only", signer.Algorithm)
	}
	if s.Hash != signer.Algorithm.Hash {
		return fmt.Errorf("the image is hashed with %v, but the signature is %v", s.Hash, signer.Algorithm)
	}
	return nil
}

// firmwareAlgorithm returns the only signature algorithm with a hash that EDK II
// takes.
func firmwareAlgorithm(hash crypto.Hash) spki.SignatureAlgorithm {
	return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: hash}
}

// marshalIndirectData writes SpcIndirectDataContent: this digest is of a PE image.
// In SpcPeImageData the specification wants no flags, and as the file's name an
// SpcLink, [2], to an SpcString, [0], of UCS-2 text that says "<<<Obsolete>>>".
func marshalIndirectData(hash crypto.Hash, digest []byte) ([]byte, error) {
	const name = "<<<Obsolete>>>"
	var ucs2 []byte
	for _, c := range []byte(name) {
		ucs2 = append(ucs2, 0, c)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPEImageData)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.BIT_STRING, func(b *cryptobyte.Builder) { b.AddUint8(0) })
				b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(ucs2) })
					})
				})
			})
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(spki.HashOID(hash))
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(digest)
		})
	})
	return b.Bytes()
}

// parseIndirectData reads SpcIndirectDataContent. EDK II takes the last octets
// of it for the digest: nothing may follow.
func parseIndirectData(der []byte) (crypto.Hash, []byte, error) {
	malformed := errors.New("SpcIndirectDataContent is malformed")
	input := cryptobyte.String(der)
	var body, data, info, algorithm, digest, null cryptobyte.String
	var dataType, hashType asn1.ObjectIdentifier // pesign has an odd dataType, which firmware does not look at
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !input.Empty() ||
		!body.ReadASN1(&data, cbasn1.SEQUENCE) ||
		!body.ReadASN1(&info, cbasn1.SEQUENCE) || !body.Empty() ||
		!data.ReadASN1ObjectIdentifier(&dataType) || !data.SkipASN1(cbasn1.SEQUENCE) || !data.Empty() ||
		!info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&digest, cbasn1.OCTET_STRING) || !info.Empty() ||
		!algorithm.ReadASN1ObjectIdentifier(&hashType) {
		return 0, nil, malformed
	}
	if !algorithm.Empty() && (!algorithm.ReadASN1(&null, cbasn1.NULL) || !null.Empty() || !algorithm.Empty()) {
		return 0, nil, malformed
	}
	hash := spki.HashByOID(hashType)
	if hash == 0 {
		return 0, nil, fmt.Errorf("SpcIndirectDataContent: digest algorithm %v is not supported", hashType)
	}
	if len(digest) != hash.Size() {
		return 0, nil, fmt.Errorf("SpcIndirectDataContent: a digest of %d octets for %v", len(digest), hash)
	}
	return hash, digest, nil
}
