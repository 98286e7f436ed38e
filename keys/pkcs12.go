package keys

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// PKCS12Format says how a PKCS#12 file is protected.
type PKCS12Format string

// The formats that the platform reads.
const (
	PKCS12AES    PKCS12Format = "aes"    // PBES2 with AES-256, MAC with SHA-256
	PKCS12Legacy PKCS12Format = "legacy" // 3DES, MAC with SHA-1: for old readers
)

// pkcs12Iterations makes guessing a password of a PKCS12AES file as slow as an
// embedded processor can bear when it opens one: about a second.
const pkcs12Iterations = 100_000

// MaxPKCS12 bounds a PKCS#12 file, in octets.
const MaxPKCS12 = 1 << 20

// MarshalPKCS12 writes a PKCS#12 file (RFC 7292) with one key, its certificate and
// those above it, as the platform reads softtokens. It wraps the keys of containers
// with the key, which must be rsaEncryption for that.
func MarshalPKCS12(key *rsa.PrivateKey, chain []*x509.Certificate, password *Passphrase, format PKCS12Format) ([]byte, error) {
	secret, err := pkcs12Password(password)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 || !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("PKCS#12: the first certificate is not that of the key")
	}
	var encoder *pkcs12.Encoder
	switch format {
	case PKCS12AES:
		encoder = pkcs12.Modern2023.WithIterations(pkcs12Iterations)
	case PKCS12Legacy:
		encoder = pkcs12.LegacyDES
	default:
		return nil, fmt.Errorf("PKCS#12: unknown format %q", format)
	}
	der, err := encoder.Encode(key, chain[0], chain[1:], secret)
	if err != nil {
		return nil, fmt.Errorf("PKCS#12: %v", err)
	}
	return der, nil
}

// ParsePKCS12 reads a PKCS#12 file: its key, and its certificates, that of the key
// first. If the password does not open it, the error is ErrPassphraseWrong. It
// reads what the platform does not, such as RC2, so that such a file can be written
// anew; but a key that is not rsaEncryption is refused.
func ParsePKCS12(der []byte, password *Passphrase) (*rsa.PrivateKey, []*x509.Certificate, error) {
	d, err := DescribePKCS12(der)
	if err != nil {
		return nil, nil, err
	}
	if d.MAC == "" {
		return nil, nil, errors.New("PKCS#12: the file has no MAC: whether it was altered, nobody can tell")
	}
	secret, err := pkcs12Password(password)
	if err != nil {
		return nil, nil, err
	}
	private, first, others, err := pkcs12.DecodeChain(der, secret)
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, nil, fmt.Errorf("PKCS#12: %w", ErrPassphraseWrong)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("PKCS#12: %v", err)
	}
	key, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("PKCS#12: a key of type %T: the platform wraps the keys of containers with RSA (rsaEncryption) only", private)
	}
	certs := append([]*x509.Certificate{first}, others...)
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if i < 0 {
		return nil, nil, errors.New("PKCS#12: no certificate in it is that of the key")
	}
	leaf := certs[i]
	return key, slices.Insert(slices.Delete(certs, i, i+1), 0, leaf), nil
}

// pkcs12Password returns a password as the format takes it: text, encoded by the
// reader in UTF-16 or UTF-8.
func pkcs12Password(p *Passphrase) (string, error) {
	if p == nil {
		return "", ErrPassphraseNeeded
	}
	secret, err := p.Secret()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(secret) {
		return "", errors.New("PKCS#12: the password is not UTF-8 text, so other programs would not read the file")
	}
	return string(secret), nil
}

// PKCS12Description says how a PKCS#12 file is protected, as far as that shows
// without its password.
type PKCS12Description struct {
	Encryption []string // such as AES-256-CBC; nil: nothing is encrypted
	MAC        string   // the hash of its MAC, such as SHA-256; "": there is none
	Iterations int      // the fewest of all key derivations: the cheapest is what is guessed against
	Unreadable string   // why the platform does not read it; "": it does
}

// pkcs12Names are the algorithms of PKCS#12 files (RFC 7292, Appendix C; RFC 8018).
var pkcs12Names = map[string]string{
	"1.2.840.113549.1.12.1.1": "RC4-128",
	"1.2.840.113549.1.12.1.2": "RC4-40",
	"1.2.840.113549.1.12.1.3": "3DES",
	"1.2.840.113549.1.12.1.4": "2-key 3DES",
	"1.2.840.113549.1.12.1.5": "RC2-128",
	"1.2.840.113549.1.12.1.6": "RC2-40",
	"1.2.840.113549.3.7":      "3DES-CBC",
	"2.16.840.1.101.3.4.1.2":  "AES-128-CBC",
	"2.16.840.1.101.3.4.1.22": "AES-192-CBC",
	"2.16.840.1.101.3.4.1.42": "AES-256-CBC",
}

// DescribePKCS12 looks at a PKCS#12 file without its password. It refuses files
// that a reader would work on for hours.
func DescribePKCS12(der []byte) (PKCS12Description, error) {
	var d PKCS12Description
	if len(der) > MaxPKCS12 {
		return d, fmt.Errorf("PKCS#12: %d octets are more than %d", len(der), MaxPKCS12)
	}
	input := cryptobyte.String(der)
	var pfx, safe, oid, content cryptobyte.String
	var version int
	if !input.ReadASN1(&pfx, cbasn1.SEQUENCE) || !input.Empty() || !pfx.ReadASN1Integer(&version) || version != 3 ||
		!pfx.ReadASN1(&safe, cbasn1.SEQUENCE) || !safe.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		!safe.ReadASN1Element(&content, tag0) || !safe.Empty() {
		return d, errNotPKCS12
	}
	if err := d.walk(content, 0, false); err != nil {
		return d, err
	}
	if !pfx.Empty() {
		if err := d.readMAC(pfx); err != nil {
			return d, err
		}
	}
	switch {
	case d.MAC == "":
		d.Unreadable = "it has no MAC"
	case d.MAC == "PBMAC1":
		d.Unreadable = "its MAC is PBMAC1, which OpenSSL reads from 3.4 on only"
	case slices.ContainsFunc(d.Encryption, func(name string) bool { return name[:2] == "RC" }):
		d.Unreadable = "it is encrypted with RC2 or RC4"
	}
	return d, nil
}

var errNotPKCS12 = errors.New("not a PKCS#12 file in DER")

// readMAC reads a MacData (RFC 7292, Section 4).
func (d *PKCS12Description) readMAC(in cryptobyte.String) error {
	var mac, info, algorithm, salt cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&mac, cbasn1.SEQUENCE) || !in.Empty() || !mac.ReadASN1(&info, cbasn1.SEQUENCE) ||
		!info.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !mac.ReadASN1(&salt, cbasn1.OCTET_STRING) {
		return errNotPKCS12
	}
	parameters := algorithm
	if !algorithm.ReadASN1ObjectIdentifier(&oid) {
		return errNotPKCS12
	}
	n := 1
	if !mac.Empty() && !mac.ReadASN1Integer(&n) {
		return errIterations
	}
	switch s := oid.String(); s {
	case "1.3.14.3.2.26":
		d.MAC = "SHA-1"
	case "2.16.840.1.101.3.4.2.1":
		d.MAC = "SHA-256"
	case "2.16.840.1.101.3.4.2.2":
		d.MAC = "SHA-384"
	case "2.16.840.1.101.3.4.2.3":
		d.MAC = "SHA-512"
	case "1.2.840.113549.1.5.14": // RFC 9579: its own parameters say how, and n counts for nothing
		d.MAC = "PBMAC1"
		var unused PKCS12Description
		err := unused.walk(parameters, 0, false)
		return errors.Join(err, d.derivation(max(1, unused.Iterations)))
	default:
		d.MAC = s
	}
	return d.derivation(n)
}

var errIterations = fmt.Errorf("PKCS#12: the iterations of a key derivation are outside 1 to %d", maxIterations)

// derivation takes note of the iterations of one key derivation.
func (d *PKCS12Description) derivation(n int) error {
	if n < 1 || n > maxIterations {
		return errIterations
	}
	if d.Iterations == 0 || n < d.Iterations {
		d.Iterations = n
	}
	return nil
}

// maxPKCS12Depth bounds nested structures; the format needs about 15.
const maxPKCS12Depth = 40

// walk goes through all that is not encrypted, and collects the algorithms.
// explicit says that in is the content of a [0] EXPLICIT, in which an OCTET STRING
// holds structures, and elsewhere what is encrypted.
func (d *PKCS12Description) walk(in cryptobyte.String, depth int, explicit bool) error {
	if depth > maxPKCS12Depth {
		return errors.New("PKCS#12: nested too deeply")
	}
	var previous string // the OID of an AlgorithmIdentifier whose parameters come next
	for !in.Empty() {
		var value, element cryptobyte.String
		var tag cbasn1.Tag
		if !in.ReadAnyASN1Element(&element, &tag) {
			return errNotPKCS12
		}
		whole := element
		if !element.ReadAnyASN1(&value, &tag) {
			return errNotPKCS12
		}
		if derives := strings.HasPrefix(previous, "1.2.840.113549.1.12.1.") || previous == "1.2.840.113549.1.5.12"; derives {
			// PBEParameter and PBKDF2-params begin in the same way.
			var salt cryptobyte.String
			var n int
			fields := value
			if !fields.ReadAnyASN1(&salt, new(cbasn1.Tag)) || !fields.ReadASN1Integer(&n) {
				return errIterations
			}
			if err := d.derivation(n); err != nil {
				return err
			}
		}
		previous = ""
		switch {
		case tag == cbasn1.OBJECT_IDENTIFIER:
			var oid asn1.ObjectIdentifier
			if !whole.ReadASN1ObjectIdentifier(&oid) {
				return errNotPKCS12
			}
			previous = oid.String()
			if name := pkcs12Names[previous]; name != "" && !slices.Contains(d.Encryption, name) {
				d.Encryption = append(d.Encryption, name)
			}
		case tag == cbasn1.OCTET_STRING && explicit, uint8(tag)&0x20 != 0:
			if err := d.walk(value, depth+1, tag == tag0); err != nil {
				return err
			}
		}
	}
	return nil
}
