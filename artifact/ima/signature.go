package ima

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tmpki/spki"
)

// The header of a signature: the type of the attribute, then struct
// signature_v2_hdr with version, hash, key identifier, and the signature's size,
// both big-endian.
const (
	typeDigsig = 3 // EVM_IMA_XATTR_DIGSIG
	version    = 2
	hashSHA256 = 4 // HASH_ALGO_SHA256

	headerSize = 9
	maxOctets  = spki.MaxRSABits / 8
	maxSize    = headerSize + maxOctets
)

// Signature is a parsed signature of version 2, with SHA-256.
type Signature struct {
	KeyID  [4]byte // of the certificate's subject key identifier, the end
	Octets []byte  // the PKCS#1 v1.5 signature
}

// Parse reads security.ima, or FILE.sig. It refuses what is not a signature
// (IMA keeps plain hashes in the same place), other versions and hashes, and
// what is longer or shorter than it says.
func Parse(b []byte) (*Signature, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("IMA signature: %d octets are too few for a header", len(b))
	}
	size := int(binary.BigEndian.Uint16(b[7:9]))
	switch {
	case b[0] != typeDigsig:
		return nil, fmt.Errorf("IMA signature: its type is %#02x, not a signature (%#02x)", b[0], typeDigsig)
	case b[1] != version:
		return nil, fmt.Errorf("IMA signature: its version is %d, not %d", b[1], version)
	case b[2] != hashSHA256:
		return nil, fmt.Errorf("IMA signature: its hash is number %d, not SHA-256 (%d)", b[2], hashSHA256)
	case size == 0 || size > maxOctets:
		return nil, fmt.Errorf("IMA signature: its size is %d, outside 1 to %d", size, maxOctets)
	case size != len(b)-headerSize:
		return nil, fmt.Errorf("IMA signature: its size is %d, but %d octets follow", size, len(b)-headerSize)
	}
	return &Signature{KeyID: [4]byte(b[3:7]), Octets: slices.Clone(b[headerSize:])}, nil
}

// Marshal returns the signature as it goes into security.ima, or FILE.sig.
func (s *Signature) Marshal() []byte {
	b := []byte{typeDigsig, version, hashSHA256}
	b = append(b, s.KeyID[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Octets)))
	return append(b, s.Octets...)
}
