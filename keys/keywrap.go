package keys

import (
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // in OAEP with SHA-1, where collisions don't matter
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// unwrapInto puts a private key into a token without showing it to what lies
// between: the token makes an RSA key for this session, gets an AES key under it,
// and unwraps the private key with that. Both die with the session.
func unwrapInto(c cryptoki, s session, signer crypto.Signer, template []attribute) error {
	const bits = 3072
	publicTemplate := []attribute{boolean(ckaToken, false), boolean(ckaWrap, true), boolean(ckaEncrypt, false), boolean(ckaVerify, false),
		ulong(ckaModulusBits, bits), octets(ckaPublicExponent, []byte{1, 0, 1})}
	privateTemplate := []attribute{boolean(ckaToken, false), boolean(ckaSensitive, true), boolean(ckaExtractable, false),
		boolean(ckaUnwrap, true), boolean(ckaDecrypt, false), boolean(ckaSign, false)}
	publicHandle, privateHandle, err := c.generateKeyPair(s.handle, mechanism{kind: ckmRSAKeyPairGen}, publicTemplate, privateTemplate)
	if err != nil {
		return fmt.Errorf("making a key to wrap with: %w", err)
	}
	public, err := publicKey(c, s, publicHandle)
	if err != nil {
		return err
	}
	rsaKey, ok := public.(*rsa.PublicKey)
	if !ok || rsaKey.N.BitLen() != bits {
		return errors.New("the token made another key to wrap with than it was told")
	}
	kek := make([]byte, 32)
	if _, err := rand.Read(kek); err != nil {
		return err
	}
	wrappedKEK, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, rsaKey, kek, nil)
	if err != nil {
		return err
	}
	kekTemplate := []attribute{ulong(ckaClass, ckoSecretKey), ulong(ckaKeyType, ckkAES), boolean(ckaToken, false), boolean(ckaSensitive, true),
		boolean(ckaExtractable, false), boolean(ckaUnwrap, true), boolean(ckaWrap, false), boolean(ckaEncrypt, false), boolean(ckaDecrypt, false)}
	kekHandle, err := c.unwrap(s.handle, mechanism{kind: ckmRSAOAEP, oaep: true}, privateHandle, wrappedKEK, kekTemplate)
	if err != nil {
		return fmt.Errorf("unwrapping the AES key: %w", err)
	}
	der, err := MarshalPKCS8(signer)
	if err != nil {
		return err
	}
	wrapped, err := wrapPadded(kek, der)
	if err != nil {
		return err
	}
	if _, err := c.unwrap(s.handle, mechanism{kind: ckmAESKeyWrapPad}, kekHandle, wrapped, template); err != nil {
		return fmt.Errorf("unwrapping the key: %w", err)
	}
	return nil
}

// wrapPadded is AES Key Wrap with Padding (RFC 5649, Section 4.1), for at least
// nine octets.
func wrapPadded(kek, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(plain) <= 8 || len(plain) > MaxFileSize {
		return nil, fmt.Errorf("key wrap: %d octets", len(plain))
	}
	// The initial value holds the length; the input is padded to 64-bit blocks.
	out := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(plain)))
	out = append(out, plain...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	// RFC 3394, Section 2.2.1.
	n := len(out)/8 - 1
	var b [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:8], out[:8])
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			var t [8]byte
			binary.BigEndian.PutUint64(t[:], uint64(n*j+i))
			subtle.XORBytes(out[:8], b[:8], t[:])
			copy(out[8*i:], b[8:])
		}
	}
	return out, nil
}
