package ledger

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Signature types of C2SP signed-note. Ed25519 is what all tools know. ECDSA, over
// the SHA-256 of the text and in ASN.1, is for keys in tokens, of which few can do
// Ed25519; witnesses of transparency logs know it.
const (
	typeEd25519 = 0x01
	typeECDSA   = 0x02
)

// VerifierKey returns what an auditor needs to check the log's signatures, as
// "NAME+HASH+BASE64". The key must be Ed25519 or ECDSA.
func VerifierKey(name string, public crypto.PublicKey) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	hash, encoded, err := encodeKey(name, public)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(encoded)), nil
}

// checkName follows signed-note: no space, no plus, and one line.
func checkName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '+' || r >= 0x7f }) {
		return fmt.Errorf("%q is no name of a log", name)
	}
	return nil
}

// encodeKey returns the key's id and its encoding, type first.
func encodeKey(name string, public crypto.PublicKey) (uint32, []byte, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		encoded := append([]byte{typeEd25519}, k...)
		sum := sha256.Sum256(append([]byte(name+"\n"), encoded...))
		return binary.BigEndian.Uint32(sum[:]), encoded, nil
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return 0, nil, err
		}
		// Its id is of the key alone.
		sum := sha256.Sum256(der)
		return binary.BigEndian.Uint32(sum[:]), append([]byte{typeECDSA}, der...), nil
	default:
		return 0, nil, fmt.Errorf("a log's key is Ed25519 or ECDSA, not %T", public)
	}
}

// NewVerifier reads what VerifierKey writes.
func NewVerifier(key string) (note.Verifier, error) {
	bad := errors.New("not a log's key: it is like NAME+HASH+BASE64, as tmpki log key prints it")
	parts := strings.SplitN(strings.TrimSpace(key), "+", 3)
	if len(parts) != 3 || len(key) > 2048 {
		return nil, bad
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, bad
	}
	encoded, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(encoded) == 0 {
		return nil, bad
	}
	var public crypto.PublicKey
	switch encoded[0] {
	case typeEd25519:
		if len(encoded) != 1+ed25519.PublicKeySize {
			return nil, bad
		}
		public = ed25519.PublicKey(encoded[1:])
	case typeECDSA:
		if public, err = x509.ParsePKIXPublicKey(encoded[1:]); err != nil {
			return nil, bad
		}
	default:
		return nil, fmt.Errorf("a log's key of type %#02x: this program knows 0x01 (Ed25519) and 0x02 (ECDSA)", encoded[0])
	}
	again, err := VerifierKey(parts[0], public)
	if err != nil {
		return nil, err
	}
	if again != strings.TrimSpace(key) {
		return nil, errors.New("not a log's key: its parts do not belong together")
	}
	return verifier{parts[0], uint32(hash), public}, nil
}

type verifier struct {
	name   string
	hash   uint32
	public crypto.PublicKey
}

func (v verifier) Name() string    { return v.name }
func (v verifier) KeyHash() uint32 { return v.hash }

func (v verifier) Verify(msg, sig []byte) bool {
	switch k := v.public.(type) {
	case ed25519.PublicKey:
		return len(sig) == ed25519.SignatureSize && ed25519.Verify(k, msg, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	default:
		return false
	}
}

// NewSigner makes a log's signer of a private key.
func NewSigner(name string, key crypto.Signer) (note.Signer, error) {
	text, err := VerifierKey(name, key.Public())
	if err != nil {
		return nil, err
	}
	v, err := NewVerifier(text)
	if err != nil {
		return nil, err
	}
	return signer{v, key}, nil
}

type signer struct {
	note.Verifier
	key crypto.Signer
}

// Sign verifies what the key returned: it may be one in a token.
func (s signer) Sign(msg []byte) ([]byte, error) {
	digest, opts := msg, crypto.SignerOpts(crypto.Hash(0))
	if _, ok := s.key.Public().(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(msg)
		digest, opts = sum[:], crypto.SHA256
	}
	sig, err := s.key.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, err
	}
	if !s.Verify(msg, sig) {
		return nil, errors.New("the log's key returned a wrong signature")
	}
	return sig, nil
}
