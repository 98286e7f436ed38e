package keys

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"

	"tmpki/spki"
)

// MaxFileSize bounds a key file, in octets. RSA-8192 takes about a tenth of it.
const MaxFileSize = 64 << 10

// What a caller can tell apart, with errors.Is.
var (
	// ErrPassphraseNeeded: the key is encrypted and no passphrase was given.
	ErrPassphraseNeeded = errors.New("the key is encrypted and needs a passphrase")
	// ErrPassphraseWrong: the key does not open. Encrypted PKCS#8 can't tell a
	// wrong passphrase from a damaged file.
	ErrPassphraseWrong = errors.New("the passphrase is wrong, or the key is damaged")
	// ErrCertificate: the file is a certificate, a request or a public key.
	ErrCertificate = errors.New("a certificate or public key, not a private key")
	// ErrTruncated: the PEM block begins and does not end.
	ErrTruncated = errors.New("the file is truncated: the PEM block has no end")
)

// Labels of PEM blocks (RFC 7468, Sections 10 and 11), and of traditional
// OpenSSL, which are read only.
const (
	labelPKCS8     = "PRIVATE KEY"
	labelEncrypted = "ENCRYPTED PRIVATE KEY"
	labelRSA       = "RSA PRIVATE KEY"
	labelEC        = "EC PRIVATE KEY"
	labelECParams  = "EC PARAMETERS" // openssl ecparam -genkey puts it first
)

// MarshalPEM writes a key as one PEM block of PKCS#8: "PRIVATE KEY" if p is
// nil, else "ENCRYPTED PRIVATE KEY" with PBES2, PBKDF2-HMAC-SHA256 and
// AES-256-CBC. It fails for signers that MarshalPKCS8 can't export.
func MarshalPEM(signer crypto.Signer, p *Passphrase) ([]byte, error) {
	der, err := MarshalPKCS8(signer)
	if err != nil {
		return nil, err
	}
	label := labelPKCS8
	if p != nil {
		label = labelEncrypted
		if der, err = seal(der, p); err != nil {
			return nil, err
		}
	}
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), nil
}

// ParsePEM reads the one key in data, at most MaxFileSize octets: PKCS#8 plain
// or encrypted, or the traditional "RSA PRIVATE KEY" and "EC PRIVATE KEY"
// unencrypted. Text may stand before the block (RFC 7468, Section 2), only
// white space after it. p may be nil, and is not used for a plain key.
//
// The error wraps ErrPassphraseNeeded, ErrPassphraseWrong, ErrCertificate or
// ErrTruncated in these cases.
func ParsePEM(data []byte, p *Passphrase) (crypto.Signer, error) {
	block, err := onlyBlock(data)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case labelPKCS8:
		return ParsePKCS8(block.Bytes)
	case labelEncrypted:
		e, err := parseEnvelope(block.Bytes)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return nil, ErrPassphraseNeeded
		}
		der, err := e.open(p)
		if err != nil {
			return nil, err
		}
		return ParsePKCS8(der)
	case labelRSA:
		key, err := parseRSA(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		return key, nil
	case labelEC:
		key, err := parseEC(block.Bytes, nil)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		return key, nil
	default:
		return nil, fmt.Errorf("private key: a PEM block %q is not a key", block.Type)
	}
}

// IsEncrypted reports whether data holds a PEM key that needs a passphrase. For
// anything else, also for what is no key, it returns false.
func IsEncrypted(data []byte) bool {
	block, err := onlyBlock(data)
	return err == nil && block.Type == labelEncrypted
}

// Description says what a key file holds, as far as it shows without a
// passphrase.
type Description struct {
	Label      string       // of the PEM block, such as "PRIVATE KEY"
	Encryption string       // such as "PBKDF2-HMAC-SHA-256 with 600000 iterations, AES-256-CBC"; "" for a plain key
	Type       spki.KeyType // the zero value for an encrypted key
}

// Describe reads a PEM key without a passphrase. It fails where ParsePEM would
// fail whatever the passphrase.
func Describe(data []byte) (Description, error) {
	block, err := onlyBlock(data)
	if err != nil {
		return Description{}, err
	}
	if block.Type == labelEncrypted {
		e, err := parseEnvelope(block.Bytes)
		if err != nil {
			return Description{}, err
		}
		return Description{Label: block.Type, Encryption: e.String()}, nil
	}
	signer, err := ParsePEM(data, nil)
	if err != nil {
		return Description{}, err
	}
	t, err := spki.KeyTypeOf(signer.Public())
	if err != nil {
		return Description{}, err
	}
	return Description{Label: block.Type, Type: t}, nil
}

// onlyBlock returns the one PEM block in data, beside EC PARAMETERS before it.
// It refuses blocks that hold no private key, and those in encrypted
// traditional form.
func onlyBlock(data []byte) (*pem.Block, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("private key: %d octets are more than %d", len(data), MaxFileSize)
	}
	block, rest, err := nextBlock(data)
	if err == nil && block.Type == labelECParams {
		block, rest, err = nextBlock(rest)
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	switch block.Type {
	case labelPKCS8, labelEncrypted, labelRSA, labelEC:
	case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, fmt.Errorf("private key: the file holds %q: %w", block.Type, ErrCertificate)
	default:
		return nil, fmt.Errorf("private key: a PEM block %q is not a key", block.Type)
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, errors.New("private key: traditional PEM encryption is not supported; convert the key with: openssl pkcs8 -topk8")
	}
	if len(block.Headers) != 0 {
		return nil, errors.New("private key: the PEM block has headers")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("private key: more data follows the key; a key file holds one key and nothing else")
	}
	return block, nil
}

// nextBlock decodes the first PEM block of data. encoding/pem passes over
// blocks that it can't read; this returns an error.
func nextBlock(data []byte) (block *pem.Block, rest []byte, err error) {
	begin := []byte("-----BEGIN ")
	start := bytes.Index(data, begin)
	if start < 0 {
		if len(data) > 0 && data[0] == 0x30 {
			return nil, nil, errors.New("this looks like DER, not PEM; convert it with: openssl pkey -inform DER")
		}
		return nil, nil, errors.New("no PEM block found")
	}
	data = data[start:]
	end := bytes.Index(data, []byte("-----END "))
	if end < 0 || !bytes.Contains(data[end+len("-----END "):], []byte("-----")) {
		return nil, nil, ErrTruncated
	}
	block, rest = pem.Decode(data)
	if block == nil || bytes.Count(data[:len(data)-len(rest)], begin) != 1 {
		return nil, nil, errors.New("the PEM block is damaged")
	}
	return block, rest, nil
}
