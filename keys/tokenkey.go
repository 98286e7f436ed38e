package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// TokenKey is a private key in a PKCS#11 token. It implements crypto.Signer and
// may be used from many goroutines, which share the token's sessions. It goes on
// after the token was taken away and came back.
type TokenKey struct {
	token   *token
	where   PKCS11 // label and id of the private key, exactly
	public  crypto.PublicKey
	allowed []uint // mechanisms; none: all that fit

	mu     sync.Mutex
	handle uint
	epoch  int // of handle
}

// openToken opens the key at a pkcs11: URI, as what it may do: an RSA key that
// may make PSS signatures only is a *spki.PSSSigner over a *TokenKey.
func (s *system) openToken(p PKCS11) (crypto.Signer, error) {
	if err := p.checkKey(); err != nil {
		return nil, err
	}
	t, err := s.token(p)
	if err != nil {
		return nil, err
	}
	if err := t.login(p); err != nil {
		return nil, err
	}
	var k *TokenKey
	err = t.do(false, func(c cryptoki, s session) error {
		h, err := one(c, s, p, ckoPrivateKey)
		if err != nil {
			return err
		}
		k, err = t.key(c, s, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return k.signer(), nil
}

// key makes a TokenKey of a private key object.
func (t *token) key(c cryptoki, s session, h uint) (*TokenKey, error) {
	v, err := get(c, s, h, ckaLabel, ckaID, ckaSign, ckaAllowedMechanisms, ckaAlwaysAuthenticate)
	if err != nil {
		return nil, err
	}
	k := &TokenKey{token: t, where: PKCS11{Object: string(v[0]), ID: string(v[1])}, handle: h, epoch: s.epoch}
	k.allowed, _ = getUlongs(v[3])
	if len(v[2]) == 1 && v[2][0] == 0 {
		return nil, errors.New("the key may not sign (CKA_SIGN is false)")
	}
	if len(v[4]) == 1 && v[4][0] == 1 {
		return nil, errors.New("the token wants its PIN for each signature of this key (CKA_ALWAYS_AUTHENTICATE), which this program does not give it")
	}
	k.public, err = publicOf(c, s, h)
	return k, err
}

// signer returns the key as what it may do.
func (k *TokenKey) signer() crypto.Signer {
	if _, ok := k.public.(*rsa.PublicKey); ok && onlyPSS(k.allowed) {
		return &spki.PSSSigner{Signer: k}
	}
	return k
}

// AsType returns a signer as one of type t, if it can be that, and else as it is.
// A token knows RSA keys only: what makes one an id-RSASSA-PSS key is the
// certificate that it is for. All other keys are of one type.
func AsType(signer crypto.Signer, t spki.KeyType) crypto.Signer {
	k, ok := signer.(*TokenKey)
	if !ok || t.Kind != spki.RSAPSS {
		return signer
	}
	if _, ok := k.public.(*rsa.PublicKey); !ok || len(k.allowed) > 0 && !slices.Contains(k.allowed, ckmRSAPSS) {
		return signer
	}
	return &spki.PSSSigner{Signer: k}
}

// InToken returns the token key behind a signer, or nil for a key that is
// elsewhere.
func InToken(signer crypto.Signer) *TokenKey {
	if p, ok := signer.(*spki.PSSSigner); ok {
		signer = p.Signer
	}
	k, _ := signer.(*TokenKey)
	return k
}

// Public returns an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
func (k *TokenKey) Public() crypto.PublicKey { return k.public }

// May reports whether the token lets the key make signatures of an algorithm. A
// key without a list of mechanisms may make all that its type can.
func (k *TokenKey) May(a spki.SignatureAlgorithm) bool {
	m := map[spki.Scheme]uint{spki.PKCS1v15: ckmRSAPKCS, spki.PSS: ckmRSAPSS, spki.ECDSA: ckmECDSA, spki.EdDSA: ckmEdDSA}[a.Scheme]
	return len(k.allowed) == 0 || slices.Contains(k.allowed, m)
}

// Parallel returns how many signatures the token is asked for at a time: as many
// as there are sessions. Who has more waits for one.
func (k *TokenKey) Parallel() int {
	k.token.mu.Lock()
	defer k.token.mu.Unlock()
	return k.token.limit
}

// find returns the handle of the key in the epoch of a session.
func (k *TokenKey) find(c cryptoki, s session) (uint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch == s.epoch {
		return k.handle, nil
	}
	h, err := one(c, s, k.where, ckoPrivateKey)
	if err == nil {
		k.handle, k.epoch = h, s.epoch
	}
	return h, err
}

// Sign signs a digest of SHA-256, SHA-384 or SHA-512, with PKCS#1 v1.5, PSS or
// ECDSA as the key and the options demand, or a message with Ed25519. In PSS
// options, PSSSaltLengthAuto is taken for a salt as long as the hash: a token
// must be told. The random source is the token's, not the one given.
func (k *TokenKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	m, data, err := k.mechanism(digest, opts)
	if err != nil {
		return nil, fmt.Errorf("signing with the key %q: %w", "pkcs11:"+k.where.String(), err)
	}
	var signature []byte
	err = k.token.do(false, func(c cryptoki, s session) error {
		h, err := k.find(c, s)
		if err != nil {
			return err
		}
		signature, err = c.sign(s.handle, m, h, data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("signing with the key %q: %w", "pkcs11:"+k.where.String(), err)
	}
	if key, ok := k.public.(*ecdsa.PublicKey); ok {
		return ecdsaDER(key, signature)
	}
	return signature, nil
}

// digestInfo is what stands before the digest in PKCS#1 v1.5 (RFC 8017, Section
// 9.2, Note 1).
func digestInfo(hash crypto.Hash) []byte {
	last := map[crypto.Hash]byte{crypto.SHA256: 1, crypto.SHA384: 2, crypto.SHA512: 3}[hash]
	size := byte(hash.Size())
	return []byte{0x30, 17 + size, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, last, 5, 0, 4, size}
}

// pssHashes are the mechanisms of the digests, and of MGF1 with them.
var pssHashes = map[crypto.Hash][2]uint{
	crypto.SHA256: {ckmSHA256, ckgMGF1SHA256},
	crypto.SHA384: {ckmSHA384, ckgMGF1SHA384},
	crypto.SHA512: {ckmSHA512, ckgMGF1SHA512},
}

// mechanism returns how to sign, and what the token gets.
func (k *TokenKey) mechanism(digest []byte, opts crypto.SignerOpts) (mechanism, []byte, error) {
	if opts == nil {
		return mechanism{}, nil, errors.New("no options: which hash?")
	}
	hash := opts.HashFunc()
	if _, ok := k.public.(ed25519.PublicKey); ok {
		if hash != 0 {
			return mechanism{}, nil, errors.New("Ed25519 hashes by itself: give it the message")
		}
		return mechanism{kind: ckmEdDSA}, digest, nil
	}
	if _, ok := pssHashes[hash]; !ok {
		return mechanism{}, nil, fmt.Errorf("hash %v is not supported: use SHA-256, SHA-384 or SHA-512", hash)
	}
	if len(digest) != hash.Size() {
		return mechanism{}, nil, fmt.Errorf("a digest of %d octets is none of %v", len(digest), hash)
	}
	switch key := k.public.(type) {
	case *ecdsa.PublicKey:
		// Tokens differ in what they do with a digest that is longer than the order.
		size := (key.Params().N.BitLen() + 7) / 8
		return mechanism{kind: ckmECDSA}, digest[:min(size, len(digest))], nil
	case *rsa.PublicKey:
		pss, ok := opts.(*rsa.PSSOptions)
		if !ok {
			return mechanism{kind: ckmRSAPKCS}, append(digestInfo(hash), digest...), nil
		}
		salt := pss.SaltLength
		if salt == rsa.PSSSaltLengthEqualsHash || salt == rsa.PSSSaltLengthAuto {
			salt = hash.Size()
		}
		if salt < 0 {
			return mechanism{}, nil, fmt.Errorf("a salt of %d octets", salt)
		}
		return mechanism{kind: ckmRSAPSS, pss: &pssParams{pssHashes[hash][0], pssHashes[hash][1], uint(salt)}}, digest, nil
	default:
		return mechanism{}, nil, fmt.Errorf("a key of type %T can't sign", k.public)
	}
}

// ecdsaDER makes an ECDSA-Sig-Value (RFC 3279, Section 2.2.3) of the two numbers
// that a token returns.
func ecdsaDER(key *ecdsa.PublicKey, raw []byte) ([]byte, error) {
	size := (key.Params().N.BitLen() + 7) / 8
	if len(raw) != 2*size {
		return nil, fmt.Errorf("the token returned an ECDSA signature of %d octets, not %d", len(raw), 2*size)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[size:]))
	})
	return b.Bytes()
}
