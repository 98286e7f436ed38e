package module

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/cms"
)

// magic ends a signed module (MODULE_SIG_STRING).
const magic = "~Module signature appended~\n"

// The trailer, struct module_signature: algo, hash, id_type, signer_len,
// key_id_len and 3 octets of padding, then the size of the signature,
// big-endian. For PKCS #7 all but id_type and the size are zero.
const (
	trailerSize = 12
	idTypeAt    = 2
	sizeAt      = 8
	idTypePKCS7 = 2 // PKEY_ID_PKCS7
)

// ErrUnsigned is returned, wrapped, for a module without a signature.
var ErrUnsigned = errors.New("module is not signed")

// Signature is a parsed module signature. Nothing in it is verified.
type Signature struct {
	SignedData *cms.SignedData

	message []byte // as found
}

// Parse splits a module, not compressed, into what is signed and the signature
// behind it, the last one if there are more. It refuses what the kernel does
// (mod_check_sig), and messages that are not strictly DER.
func Parse(module []byte) (content []byte, signature *Signature, err error) {
	content, message, err := split(module)
	if err != nil {
		return nil, nil, err
	}
	sd, err := cms.Parse(message)
	if err != nil {
		return nil, nil, fmt.Errorf("module signature: %w", err)
	}
	return content, &Signature{SignedData: sd, message: bytes.Clone(message)}, nil
}

// Marshal returns the signature as it stands behind the content.
func (s *Signature) Marshal() []byte {
	return appendSignature(nil, s.message)
}

// appendSignature returns the content with a message and its trailer behind it.
func appendSignature(content, message []byte) []byte {
	var trailer [trailerSize]byte
	trailer[idTypeAt] = idTypePKCS7
	binary.BigEndian.PutUint32(trailer[sizeAt:], uint32(len(message)))
	return slices.Concat(content, message, trailer[:], []byte(magic))
}

// strip returns the module without the signatures that it may have.
func strip(module []byte) ([]byte, error) {
	for {
		content, _, err := split(module)
		if errors.Is(err, ErrUnsigned) {
			return module, nil
		}
		if err != nil {
			return nil, err
		}
		module = content
	}
}

// split takes the trailer off, and returns what is before it. That the message
// begins where it ends does not follow from the trailer alone, and cutting in
// the wrong place would sign another content.
func split(module []byte) (content, message []byte, err error) {
	rest, ok := bytes.CutSuffix(module, []byte(magic))
	if !ok {
		return nil, nil, ErrUnsigned
	}
	if len(rest) < trailerSize {
		return nil, nil, fmt.Errorf("module signature: %d octets are too few for a trailer", len(rest))
	}
	rest, trailer := rest[:len(rest)-trailerSize], rest[len(rest)-trailerSize:]
	size := int64(binary.BigEndian.Uint32(trailer[sizeAt:]))
	switch {
	case trailer[idTypeAt] != idTypePKCS7:
		return nil, nil, fmt.Errorf("module signature: its type is %d, not PKCS #7 (%d)", trailer[idTypeAt], idTypePKCS7)
	case !bytes.Equal(trailer[:idTypeAt], make([]byte, idTypeAt)) || !bytes.Equal(trailer[idTypeAt+1:sizeAt], make([]byte, sizeAt-idTypeAt-1)):
		return nil, nil, fmt.Errorf("module signature: trailer % x has non-zero fields that PKCS #7 does not use", trailer)
	case size == 0 || size >= int64(len(rest)):
		return nil, nil, fmt.Errorf("module signature: its size is %d, outside 1 to the %d octets before it", size, len(rest)-1)
	}
	cut := len(rest) - int(size)
	input := cryptobyte.String(rest[cut:])
	if !input.SkipASN1(asn1.SEQUENCE) || !input.Empty() {
		return nil, nil, fmt.Errorf("module signature: the %d octets before the trailer are not one DER element", size)
	}
	return rest[:cut], rest[cut:], nil
}
