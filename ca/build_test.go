package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // SHA-1, for what must be refused
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// This file builds certificates for tests, above all bad ones: it checks
// nothing, writes what it is told to, and shares no code with marshalTBS.

// spec describes one certificate. Its zero fields mean: a P-256 key of its own,
// signed by parent, or by itself if parent is nil, v3, valid 2026 to 2036, not
// a CA, with subject and authority key identifiers.
type spec struct {
	subject []byte
	issuer  []byte // nil: the parent's subject
	parent  *spec  // nil: the certificate itself
	key     crypto.Signer
	public  []byte // nil: the key's SubjectPublicKeyInfo

	signer       crypto.Signer // nil: the parent's key
	algorithm    spki.SignatureAlgorithm
	inner, outer []byte              // AlgorithmIdentifiers that say something else
	sign         func([]byte) []byte // in place of algorithm

	version    int // 0: v3
	serial     []byte
	from, to   time.Time
	validity   []byte // the whole SEQUENCE
	ca         bool
	pathLen    int // 0: none, n: n-1
	extensions []testExtension
	without    []asn1.ObjectIdentifier
	tamper     func(der []byte) []byte

	once sync.Once
	der  []byte
}

type testExtension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte
}

var (
	testNow  = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	testFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	testTo   = time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
)

var testSerial = struct {
	sync.Mutex
	n uint32
}{n: 1000}

// set adds an extension, in place of one with the same OID.
func (s *spec) set(oid asn1.ObjectIdentifier, critical bool, value []byte) *spec {
	s.drop(oid)
	s.extensions = append(s.extensions, testExtension{oid, critical, value})
	return s
}

// drop leaves out an extension that would be there by itself.
func (s *spec) drop(oids ...asn1.ObjectIdentifier) *spec {
	s.without = append(s.without, oids...)
	return s
}

func (s *spec) up() *spec {
	if s.parent == nil {
		return s
	}
	return s.parent
}

func (s *spec) spki() []byte {
	if s.public != nil {
		return s.public
	}
	return must(spki.MarshalPublicKey(s.key.Public()))
}

// build returns the DER certificate, the same at each call.
func (s *spec) build() []byte {
	s.once.Do(func() { s.der = s.marshal() })
	return s.der
}

func (s *spec) marshal() []byte {
	signer := s.signer
	if signer == nil {
		signer = s.up().key
	}
	if s.algorithm == (spki.SignatureAlgorithm{}) {
		s.algorithm = must(spki.DefaultAlgorithm(must(spki.KeyTypeOf(signer.Public())), 0))
	}
	inner, outer := s.inner, s.outer
	if inner == nil {
		inner = must(s.algorithm.Marshal())
	}
	if outer == nil {
		outer = inner
	}
	if s.serial == nil {
		testSerial.Lock()
		testSerial.n++
		s.serial = []byte{byte(testSerial.n >> 16), byte(testSerial.n >> 8), byte(testSerial.n)}
		s.serial = bytes.TrimLeft(s.serial, "\x00")
		testSerial.Unlock()
	}
	if s.from.IsZero() {
		s.from = testFrom
	}
	if s.to.IsZero() {
		s.to = testTo
	}
	issuer := s.issuer
	if issuer == nil {
		issuer = s.up().subject
	}
	tbs := sequence(func(b *cryptobyte.Builder) {
		if s.version == 0 {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		}
		b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(s.serial) })
		b.AddBytes(inner)
		b.AddBytes(issuer)
		if s.validity != nil {
			b.AddBytes(s.validity)
		} else {
			b.AddBytes(validity(utcOrGeneralized(s.from), utcOrGeneralized(s.to)))
		}
		b.AddBytes(s.subject)
		b.AddBytes(s.spki())
		if list := s.allExtensions(); s.version == 0 && len(list) > 0 {
			b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddBytes(sequence(func(b *cryptobyte.Builder) {
					for _, x := range list {
						b.AddBytes(sequence(func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(x.oid)
							if x.critical {
								b.AddASN1Boolean(true)
							}
							b.AddASN1OctetString(x.value)
						}))
					}
				}))
			})
		}
	})
	var signature []byte
	if s.sign != nil {
		signature = s.sign(tbs)
	} else {
		signature = rawSign(s.algorithm, signer, tbs)
	}
	der := sequence(func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(outer)
		b.AddASN1BitString(signature)
	})
	if s.tamper != nil {
		der = s.tamper(der)
	}
	return der
}

func (s *spec) allExtensions() []testExtension {
	var list []testExtension
	add := func(oid asn1.ObjectIdentifier, critical bool, value []byte) {
		for _, w := range s.without {
			if w.Equal(oid) {
				return
			}
		}
		list = append(list, testExtension{oid, critical, value})
	}
	add(oidBasicConstraints, true, basicConstraints(s.ca, s.pathLen-1))
	if s.ca {
		add(oidKeyUsage, true, []byte{3, 2, 1, 6}) // keyCertSign, cRLSign
	} else {
		add(oidKeyUsage, true, []byte{3, 2, 7, 0x80}) // digitalSignature
	}
	add(oidSubjectKeyID, false, octets(must(spki.KeyID(s.spki()))))
	if s.parent != nil {
		add(oidAuthorityKeyID, false, authorityKeyID(must(spki.KeyID(s.parent.spki())), nil, nil))
	}
	return append(list, s.extensions...)
}

// rawSign signs without asking whether key and algorithm fit.
func rawSign(a spki.SignatureAlgorithm, signer crypto.Signer, message []byte) []byte {
	if p, ok := signer.(*spki.PSSSigner); ok {
		signer = p.Signer
	}
	digest := message
	if a.Scheme != spki.EdDSA {
		h := a.Hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	var opts crypto.SignerOpts = a.Hash
	if a.Scheme == spki.PSS {
		opts = &rsa.PSSOptions{SaltLength: a.SaltLength, Hash: a.Hash}
		if a.SaltLength == 0 {
			// crypto/rsa takes 0 for "as long as it fits".
			return pssWithoutSalt(signer.(*rsa.PrivateKey), a.Hash, digest)
		}
	}
	return must(signer.Sign(rand.Reader, digest, opts))
}

func sequence(f func(*cryptobyte.Builder)) []byte { return tagged(cbasn1.SEQUENCE, f) }

func tagged(tag cbasn1.Tag, f func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, f)
	return b.BytesOrPanic()
}

func element(tag cbasn1.Tag, content ...[]byte) []byte {
	return tagged(tag, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(content, nil)) })
}

func octets(value []byte) []byte { return element(cbasn1.OCTET_STRING, value) }

func implicit(n uint8, content ...[]byte) []byte {
	return element(cbasn1.Tag(n).ContextSpecific(), content...)
}

func explicit(n uint8, content ...[]byte) []byte {
	return element(cbasn1.Tag(n).ContextSpecific().Constructed(), content...)
}

func seq(content ...[]byte) []byte { return element(cbasn1.SEQUENCE, content...) }

func oidDER(oid ...int) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.BytesOrPanic()
}

func algorithmID(oid []byte, params ...[]byte) []byte {
	return seq(append([][]byte{oid}, params...)...)
}

var null = []byte{5, 0}

func basicConstraints(ca bool, pathLen int) []byte {
	return sequence(func(b *cryptobyte.Builder) {
		if ca {
			b.AddASN1Boolean(true)
		}
		if pathLen >= 0 {
			b.AddASN1Int64(int64(pathLen))
		}
	})
}

func authorityKeyID(keyID []byte, issuer, serial []byte) []byte {
	var parts [][]byte
	if keyID != nil {
		parts = append(parts, implicit(0, keyID))
	}
	if issuer != nil {
		parts = append(parts, explicit(1, explicit(tagDirectory, issuer)))
	}
	if serial != nil {
		parts = append(parts, implicit(2, serial))
	}
	return seq(parts...)
}

func validity(from, to []byte) []byte { return seq(from, to) }

func utcOrGeneralized(t time.Time) []byte {
	if t.Year() < 2050 {
		return utcTime(t.Format("060102150405Z"))
	}
	return generalizedTime(t.Format("20060102150405Z"))
}

func utcTime(s string) []byte         { return element(cbasn1.UTCTime, []byte(s)) }
func generalizedTime(s string) []byte { return element(cbasn1.GeneralizedTime, []byte(s)) }

// ava is one attribute of a name, with its string type.
func ava(oid string, tag cbasn1.Tag, value string) []byte {
	return seq(oidDER(must(parseOID(oid))...), element(tag, []byte(value)))
}

// dn makes a name of "CN=…", "O=…", "C=…", "E=…" in UTF8String (E: IA5String),
// or of whole RDNs (SET) as they are.
func dn(parts ...any) []byte {
	short := map[string]string{"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6", "E": "1.2.840.113549.1.9.1"}
	var rdns [][]byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			rdns = append(rdns, p)
		case string:
			k, v, _ := strings.Cut(p, "=")
			tag := cbasn1.UTF8String
			if k == "E" {
				tag = cbasn1.IA5String
			}
			rdns = append(rdns, set(ava(short[k], tag, v)))
		}
	}
	return seq(rdns...)
}

func set(avas ...[]byte) []byte { return element(cbasn1.SET, avas...) }

func printable(cn string) []byte { return dn(set(ava("2.5.4.3", cbasn1.PrintableString, cn))) }

// keys are made once each: RSA takes long.
var testKeys sync.Map

func testKey(name string) crypto.Signer {
	once, _ := testKeys.LoadOrStore(name, sync.OnceValue(func() crypto.Signer {
		kind, rest, _ := strings.Cut(name, "/")
		switch kind {
		case "rsa":
			return must(rsa.GenerateKey(rand.Reader, 2048))
		case "rsa1024":
			return must(rsa.GenerateKey(rand.Reader, 1024))
		case "p256":
			return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		case "p384":
			return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
		case "p521":
			return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
		case "ed25519":
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				panic(err)
			}
			return key
		case "pss": // an RSA key that is there anyway: generating is what takes long
			return &spki.PSSSigner{Signer: testKey("rsa/" + rest)}
		case "pss256":
			return &spki.PSSSigner{Signer: testKey("rsa/" + rest), Params: &spki.PSSParams{Hash: crypto.SHA256, SaltLength: 32}}
		case "pss512":
			return &spki.PSSSigner{Signer: testKey("rsa/" + rest), Params: &spki.PSSParams{Hash: crypto.SHA512, SaltLength: 64}}
		default:
			panic("no test key " + name)
		}
	}))
	return once.(func() crypto.Signer)()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func pemOf(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

func parseAll(ders ...[]byte) ([]*Certificate, error) {
	var list []*Certificate
	for i, der := range ders {
		c, err := ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

func hashed(h crypto.Hash, message []byte) []byte {
	w := h.New()
	w.Write(message)
	return w.Sum(nil)
}

func rsaKey(s crypto.Signer) *rsa.PrivateKey { return s.(*rsa.PrivateKey) }

// testRand makes crypto/ecdsa sign with crypto/rand whatever the hash.
type testRand struct{}

func (testRand) Read(b []byte) (int, error) { return rand.Read(b) }
