package keys

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/asn1"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidPBES2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}

// blockCipher is an encryption scheme of PBES2, in CBC mode with PKCS#7 padding
// (RFC 8018, Appendix B.2).
type blockCipher struct {
	name      string
	oid       asn1.ObjectIdentifier
	keyLength int // octets
	blockSize int // octets
	new       func(key []byte) (cipher.Block, error)
}

// ciphers lists what is read; the first is what is written.
var ciphers = []blockCipher{
	{"AES-256-CBC", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.BlockSize, aes.NewCipher},
	{"AES-192-CBC", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.BlockSize, aes.NewCipher},
	{"AES-128-CBC", asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.BlockSize, aes.NewCipher},
	{"DES-EDE3-CBC", asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.BlockSize, des.NewTripleDESCipher},
}

// envelope is an EncryptedPrivateKeyInfo (RFC 5958, Section 3) with PBES2 (RFC
// 8018, Section 6.2), whose parameters are within bounds.
type envelope struct {
	kdf    kdf
	cipher blockCipher
	iv     []byte
	data   []byte
}

func (e envelope) String() string {
	return fmt.Sprintf("%v, %s", e.kdf, e.cipher.name)
}

// seal encrypts a PrivateKeyInfo and returns a DER EncryptedPrivateKeyInfo.
func seal(plain []byte, p *Passphrase) ([]byte, error) {
	// 1. Derive the key; p remembers it for the next file.
	c := ciphers[0]
	if p.state == nil {
		return nil, errNoPassphrase
	}
	k := kdf{salt: string(p.state().salt), keyLength: c.keyLength, prf: crypto.SHA256, iterations: iterations}
	key, err := p.derive(k)
	if err != nil {
		return nil, fmt.Errorf("encrypting a key: %w", err)
	}

	// 2. Encrypt under a fresh IV.
	block, err := c.new(key)
	if err != nil {
		return nil, fmt.Errorf("encrypting a key: %w", err)
	}
	iv := make([]byte, c.blockSize)
	if _, err := rand.Read(iv); err != nil {
		return nil, fmt.Errorf("encrypting a key: drawing an IV: %w", err)
	}
	padding := c.blockSize - len(plain)%c.blockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	// 3. Write down how.
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidPBES2)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				k.marshal(b)
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(c.oid)
					b.AddASN1OctetString(iv)
				})
			})
		})
		b.AddASN1OctetString(data)
	})
	return b.Bytes()
}

// parseEnvelope reads a DER EncryptedPrivateKeyInfo without opening it.
func parseEnvelope(der []byte) (envelope, error) {
	input := cryptobyte.String(der)
	var info, algorithm, params, derivation, scheme, iv, data cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&data, cbasn1.OCTET_STRING) || !info.Empty() ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) {
		return envelope{}, fmt.Errorf("encrypted private key: %w", errMalformed)
	}
	if !oid.Equal(oidPBES2) {
		return envelope{}, fmt.Errorf("encrypted private key: encryption %v is not PBES2; convert the key with: openssl pkcs8 -topk8", oid)
	}
	if !algorithm.ReadASN1(&params, cbasn1.SEQUENCE) || !algorithm.Empty() ||
		!params.ReadASN1(&derivation, cbasn1.SEQUENCE) ||
		!params.ReadASN1(&scheme, cbasn1.SEQUENCE) || !params.Empty() ||
		!scheme.ReadASN1ObjectIdentifier(&oid) {
		return envelope{}, fmt.Errorf("encrypted private key: %w", errMalformed)
	}
	for _, c := range ciphers {
		if !c.oid.Equal(oid) {
			continue
		}
		if !scheme.ReadASN1(&iv, cbasn1.OCTET_STRING) || !scheme.Empty() || len(iv) != c.blockSize {
			return envelope{}, fmt.Errorf("encrypted private key: %s: the IV is not one of %d octets", c.name, c.blockSize)
		}
		if len(data) == 0 || len(data)%c.blockSize != 0 {
			return envelope{}, fmt.Errorf("encrypted private key: %s: %d octets are not whole blocks", c.name, len(data))
		}
		k, err := parseKDF(derivation, c.keyLength)
		if err != nil {
			return envelope{}, fmt.Errorf("encrypted private key: %w", err)
		}
		return envelope{kdf: k, cipher: c, iv: iv, data: data}, nil
	}
	return envelope{}, fmt.Errorf("encrypted private key: cipher %v is not supported", oid)
}

// open decrypts the envelope and returns the DER within. PBES2 carries no
// check value, so a wrong passphrase shows only in that no DER comes out; the
// error is then ErrPassphraseWrong.
func (e envelope) open(p *Passphrase) ([]byte, error) {
	key, err := p.derive(e.kdf)
	if err != nil {
		return nil, fmt.Errorf("decrypting a key: %w", err)
	}
	block, err := e.cipher.new(key)
	if err != nil {
		return nil, fmt.Errorf("decrypting a key: %w", err)
	}
	plain := make([]byte, len(e.data))
	cipher.NewCBCDecrypter(block, e.iv).CryptBlocks(plain, e.data)

	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > e.cipher.blockSize ||
		!bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, ErrPassphraseWrong
	}
	plain = plain[:len(plain)-padding]
	// A wrong key passes the padding once in 256 times. Hardly ever is the rest
	// then one SEQUENCE that begins with a number.
	input, info, version := cryptobyte.String(plain), cryptobyte.String(nil), 0
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() || !info.ReadASN1Integer(&version) {
		return nil, ErrPassphraseWrong
	}
	return plain, nil
}
