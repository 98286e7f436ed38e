package ca

import (
	"bytes"
	"context"
	"crypto"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// verifyRow is one chain. ok is the verdict that Verify must come to, and
// OpenSSL too, unless differs says why it comes to the other.
type verifyRow struct {
	name             string
	leaf             *spec
	roots, untrusted []*spec
	at               time.Time
	ok               bool
	differs          string
}

// Why a verdict may be another than OpenSSL's.
const (
	noSHA1      = "stricter: SHA-1 is not supported, on purpose"
	fewHashes   = "stricter: hashes and parameters beyond SHA-256, SHA-384 and SHA-512 are not supported"
	fewKeys     = "stricter: kinds of keys that the platform doesn't use are not supported"
	checkRoots  = "stricter: OpenSSL doesn't look at the signature of a trust anchor"
	rootsAreCAs = "stricter: OpenSSL takes some roots for CAs without basicConstraints"
	strictDER   = "stricter: crypto/x509 parses what RFC 5280 demands, OpenSSL lets it pass"
	cantCompare = "stricter: what can't be compared is refused, excluded or not"
	shallow     = "stricter: a path has at most 12 certificates"
	turnsBack   = "finds more: OpenSSL takes the first issuer that looks right, and never turns back"
	selfIssued  = "finds more: OpenSSL takes a self-issued certificate without key identifiers for self-signed"
	unknownExts = "stricter: critical extensions that no part of the platform uses are unknown"
)

// verifyTable collects rows.
type verifyTable struct{ rows []verifyRow }

// tree is a root, a sub CA and a leaf with P-256 keys, all of them good.
func tree() (root, sub, leaf *spec) {
	root = &spec{subject: dn("O=Test", "CN=Root"), key: newP256(), ca: true}
	sub = &spec{subject: dn("O=Test", "CN=Sub"), key: newP256(), ca: true, parent: root}
	leaf = &spec{subject: dn("O=Test", "CN=Leaf"), key: newP256(), parent: sub}
	return root, sub, leaf
}

var p256Count struct {
	sync.Mutex
	n int
}

func newP256() crypto.Signer {
	p256Count.Lock()
	defer p256Count.Unlock()
	p256Count.n++
	return testKey(fmt.Sprintf("p256/%d", p256Count.n))
}

// add adds a tree that change has made good or bad.
func (v *verifyTable) add(name string, ok bool, change func(root, sub, leaf *spec)) *verifyRow {
	root, sub, leaf := tree()
	change(root, sub, leaf)
	return v.row(verifyRow{name: name, ok: ok, leaf: leaf, roots: []*spec{root}, untrusted: []*spec{sub}})
}

func (v *verifyTable) row(r verifyRow) *verifyRow {
	if r.at.IsZero() {
		r.at = testNow
	}
	v.rows = append(v.rows, r)
	return &v.rows[len(v.rows)-1]
}

func verifyRows() []verifyRow {
	v := &verifyTable{}
	v.keyTypes()
	v.signatures()
	v.dates()
	v.authorities()
	v.pathLengths()
	v.nameConstraints()
	v.extensions()
	v.keyIdentifiers()
	v.topology()
	v.names()
	v.damage()
	return v.rows
}

func (v *verifyTable) keyTypes() {
	for _, kind := range []string{"rsa", "pss", "pss256", "pss512", "p256", "p384", "p521", "ed25519"} {
		key := testKey(kind + "/types")
		algorithm := must(spki.DefaultAlgorithm(must(spki.KeyTypeOf(key.Public())), 0))
		if kind == "pss512" {
			algorithm.Hash, algorithm.SaltLength = crypto.SHA512, 64
		}
		v.add("root "+kind, true, func(root, sub, leaf *spec) {
			root.key, root.algorithm, sub.algorithm = key, algorithm, algorithm
		})
		v.add("sub CA "+kind, true, func(root, sub, leaf *spec) { sub.key, leaf.algorithm = key, algorithm })
		v.add("leaf "+kind, true, func(root, sub, leaf *spec) { leaf.key = key })
	}
	v.add("leaf rsa:1024", true, func(root, sub, leaf *spec) { leaf.key = testKey("rsa1024/leaf") })
	v.add("leaf on a curve that we don't know", false, func(root, sub, leaf *spec) {
		// secp256k1; the point is its generator.
		point := "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
		leaf.public = seq(seq(oidDER(1, 2, 840, 10045, 2, 1), oidDER(1, 3, 132, 0, 10)), element(cbasn1.BIT_STRING, []byte{0}, unhex(point)))
	}).differs = fewKeys
}

func (v *verifyTable) signatures() {
	pssKey := testKey("rsa/types")
	type signer struct {
		kind string
		a    spki.SignatureAlgorithm
		ok   bool
	}
	list := []signer{}
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		list = append(list, signer{"rsa", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: h}, true})
		list = append(list, signer{"p256", spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: h}, true})
		list = append(list, signer{"p521", spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: h}, true})
		for _, salt := range []int{1, 20, h.Size(), 256 - h.Size() - 2} {
			a := spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: h, SaltLength: salt}
			list = append(list, signer{"rsa", a, true}, signer{"pss", a, true})
		}
	}
	for _, s := range []signer{
		{"pss256", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 31}, false},
		{"pss256", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 33}, true},
		{"pss256", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}, false},
		{"pss512", spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 64}, false},
		{"pss", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, false},
		{"pss512", spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}, false},
	} {
		list = append(list, s)
	}
	for _, s := range list {
		v.add(fmt.Sprintf("%s key signs with %v", s.kind, s.a), s.ok, func(root, sub, leaf *spec) {
			sub.key, leaf.algorithm = testKey(s.kind+"/types"), s.a
		})
	}
	v.add("PSS with an empty salt", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256}
	}).differs = fewHashes
	salted := spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}
	v.add("PSS with a longer salt than the parameters say", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, salted
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 31}.Marshal())
	})
	v.add("PSS signature under a PKCS#1 v1.5 identifier", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, salted
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}.Marshal())
	})
	v.add("PKCS#1 v1.5 signature under a PSS identifier", false, func(root, sub, leaf *spec) {
		sub.key, leaf.inner = pssKey, must(salted.Marshal())
		leaf.algorithm = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
	})
	v.add("SHA-256 signature under a SHA-512 identifier", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}.Marshal())
	})
	v.add("ECDSA identifier for an RSA key", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}.Marshal())
	})
	v.add("mask hash other than the message hash", false, func(root, sub, leaf *spec) {
		sub.key = pssKey
		sha256, sha512 := algorithmID(oidDER(2, 16, 840, 1, 101, 3, 4, 2, 1), null), algorithmID(oidDER(2, 16, 840, 1, 101, 3, 4, 2, 3), null)
		leaf.inner = algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 10), seq(explicit(0, sha256), explicit(1, algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 8), sha512)), explicit(2, []byte{2, 1, 32})))
		leaf.algorithm = salted
		leaf.sign = func(tbs []byte) []byte {
			return pssSign(rsaKey(pssKey), crypto.SHA256, crypto.SHA512, hashed(crypto.SHA256, tbs), make([]byte, 32))
		}
	}).differs = fewHashes
	v.add("PSS with default parameters, SHA-1", false, func(root, sub, leaf *spec) {
		sub.key = pssKey
		leaf.inner = algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 10), seq())
		leaf.algorithm = salted
		leaf.sign = func(tbs []byte) []byte {
			return pssSign(rsaKey(pssKey), crypto.SHA1, crypto.SHA1, hashed(crypto.SHA1, tbs), make([]byte, 20))
		}
	}).differs = noSHA1
	v.add("PSS with trailer field 2", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, salted
		sha256 := algorithmID(oidDER(2, 16, 840, 1, 101, 3, 4, 2, 1), null)
		leaf.inner = algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 10), seq(explicit(0, sha256), explicit(1, algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 8), sha256)), explicit(2, []byte{2, 1, 32}), explicit(3, []byte{2, 1, 2})))
	})
	// Identifiers of PKCS#1 v1.5: 5 is SHA-1, 4 MD5, 14 SHA-224.
	for _, x := range []struct {
		name    string
		hash    crypto.Hash
		oid     int
		differs string
	}{{"SHA-1", crypto.SHA1, 5, noSHA1}, {"SHA-224", crypto.SHA224, 14, fewHashes}} {
		sign := func(key crypto.Signer) func([]byte) []byte {
			return func(tbs []byte) []byte { return must(key.Sign(nil, hashed(x.hash, tbs), x.hash)) }
		}
		v.add("leaf signed with RSA "+x.name, false, func(root, sub, leaf *spec) {
			sub.key, leaf.inner = pssKey, algorithmID(oidDER(1, 2, 840, 113549, 1, 1, x.oid), null)
			leaf.algorithm, leaf.sign = salted, sign(pssKey)
		}).differs = x.differs
		v.add("sub CA signed with RSA "+x.name, false, func(root, sub, leaf *spec) {
			root.key, sub.inner = pssKey, algorithmID(oidDER(1, 2, 840, 113549, 1, 1, x.oid), null)
			sub.algorithm, sub.sign = salted, sign(pssKey)
		}).differs = x.differs
	}
	v.add("ECDSA with SHA-1", false, func(root, sub, leaf *spec) {
		leaf.inner = algorithmID(oidDER(1, 2, 840, 10045, 4, 1))
		leaf.sign = func(tbs []byte) []byte { return must(sub.key.Sign(testRand{}, hashed(crypto.SHA1, tbs), crypto.SHA1)) }
	}).differs = noSHA1
	v.add("RSA identifier without NULL", false, func(root, sub, leaf *spec) {
		sub.key, leaf.inner = pssKey, algorithmID(oidDER(1, 2, 840, 113549, 1, 1, 11))
		leaf.algorithm = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
	}).differs = strictDER
	v.add("ECDSA identifier with NULL", false, func(root, sub, leaf *spec) {
		leaf.inner = algorithmID(oidDER(1, 2, 840, 10045, 4, 3, 2), null)
	}).differs = strictDER
	v.add("inner and outer algorithm differ", false, func(root, sub, leaf *spec) {
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}.Marshal())
		leaf.outer = must(spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA384}.Marshal())
	})
	v.add("inner and outer salt differ", false, func(root, sub, leaf *spec) {
		sub.key, leaf.algorithm = pssKey, salted
		leaf.inner = must(spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 20}.Marshal())
		leaf.outer = must(salted.Marshal())
	})
}

func (v *verifyTable) dates() {
	day := 24 * time.Hour
	for i, level := range []string{"root", "sub CA", "leaf"} {
		v.add(level+" expired", false, func(root, sub, leaf *spec) { []*spec{root, sub, leaf}[i].to = testNow.Add(-day) })
		v.add(level+" not yet valid", false, func(root, sub, leaf *spec) { []*spec{root, sub, leaf}[i].from = testNow.Add(day) })
	}
	for _, x := range []struct {
		name     string
		from, to time.Duration
		ok       bool
	}{
		{"at notBefore", 0, day, true},
		{"a second before notBefore", time.Second, day, false},
		{"at notAfter", -day, 0, false},
		{"a second before notAfter", -day, time.Second, true},
		{"a second after notAfter", -day, -time.Second, false},
	} {
		v.add(x.name, x.ok, func(root, sub, leaf *spec) { leaf.from, leaf.to = testNow.Add(x.from), testNow.Add(x.to) })
	}
	v.add("leaf ends after its issuers", true, func(root, sub, leaf *spec) { leaf.to = testTo.AddDate(5, 0, 0) })
	for _, x := range []struct {
		name     string
		from, to []byte
		at       time.Time
		ok       bool
		differs  string
	}{
		{"UTCTime to the end of 2049", utcTime("260101000000Z"), utcTime("491231235959Z"), time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC), true, ""},
		{"GeneralizedTime from 2050", utcTime("260101000000Z"), generalizedTime("20500101000000Z"), time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC), true, ""},
		{"after the end of 2049", utcTime("260101000000Z"), utcTime("491231235959Z"), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), false, ""},
		{"UTCTime 50 is 1950", utcTime("260101000000Z"), utcTime("500101000000Z"), testNow, false, ""},
		{"valid since 1950", utcTime("500101000000Z"), utcTime("360101000000Z"), testNow, true, ""},
		{"valid to the year 9999", utcTime("260101000000Z"), generalizedTime("99991231235959Z"), time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC), true, ""},
		{"GeneralizedTime before 2050", generalizedTime("20260101000000Z"), generalizedTime("20360101000000Z"), testNow, true, ""},
		{"UTCTime without seconds", utcTime("2601010000Z"), utcTime("360101000000Z"), testNow, false, ""},
		{"UTCTime with an offset", utcTime("260101000000+0100"), utcTime("360101000000Z"), testNow, false, ""},
		{"GeneralizedTime with a fraction", utcTime("260101000000Z"), generalizedTime("20500101000000.5Z"), testNow, false, ""},
		{"the 30th of February", utcTime("260230000000Z"), utcTime("360101000000Z"), testNow, false, ""},
		{"notAfter before notBefore", utcTime("360101000000Z"), utcTime("260101000000Z"), testNow, false, ""},
	} {
		r := v.add("time: "+x.name, x.ok, func(root, sub, leaf *spec) {
			leaf.validity = validity(x.from, x.to)
			root.to, sub.to = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
		})
		r.at, r.differs = x.at, x.differs
	}
}

func (v *verifyTable) authorities() {
	certSign := []byte{3, 2, 2, 4}
	digitalSignature := []byte{3, 2, 7, 0x80}
	noBits := []byte{3, 1, 0}
	v.add("sub CA is CA:FALSE", false, func(root, sub, leaf *spec) { sub.set(oidBasicConstraints, true, seq()) })
	v.add("sub CA has no basicConstraints", false, func(root, sub, leaf *spec) { sub.drop(oidBasicConstraints) })
	v.add("sub CA has neither basicConstraints nor keyUsage", false, func(root, sub, leaf *spec) { sub.drop(oidBasicConstraints, oidKeyUsage) })
	v.add("sub CA has an explicit CA:FALSE", false, func(root, sub, leaf *spec) { sub.set(oidBasicConstraints, true, seq([]byte{1, 1, 0})) })
	v.add("sub CA's basicConstraints are not critical", true, func(root, sub, leaf *spec) { sub.set(oidBasicConstraints, false, basicConstraints(true, -1)) })
	v.add("sub CA's basicConstraints are cut off", false, func(root, sub, leaf *spec) { sub.set(oidBasicConstraints, true, []byte{0x30, 3, 1, 1}) })
	v.add("root is CA:FALSE", false, func(root, sub, leaf *spec) { root.set(oidBasicConstraints, true, seq()) })
	v.add("root has no basicConstraints, but keyCertSign", false, func(root, sub, leaf *spec) { root.drop(oidBasicConstraints) }).differs = rootsAreCAs
	v.add("root has neither basicConstraints nor keyUsage", false, func(root, sub, leaf *spec) { root.drop(oidBasicConstraints, oidKeyUsage) })
	v.add("sub CA lacks keyCertSign", false, func(root, sub, leaf *spec) { sub.set(oidKeyUsage, true, digitalSignature) })
	v.add("root lacks keyCertSign", false, func(root, sub, leaf *spec) { root.set(oidKeyUsage, true, digitalSignature) })
	v.add("sub CA's keyUsage is not critical and lacks keyCertSign", false, func(root, sub, leaf *spec) { sub.set(oidKeyUsage, false, digitalSignature) })
	v.add("sub CA has keyCertSign only", true, func(root, sub, leaf *spec) { sub.set(oidKeyUsage, true, certSign) })
	v.add("sub CA has no keyUsage", true, func(root, sub, leaf *spec) { sub.drop(oidKeyUsage) })
	v.add("root has no keyUsage", true, func(root, sub, leaf *spec) { root.drop(oidKeyUsage) })
	v.add("sub CA's keyUsage has no bits", false, func(root, sub, leaf *spec) { sub.set(oidKeyUsage, true, noBits) })
	v.add("root's keyUsage has no bits", false, func(root, sub, leaf *spec) { root.set(oidKeyUsage, true, noBits) })
	v.add("leaf's keyUsage has no bits", false, func(root, sub, leaf *spec) { leaf.set(oidKeyUsage, true, noBits) })
	v.add("leaf's keyUsage has zero bits only", false, func(root, sub, leaf *spec) { leaf.set(oidKeyUsage, true, []byte{3, 2, 0, 0}) })
	v.add("sub CA has decipherOnly only", false, func(root, sub, leaf *spec) { sub.set(oidKeyUsage, true, []byte{3, 3, 7, 0, 0x80}) })
	v.add("leaf is a CA", true, func(root, sub, leaf *spec) { leaf.ca = true })
	v.add("leaf has no keyUsage", true, func(root, sub, leaf *spec) { leaf.drop(oidKeyUsage) })
	v.add("leaf may only sign CRLs", true, func(root, sub, leaf *spec) { leaf.set(oidKeyUsage, true, []byte{3, 2, 1, 2}) })
	v.add("sub CA has serverAuth only, leaf clientAuth", true, func(root, sub, leaf *spec) {
		sub.set(oidExtKeyUsage, false, seq(oidDER(1, 3, 6, 1, 5, 5, 7, 3, 1)))
		leaf.set(oidExtKeyUsage, true, seq(oidDER(1, 3, 6, 1, 5, 5, 7, 3, 2)))
	})
	v.add("leaf v1", true, func(root, sub, leaf *spec) { leaf.version = 1 })
	v.add("sub CA v1", false, func(root, sub, leaf *spec) { sub.version = 1 })
	v.add("root v1", false, func(root, sub, leaf *spec) { root.version = 1 }).differs = rootsAreCAs
	v.add("leaf with negative serial", false, func(root, sub, leaf *spec) { leaf.serial = []byte{0x80, 1} }).differs = strictDER
	v.add("leaf with serial 0", true, func(root, sub, leaf *spec) { leaf.serial = []byte{0} })
	v.add("leaf with a serial of 21 octets", true, func(root, sub, leaf *spec) { leaf.serial = bytes.Repeat([]byte{0x11}, 21) })
}

func (v *verifyTable) pathLengths() {
	// deep is root, a, b, leaf.
	deep := func(name string, ok bool, change func(root, a, b, leaf *spec)) *verifyRow {
		root, a, leaf := tree()
		b := &spec{subject: dn("O=Test", "CN=Sub B"), key: newP256(), ca: true, parent: a}
		leaf.parent = b
		change(root, a, b, leaf)
		return v.row(verifyRow{name: name, ok: ok, leaf: leaf, roots: []*spec{root}, untrusted: []*spec{a, b}})
	}
	v.add("root path length 0, one sub CA", false, func(root, sub, leaf *spec) { root.pathLen = 1 })
	v.add("root path length 1, one sub CA", true, func(root, sub, leaf *spec) { root.pathLen = 2 })
	v.add("sub CA path length 0, leaf below", true, func(root, sub, leaf *spec) { sub.pathLen = 1 })
	v.add("sub CA path length 0, CA as leaf below", true, func(root, sub, leaf *spec) { sub.pathLen, leaf.ca = 1, true })
	deep("no path lengths, two sub CAs", true, func(root, a, b, leaf *spec) {})
	deep("root path length 1, two sub CAs", false, func(root, a, b, leaf *spec) { root.pathLen = 2 })
	deep("root path length 2, two sub CAs", true, func(root, a, b, leaf *spec) { root.pathLen = 3 })
	deep("upper sub CA path length 0", false, func(root, a, b, leaf *spec) { a.pathLen = 1 })
	deep("upper sub CA path length 1", true, func(root, a, b, leaf *spec) { a.pathLen = 2 })
	deep("path lengths 5 below 1", false, func(root, a, b, leaf *spec) { root.pathLen, a.pathLen = 2, 6 })
	deep("self-issued sub CA doesn't count", true, func(root, a, b, leaf *spec) {
		root.pathLen, b.subject = 2, a.subject
	})
	deep("self-issued sub CA doesn't count below path length 0", true, func(root, a, b, leaf *spec) {
		a.pathLen, b.subject = 1, a.subject
	})
	deep("self-issued sub CA at the top doesn't count", true, func(root, a, b, leaf *spec) {
		root.pathLen, a.subject = 2, root.subject
	})
	deep("self-issued sub CA's own path length counts", false, func(root, a, b, leaf *spec) {
		a.subject, a.pathLen = root.subject, 1
	})
	v.add("self-issued leaf counts for nothing", true, func(root, sub, leaf *spec) {
		sub.pathLen, leaf.subject, leaf.ca = 1, sub.subject, true
	})
	v.add("negative path length", false, func(root, sub, leaf *spec) {
		sub.set(oidBasicConstraints, true, seq([]byte{1, 1, 0xff}, []byte{2, 1, 0xff}))
	})
	v.add("path length of nine octets", false, func(root, sub, leaf *spec) {
		sub.set(oidBasicConstraints, true, seq([]byte{1, 1, 0xff}, []byte{2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0}))
	}).differs = strictDER
	v.add("leaf with path length 0, not a CA", true, func(root, sub, leaf *spec) { leaf.set(oidBasicConstraints, true, seq([]byte{2, 1, 0})) })
	v.add("leaf with path length 3, not a CA", true, func(root, sub, leaf *spec) { leaf.set(oidBasicConstraints, true, seq([]byte{2, 1, 3})) })
}

// general names and constraints, as DER
func gn(tag uint8, value string) []byte {
	if tag == tagDirectory {
		return explicit(tag, []byte(value))
	}
	return implicit(tag, []byte(value))
}
func san(names ...[]byte) []byte { return seq(names...) }
func subtrees(names ...[]byte) []byte {
	var list [][]byte
	for _, n := range names {
		list = append(list, seq(n))
	}
	return bytes.Join(list, nil)
}
func permitted(names ...[]byte) []byte { return seq(explicit(0, subtrees(names...))) }
func excluded(names ...[]byte) []byte  { return seq(explicit(1, subtrees(names...))) }

func (v *verifyTable) nameConstraints() {
	const email, dns, uri, ip, dir, other, id = tagEmail, tagDNS, tagURI, tagIP, tagDirectory, 0, 8
	upn := func(s string) []byte { // otherName with Microsoft's UPN
		return explicit(0, oidDER(1, 3, 6, 1, 4, 1, 311, 20, 2, 3), explicit(0, element(cbasn1.UTF8String, []byte(s))))
	}
	for _, x := range []struct {
		name        string
		constraints []byte
		leaf        [][]byte // subjectAltNames
		subject     []byte   // nil: O=Test, CN=Leaf
		ok          bool
		differs     string
	}{
		// DNS
		{"dns permitted, the host itself", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "example.com")}, nil, true, ""},
		{"dns permitted, below", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "a.b.example.com")}, nil, true, ""},
		{"dns permitted, other case", permitted(gn(dns, "Example.com")), [][]byte{gn(dns, "www.eXAMPLE.COM")}, nil, true, ""},
		{"dns permitted, suffix without a dot", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "badexample.com")}, nil, false, ""},
		{"dns permitted, another host", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "example.org")}, nil, false, ""},
		{"dns permitted, leading dot, below", permitted(gn(dns, ".example.com")), [][]byte{gn(dns, "www.example.com")}, nil, true, ""},
		{"dns permitted, leading dot, the host itself", permitted(gn(dns, ".example.com")), [][]byte{gn(dns, "example.com")}, nil, false, ""},
		{"dns permitted, a lone dot", permitted(gn(dns, ".")), [][]byte{gn(dns, "example.com")}, nil, false, ""},
		{"dns permitted, empty: everything", permitted(gn(dns, "")), [][]byte{gn(dns, "example.com")}, nil, true, ""},
		{"dns excluded, empty: everything", excluded(gn(dns, "")), [][]byte{gn(dns, "example.com")}, nil, false, ""},
		{"dns permitted twice, one matches", permitted(gn(dns, "example.org"), gn(dns, "example.com")), [][]byte{gn(dns, "example.com")}, nil, true, ""},
		{"dns permitted, one name outside", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "example.com"), gn(dns, "example.org")}, nil, false, ""},
		{"dns permitted, wildcard", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "*.example.com")}, nil, true, ""},
		{"dns permitted, trailing dot", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "www.example.com.")}, nil, false, ""},
		{"dns permitted, no dns name", permitted(gn(dns, "example.com")), [][]byte{gn(email, "a@example.org")}, nil, true, ""},
		{"dns excluded, below", excluded(gn(dns, "example.com")), [][]byte{gn(dns, "www.example.com")}, nil, false, ""},
		{"dns excluded, elsewhere", excluded(gn(dns, "example.com")), [][]byte{gn(dns, "www.example.org")}, nil, true, ""},
		{"dns permitted and excluded", seq(explicit(0, subtrees(gn(dns, "example.com"))), explicit(1, subtrees(gn(dns, "bad.example.com")))), [][]byte{gn(dns, "x.bad.example.com")}, nil, false, ""},
		{"dns permitted, beside the excluded", seq(explicit(0, subtrees(gn(dns, "example.com"))), explicit(1, subtrees(gn(dns, "bad.example.com")))), [][]byte{gn(dns, "good.example.com")}, nil, true, ""},
		// A common name that looks like a host counts as one.
		{"common name outside the permitted dns", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.org"), false, ""},
		{"common name inside the permitted dns", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.com"), true, ""},
		{"common name in the excluded dns", excluded(gn(dns, "example.com")), nil, dn("CN=www.example.com"), false, ""},
		{"common name that is no host", permitted(gn(dns, "example.com")), nil, dn("CN=A device"), true, ""},
		{"common name of one label", permitted(gn(dns, "example.com")), nil, dn("CN=localhost"), true, ""},
		{"common name with an underscore", permitted(gn(dns, "example.com")), nil, dn("CN=a_b.example.org"), false, ""},
		{"common name outside, but a dns name inside", permitted(gn(dns, "example.com")), [][]byte{gn(dns, "www.example.com")}, dn("CN=www.example.org"), true, ""},
		{"common name outside, and a mail address", permitted(gn(dns, "example.com")), [][]byte{gn(email, "a@b.example")}, dn("CN=www.example.org"), false, ""},
		{"second common name outside", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.com", "CN=www.example.org"), false, ""},
		{"common name with a trailing dot", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.org."), true, ""},
		{"common name with a leading hyphen", permitted(gn(dns, "example.com")), nil, dn("CN=-www.example.org"), true, ""},
		{"common name with two dots", permitted(gn(dns, "example.com")), nil, dn("CN=www..example.org"), true, ""},
		{"common name with a trailing NUL", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.org\x00"), false, ""},
		{"common name with a NUL in the middle", permitted(gn(dns, "example.com")), nil, dn("CN=www.example.org\x00.example.com"), false, ""},
		// Mail
		{"email permitted, host", permitted(gn(email, "example.com")), [][]byte{gn(email, "a@example.com")}, nil, true, ""},
		{"email permitted, host in other case", permitted(gn(email, "example.com")), [][]byte{gn(email, "a@EXAMPLE.com")}, nil, true, ""},
		{"email permitted, host, sub host", permitted(gn(email, "example.com")), [][]byte{gn(email, "a@www.example.com")}, nil, false, ""},
		{"email permitted, domain, sub host", permitted(gn(email, ".example.com")), [][]byte{gn(email, "a@www.example.com")}, nil, true, ""},
		{"email permitted, domain, the host itself", permitted(gn(email, ".example.com")), [][]byte{gn(email, "a@example.com")}, nil, false, ""},
		{"email permitted, mailbox", permitted(gn(email, "a@example.com")), [][]byte{gn(email, "a@Example.com")}, nil, true, ""},
		{"email permitted, mailbox in other case", permitted(gn(email, "a@example.com")), [][]byte{gn(email, "A@example.com")}, nil, false, ""},
		{"email permitted, another mailbox", permitted(gn(email, "a@example.com")), [][]byte{gn(email, "b@example.com")}, nil, false, ""},
		{"email excluded, host", excluded(gn(email, "example.com")), [][]byte{gn(email, "a@example.com")}, nil, false, ""},
		{"email excluded, another host", excluded(gn(email, "example.com")), [][]byte{gn(email, "a@example.org")}, nil, true, ""},
		{"email permitted, address in the subject outside", permitted(gn(email, "example.com")), nil, dn("CN=A", "E=a@example.org"), false, ""},
		{"email permitted, address in the subject inside", permitted(gn(email, "example.com")), nil, dn("CN=A", "E=a@example.com"), true, ""},
		{"address in the subject as UTF8String", permitted(gn(dns, "example.com")), nil, dn("CN=A", set(ava("1.2.840.113549.1.9.1", cbasn1.UTF8String, "a@example.com"))), false, ""},
		{"email permitted, empty: nothing", permitted(gn(email, "")), [][]byte{gn(email, "a@example.com")}, nil, false, ""},
		// URI
		{"uri permitted, host", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com/a")}, nil, true, ""},
		{"uri permitted, host with port", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com:8443/a")}, nil, true, ""},
		{"uri permitted, host in other case", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://EXAMPLE.com")}, nil, true, ""},
		{"uri permitted, host, sub host", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://www.example.com/")}, nil, false, ""},
		{"uri permitted, domain, sub host", permitted(gn(uri, ".example.com")), [][]byte{gn(uri, "https://www.example.com/")}, nil, true, ""},
		{"uri permitted, domain, the host itself", permitted(gn(uri, ".example.com")), [][]byte{gn(uri, "https://example.com/")}, nil, false, ""},
		{"uri permitted, no host in it", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "UUID:0e4bdf5a-8a4b-4f4f-8d3a-8b0a6c2f6c3d")}, nil, false, ""},
		{"uri excluded, no host in it", excluded(gn(uri, "example.com")), [][]byte{gn(uri, "UUID:0e4bdf5a-8a4b-4f4f-8d3a-8b0a6c2f6c3d")}, nil, false, ""},
		{"uri excluded, host", excluded(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com/")}, nil, false, ""},
		{"uri excluded, another host", excluded(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.org/")}, nil, true, ""},
		{"uri permitted, user before the host", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://user@example.com/")}, nil, false, ""},
		{"uri excluded, user before the host", excluded(gn(uri, "example.com")), [][]byte{gn(uri, "https://user@example.com/")}, nil, false, cantCompare},
		{"uri permitted, the password looks like a host", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com:x@example.org/")}, nil, false, cantCompare},
		{"uri permitted, query after the host", permitted(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com?a")}, nil, false, ""},
		{"uri excluded, query after the host", excluded(gn(uri, "example.com")), [][]byte{gn(uri, "https://example.com?a")}, nil, false, cantCompare},
		// IP
		{"ip permitted, inside", permitted(gn(ip, "\x0a\x00\x00\x00\xff\x00\x00\x00")), [][]byte{gn(ip, "\x0a\x01\x02\x03")}, nil, true, ""},
		{"ip permitted, outside", permitted(gn(ip, "\x0a\x00\x00\x00\xff\x00\x00\x00")), [][]byte{gn(ip, "\x0b\x01\x02\x03")}, nil, false, ""},
		{"ip excluded, inside", excluded(gn(ip, "\x0a\x00\x00\x00\xff\x00\x00\x00")), [][]byte{gn(ip, "\x0a\x01\x02\x03")}, nil, false, ""},
		{"ip v4 permitted, a v6 address", permitted(gn(ip, "\x0a\x00\x00\x00\xff\x00\x00\x00")), [][]byte{gn(ip, strings.Repeat("\x0a", 16))}, nil, false, ""},
		{"ip v4 excluded, a v6 address", excluded(gn(ip, "\x0a\x00\x00\x00\xff\x00\x00\x00")), [][]byte{gn(ip, strings.Repeat("\x0a", 16))}, nil, true, ""},
		{"ip v6 permitted, inside", permitted(gn(ip, strings.Repeat("\x0a", 16)+strings.Repeat("\xff", 8)+strings.Repeat("\x00", 8))), [][]byte{gn(ip, strings.Repeat("\x0a", 16))}, nil, true, ""},
		{"ip permitted, host bits set in the constraint", permitted(gn(ip, "\x0a\x01\x02\x03\xff\x00\x00\x00")), [][]byte{gn(ip, "\x0a\x09\x09\x09")}, nil, true, ""},
		{"ip permitted, 0.0.0.0/0", permitted(gn(ip, "\x00\x00\x00\x00\x00\x00\x00\x00")), [][]byte{gn(ip, "\x0a\x01\x02\x03")}, nil, true, ""},
		{"ip permitted, mask with holes", permitted(gn(ip, "\x0a\x00\x00\x00\xff\x00\xff\x00")), [][]byte{gn(ip, "\x0a\x01\x00\x03")}, nil, false, strictDER},
		{"ip constraint of five octets", permitted(gn(ip, "\x0a\x00\x00\x00\xff")), [][]byte{gn(ip, "\x0a\x01\x02\x03")}, nil, false, ""},
		// Directory names
		{"dirname permitted, the same", permitted(gn(dir, string(dn("O=Test", "CN=Leaf")))), nil, nil, true, ""},
		{"dirname permitted, below", permitted(gn(dir, string(dn("O=Test")))), nil, nil, true, ""},
		{"dirname permitted, other case and string type", permitted(gn(dir, string(dn(set(ava("2.5.4.10", cbasn1.PrintableString, "  tEST ")))))), nil, nil, true, ""},
		{"dirname permitted, elsewhere", permitted(gn(dir, string(dn("O=Other")))), nil, nil, false, ""},
		{"dirname permitted, a prefix of the value", permitted(gn(dir, string(dn("O=Tes")))), nil, nil, false, ""},
		{"dirname permitted, longer than the subject", permitted(gn(dir, string(dn("O=Test", "CN=Leaf", "OU=x")))), nil, nil, false, ""},
		{"dirname permitted, empty: everything", permitted(gn(dir, string(dn()))), nil, nil, true, ""},
		{"dirname excluded, below", excluded(gn(dir, string(dn("O=Test")))), nil, nil, false, ""},
		{"dirname excluded, elsewhere", excluded(gn(dir, string(dn("O=Other")))), nil, nil, true, ""},
		{"dirname permitted, directory name in the SAN outside", permitted(gn(dir, string(dn("O=Test")))), [][]byte{gn(dir, string(dn("O=Other")))}, nil, false, ""},
		{"dirname permitted, empty subject", permitted(gn(dir, string(dn("O=Test")))), [][]byte{gn(dns, "a.example")}, dn(), true, ""},
		{"dirname permitted, half of a multi-valued RDN", permitted(gn(dir, string(dn(set(ava("2.5.4.10", cbasn1.UTF8String, "Test")))))), nil,
			dn(set(ava("2.5.4.3", cbasn1.UTF8String, "Leaf"), ava("2.5.4.10", cbasn1.UTF8String, "Test")), "OU=x"), false, ""},
		{"dirname permitted, first half of a multi-valued RDN", permitted(gn(dir, string(dn(set(ava("2.5.4.3", cbasn1.UTF8String, "Leaf")))))), nil,
			dn(set(ava("2.5.4.3", cbasn1.UTF8String, "Leaf"), ava("2.5.4.10", cbasn1.UTF8String, "Test"))), false, ""},
		{"dirname excluded, umlaut in other case", excluded(gn(dir, string(dn("O=Ä")))), nil, dn("O=ä", "CN=x"), true, ""},
		// What can't be compared
		{"other name permitted, none there", permitted(upn("a@example.com")), [][]byte{gn(dns, "example.com")}, nil, true, ""},
		{"other name permitted, one there", permitted(upn("a@example.com")), [][]byte{upn("a@example.com")}, nil, false, ""},
		{"other name excluded, another kind there", excluded(upn("a@example.com")), [][]byte{explicit(0, oidDER(1, 2, 3), explicit(0, null))}, nil, false, cantCompare},
		{"registered id permitted, one there", permitted(gn(id, "\x2a\x03")), [][]byte{gn(id, "\x2a\x03")}, nil, false, ""},
		{"registered id excluded, none there", excluded(gn(id, "\x2a\x03")), [][]byte{gn(dns, "example.com")}, nil, true, ""},
		{"email permitted, a UTF-8 mailbox outside", permitted(gn(email, "example.com")), [][]byte{explicit(0, oidDER(1, 3, 6, 1, 5, 5, 7, 8, 9), explicit(0, element(cbasn1.UTF8String, []byte("ä@example.org"))))}, nil, false, ""},
		{"email permitted, a UTF-8 mailbox inside", permitted(gn(email, "example.com")), [][]byte{explicit(0, oidDER(1, 3, 6, 1, 5, 5, 7, 8, 9), explicit(0, element(cbasn1.UTF8String, []byte("ä@example.com"))))}, nil, false, cantCompare},
		// Odd encodings
		{"subtree with minimum 0", seq(explicit(0, seq(gn(dns, "example.com"), implicit(0, []byte{0})))), [][]byte{gn(dns, "example.com")}, nil, false, strictDER},
		{"subtree with minimum 1", seq(explicit(0, seq(gn(dns, "example.com"), implicit(0, []byte{1})))), [][]byte{gn(dns, "example.com")}, nil, false, ""},
		{"no subtrees", seq(), [][]byte{gn(dns, "example.com")}, nil, false, strictDER},
		{"trailing data", append(permitted(gn(dns, "example.com")), 0), [][]byte{gn(dns, "example.com")}, nil, false, strictDER},
	} {
		r := v.add("name constraints: "+x.name, x.ok, func(root, sub, leaf *spec) {
			sub.set(oidNameConstraints, true, x.constraints)
			if x.leaf != nil {
				leaf.set(oidSubjectAltName, false, san(x.leaf...))
			}
			if x.subject != nil {
				leaf.subject = x.subject
			}
		})
		r.differs = x.differs
	}
	v.add("name constraints: of the root hold for the leaf", false, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, permitted(gn(dns, "example.com")))
		leaf.set(oidSubjectAltName, false, san(gn(dns, "example.org")))
	})
	v.add("name constraints: of the root hold for the sub CA", false, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, excluded(gn(dir, string(sub.subject))))
	})
	v.add("name constraints: don't hold for their own CA", true, func(root, sub, leaf *spec) {
		sub.set(oidNameConstraints, true, excluded(gn(dir, string(sub.subject))))
	})
	v.add("name constraints: both CAs permit", true, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, permitted(gn(dns, "example.com")))
		sub.set(oidNameConstraints, true, permitted(gn(dns, "sub.example.com")))
		leaf.set(oidSubjectAltName, false, san(gn(dns, "a.sub.example.com")))
	})
	v.add("name constraints: one of the CAs doesn't permit", false, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, permitted(gn(dns, "example.com")))
		sub.set(oidNameConstraints, true, permitted(gn(dns, "sub.example.com")))
		leaf.set(oidSubjectAltName, false, san(gn(dns, "a.example.com")))
	})
	v.add("name constraints: not critical, and broken by the leaf", false, func(root, sub, leaf *spec) {
		sub.set(oidNameConstraints, false, permitted(gn(dns, "example.com")))
		leaf.set(oidSubjectAltName, false, san(gn(dns, "example.org")))
	})
	v.add("name constraints: a common name counts in the leaf only", true, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, permitted(gn(dns, "example.com")))
		sub.subject = dn("CN=www.example.org")
		leaf.set(oidSubjectAltName, false, san(gn(dns, "example.com")))
	})
	v.add("name constraints: a self-issued sub CA is exempt", true, func(root, sub, leaf *spec) {
		root.set(oidNameConstraints, true, excluded(gn(dir, string(root.subject))))
		sub.subject = root.subject
	})
	v.add("name constraints: a self-issued leaf is not exempt", false, func(root, sub, leaf *spec) {
		sub.set(oidNameConstraints, true, excluded(gn(dir, string(sub.subject))))
		leaf.subject = sub.subject
	})
	v.add("name constraints: in a leaf bind nobody", true, func(root, sub, leaf *spec) {
		leaf.set(oidNameConstraints, true, excluded(gn(dir, string(leaf.subject))))
	}).differs = ""
}

func (v *verifyTable) extensions() {
	unknown := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	for i, level := range []string{"root", "sub CA", "leaf"} {
		at := func(root, sub, leaf *spec) *spec { return []*spec{root, sub, leaf}[i] }
		v.add(level+" has an unknown critical extension", false, func(root, sub, leaf *spec) { at(root, sub, leaf).set(unknown, true, null) })
		v.add(level+" has an unknown extension", true, func(root, sub, leaf *spec) { at(root, sub, leaf).set(unknown, false, null) })
	}
	for _, x := range []struct {
		name    string
		oid     asn1.ObjectIdentifier
		value   []byte
		ok      bool
		differs string
	}{
		{"subjectAltName", oidSubjectAltName, san(gn(tagDNS, "example.com")), true, ""},
		{"subjectAltName with a directory name", oidSubjectAltName, san(gn(tagDirectory, string(dn("CN=x")))), true, ""},
		{"subjectAltName that is malformed", oidSubjectAltName, []byte{0x30, 5, 0x82, 9}, false, ""},
		{"extendedKeyUsage", oidExtKeyUsage, seq(oidDER(1, 2, 3, 4)), true, ""},
		{"certificatePolicies", oidPolicies, seq(seq(oidDER(2, 5, 29, 32, 0))), true, ""},
		{"policyConstraints", asn1.ObjectIdentifier{2, 5, 29, 36}, seq(implicit(0, []byte{0})), true, ""},
		{"inhibitAnyPolicy", asn1.ObjectIdentifier{2, 5, 29, 54}, []byte{2, 1, 0}, true, ""},
		{"cRLDistributionPoints", oidCRLDistribution, seq(seq(explicit(0, explicit(0, gn(tagURI, "http://a.example/crl"))))), true, ""},
		{"authorityInfoAccess", oidAuthorityInfo, seq(seq(oidDER(1, 3, 6, 1, 5, 5, 7, 48, 1), gn(tagURI, "http://a.example/"))), false, ""},
		{"Netscape certificate type", asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 1}, []byte{3, 2, 0, 0xff}, false, unknownExts},
		{"OCSP nocheck", asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, null, false, unknownExts},
		{"a subjectKeyIdentifier", oidSubjectKeyID, octets([]byte{1, 2, 3}), false, ""},
	} {
		v.add("leaf has critical "+x.name, x.ok, func(root, sub, leaf *spec) { leaf.set(x.oid, true, x.value) }).differs = x.differs
	}
	v.add("leaf has an extension twice", false, func(root, sub, leaf *spec) {
		leaf.extensions = append(leaf.extensions, testExtension{unknown, false, null}, testExtension{unknown, false, null})
	}).differs = strictDER
	v.add("leaf has basicConstraints twice", false, func(root, sub, leaf *spec) {
		leaf.extensions = append(leaf.extensions, testExtension{oidBasicConstraints, true, basicConstraints(true, -1)})
	})
}

func (v *verifyTable) keyIdentifiers() {
	v.add("leaf names another key", false, func(root, sub, leaf *spec) {
		leaf.set(oidAuthorityKeyID, false, authorityKeyID([]byte{1, 2, 3}, nil, nil))
	})
	v.add("sub CA names another key", false, func(root, sub, leaf *spec) {
		sub.set(oidAuthorityKeyID, false, authorityKeyID([]byte{1, 2, 3}, nil, nil))
	})
	v.add("leaf names no key", true, func(root, sub, leaf *spec) { leaf.drop(oidAuthorityKeyID) })
	v.add("leaf has an empty authority key identifier", true, func(root, sub, leaf *spec) { leaf.set(oidAuthorityKeyID, false, seq()) })
	v.add("sub CA has no subject key identifier", true, func(root, sub, leaf *spec) { sub.drop(oidSubjectKeyID) })
	v.add("nobody has key identifiers", true, func(root, sub, leaf *spec) {
		for _, s := range []*spec{root, sub, leaf} {
			s.drop(oidSubjectKeyID, oidAuthorityKeyID)
		}
	})
	v.add("key identifiers that are no hash of the key", true, func(root, sub, leaf *spec) {
		sub.set(oidSubjectKeyID, false, octets([]byte("sub")))
		leaf.set(oidAuthorityKeyID, false, authorityKeyID([]byte("sub"), nil, nil))
	})
	v.add("leaf pins issuer and serial", true, func(root, sub, leaf *spec) {
		sub.serial = []byte{0, 0x99}
		leaf.set(oidAuthorityKeyID, false, authorityKeyID(nil, root.subject, []byte{0, 0x99}))
	})
	v.add("leaf pins another serial", false, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, authorityKeyID(nil, root.subject, []byte{8}))
	})
	v.add("leaf pins serial 0", false, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, authorityKeyID(nil, root.subject, []byte{0}))
	})
	v.add("leaf pins another issuer", false, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, authorityKeyID(nil, sub.subject, []byte{7}))
	})
	v.add("leaf pins the issuer in other case", true, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, authorityKeyID(nil, dn("O=TEST", "CN=ROOT"), []byte{7}))
	})
	v.add("leaf pins the issuer behind another kind of name", true, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, seq(explicit(1, gn(tagURI, "http://a.example"), gn(tagDirectory, string(root.subject))), implicit(2, []byte{7})))
	})
	v.add("leaf pins another issuer behind another kind of name", false, func(root, sub, leaf *spec) {
		sub.serial = []byte{7}
		leaf.set(oidAuthorityKeyID, false, seq(explicit(1, gn(tagURI, "http://a.example"), gn(tagDirectory, string(sub.subject))), implicit(2, []byte{7})))
	})
	v.add("root pins another key than its own", false, func(root, sub, leaf *spec) {
		root.set(oidAuthorityKeyID, false, authorityKeyID([]byte{1, 2, 3}, nil, nil))
	})
}

func (v *verifyTable) topology() {
	root, sub, leaf := tree()
	_, otherSub, otherLeaf := tree()
	v.row(verifyRow{name: "missing sub CA", leaf: leaf, roots: []*spec{root}})
	v.row(verifyRow{name: "another root", leaf: leaf, roots: []*spec{otherSub.parent}, untrusted: []*spec{sub}})
	v.row(verifyRow{name: "root among the helpers only", leaf: leaf, roots: []*spec{otherSub.parent}, untrusted: []*spec{sub, root}})
	v.row(verifyRow{name: "helpers hold all of the chain", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{leaf, root, sub}, ok: true})
	v.row(verifyRow{name: "unrelated helpers and roots", leaf: leaf, roots: []*spec{otherSub.parent, root}, untrusted: []*spec{otherSub, otherLeaf, sub}, ok: true})
	v.row(verifyRow{name: "helpers twice", leaf: leaf, roots: []*spec{root, root}, untrusted: []*spec{sub, sub}, ok: true})
	v.row(verifyRow{name: "sub CA as the only root", leaf: leaf, roots: []*spec{sub}, untrusted: []*spec{sub}})
	v.row(verifyRow{name: "sub CA as the only root, root among the helpers", leaf: leaf, roots: []*spec{sub}, untrusted: []*spec{root}})
	v.row(verifyRow{name: "sub CA among the roots, beside its root", leaf: leaf, roots: []*spec{sub, root}, ok: true})
	v.row(verifyRow{name: "leaf among the roots", leaf: leaf, roots: []*spec{leaf}})
	v.row(verifyRow{name: "leaf among the roots, beside its root", leaf: leaf, roots: []*spec{leaf, root}, untrusted: []*spec{sub}, ok: true})
	v.row(verifyRow{name: "root for itself", leaf: root, roots: []*spec{root}, ok: true})
	v.row(verifyRow{name: "root for itself, not trusted", leaf: root, roots: []*spec{otherSub.parent}, untrusted: []*spec{root}})
	v.row(verifyRow{name: "sub CA below its root", leaf: sub, roots: []*spec{root}, ok: true})
	self := &spec{subject: dn("CN=Self"), key: newP256()}
	v.row(verifyRow{name: "self-signed leaf, trusted", leaf: self, roots: []*spec{self}, ok: true})
	v.row(verifyRow{name: "self-signed leaf, not trusted", leaf: self, roots: []*spec{root}})

	// The anchor twin: subject and key of the sub CA, self-signed.
	twin := &spec{subject: sub.subject, key: sub.key, ca: true, pathLen: 1}
	v.row(verifyRow{name: "anchor twin", leaf: leaf, roots: []*spec{twin}, ok: true})
	v.row(verifyRow{name: "anchor twin, the sub CA among the helpers", leaf: leaf, roots: []*spec{twin}, untrusted: []*spec{sub}, ok: true})
	device := &spec{subject: dn("O=Test", "CN=Device Sub"), key: newP256(), ca: true, parent: root}
	deviceLeaf := &spec{subject: dn("CN=Device"), key: newP256(), parent: device}
	v.row(verifyRow{name: "anchor twin refuses what hangs below a sister", leaf: deviceLeaf, roots: []*spec{twin}, untrusted: []*spec{device, sub, root}})
	v.row(verifyRow{name: "anchor twin refuses its sub CA's sister with the helpers' root", leaf: device, roots: []*spec{twin}, untrusted: []*spec{root}})
	mimic := &spec{subject: sub.subject, key: newP256(), ca: true}
	v.row(verifyRow{name: "anchor with the sub CA's name and another key", leaf: leaf, roots: []*spec{mimic}, untrusted: []*spec{sub}})
	v.row(verifyRow{name: "a twin of the root is another root", leaf: root, roots: []*spec{{subject: root.subject, key: root.key, ca: true}}})
	v.row(verifyRow{name: "twin among the helpers only", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{twin, sub},
		ok: true, differs: turnsBack})

	// Sub CAs of one name
	stranger := &spec{subject: sub.subject, key: newP256(), ca: true, parent: root}
	v.row(verifyRow{name: "same name, other key, told apart by key identifiers", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{stranger, sub}, ok: true})
	bare := &spec{subject: dn("CN=Bare"), key: newP256(), parent: sub}
	bare.drop(oidAuthorityKeyID)
	v.row(verifyRow{name: "same name, other key, right one first, no key identifiers", leaf: bare, roots: []*spec{root}, untrusted: []*spec{sub, stranger}, ok: true})
	v.row(verifyRow{name: "same name, other key, wrong one first, no key identifiers", leaf: bare, roots: []*spec{root}, untrusted: []*spec{stranger, sub}, ok: true, differs: turnsBack})
	v.row(verifyRow{name: "same name, other key, wrong one only", leaf: bare, roots: []*spec{root}, untrusted: []*spec{stranger}})
	old := &spec{subject: sub.subject, key: sub.key, ca: true, parent: root, to: testNow.AddDate(-1, 0, 0)}
	v.row(verifyRow{name: "renewed sub CA, the expired one first", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{old, sub}, ok: true})
	v.row(verifyRow{name: "renewed sub CA, the expired one only", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{old}})
	notCA := &spec{subject: sub.subject, key: sub.key, parent: root}
	v.row(verifyRow{name: "same name and key, not a CA, first", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{notCA, sub}, ok: true, differs: turnsBack})

	// Cross-certificates
	otherRoot := otherSub.parent
	otherRoot.subject = dn("O=Other", "CN=Root")
	cross := &spec{subject: sub.subject, key: sub.key, ca: true, parent: otherRoot}
	v.row(verifyRow{name: "cross-certificate of the sub CA, other root", leaf: leaf, roots: []*spec{otherRoot}, untrusted: []*spec{cross}, ok: true})
	v.row(verifyRow{name: "cross-certificate beside the sub CA, first root", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{sub, cross}, ok: true})
	v.row(verifyRow{name: "cross-certificate first, first root", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{cross, sub}, ok: true, differs: turnsBack})
	crossRoot := &spec{subject: root.subject, key: root.key, ca: true, parent: otherRoot}
	v.row(verifyRow{name: "cross-certificate of the root", leaf: leaf, roots: []*spec{otherRoot}, untrusted: []*spec{sub, crossRoot}, ok: true})
	crossBack := &spec{subject: otherRoot.subject, key: otherRoot.key, ca: true, parent: root}
	v.row(verifyRow{name: "two roots that certify each other, neither trusted", leaf: leaf, roots: []*spec{self}, untrusted: []*spec{sub, crossRoot, crossBack}})
	v.row(verifyRow{name: "cross-certificate with a path length that is too short", leaf: leaf, roots: []*spec{otherRoot},
		untrusted: []*spec{sub, {subject: root.subject, key: root.key, ca: true, pathLen: 1, parent: otherRoot}}})

	// Key rollover (RFC 4210, Section 4.4)
	newKey := newP256()
	newRoot := &spec{subject: root.subject, key: newKey, ca: true}
	newWithOld := &spec{subject: root.subject, key: newKey, ca: true, parent: root}
	newSub := &spec{subject: sub.subject, key: sub.key, ca: true, parent: newRoot}
	v.row(verifyRow{name: "new root key certified with the old one", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{newSub, newWithOld}, ok: true})
	plain := &spec{subject: root.subject, key: newKey, ca: true, parent: root}
	plain.drop(oidAuthorityKeyID)
	v.row(verifyRow{name: "new root key certified with the old one, no key identifier", leaf: leaf, roots: []*spec{root}, untrusted: []*spec{newSub, plain}, ok: true, differs: selfIssued})

	// Depth
	long := func(n int) (*spec, []*spec, *spec) {
		top := &spec{subject: dn("CN=Top"), key: newP256(), ca: true}
		last := top
		var helpers []*spec
		for i := range n {
			last = &spec{subject: dn(fmt.Sprintf("CN=Sub %d", i)), key: newP256(), ca: true, parent: last}
			helpers = append(helpers, last)
		}
		return &spec{subject: dn("CN=Deep"), key: newP256(), parent: last}, helpers, top
	}
	end, helpers, top := long(10)
	v.row(verifyRow{name: "12 certificates", leaf: end, roots: []*spec{top}, untrusted: helpers, ok: true})
	end, helpers, top = long(11)
	v.row(verifyRow{name: "13 certificates", leaf: end, roots: []*spec{top}, untrusted: helpers, differs: shallow})
}

func (v *verifyTable) names() {
	for _, x := range []struct {
		name    string
		subject []byte // of the sub CA
		issuer  []byte // in the leaf
		ok      bool
		differs string
	}{
		{"other case", dn("CN=Sub CA"), dn("CN=SUB ca"), true, ""},
		{"white space around and inside", dn("CN=Sub CA"), dn("CN=  Sub   CA "), true, ""},
		{"tab for a space", dn("CN=Sub CA"), dn("CN=Sub\tCA"), true, ""},
		{"no space for a space", dn("CN=Sub CA"), dn("CN=SubCA"), false, ""},
		{"no-break space for a space", dn("CN=Sub CA"), dn("CN=Sub\u00a0CA"), false, ""},
		{"PrintableString for UTF8String", dn("CN=Sub CA"), printable("Sub CA"), true, ""},
		{"IA5String for UTF8String", dn("CN=Sub CA"), dn(set(ava("2.5.4.3", cbasn1.IA5String, "Sub CA"))), true, ""},
		{"T61String for UTF8String", dn("CN=Sub CA"), dn(set(ava("2.5.4.3", cbasn1.T61String, "Sub CA"))), true, ""},
		{"BMPString for UTF8String", dn("CN=Sub"), dn(set(ava("2.5.4.3", cbasn1.Tag(30), "\x00S\x00u\x00b"))), true, ""},
		{"NumericString for UTF8String", dn("CN=123"), dn(set(ava("2.5.4.3", cbasn1.Tag(18), "123"))), false, ""},
		{"umlaut the same", dn("CN=Ä"), dn("CN=Ä"), true, ""},
		{"umlaut in other case", dn("CN=Ä"), dn("CN=ä"), false, ""},
		{"umlaut in two forms of Unicode", dn("CN=\u00c4"), dn("CN=A\u0308"), false, ""},
		{"kelvin sign for K", dn("CN=K"), dn("CN=\u212a"), false, ""},
		{"another order", dn("O=A", "CN=B"), dn("CN=B", "O=A"), false, ""},
		{"another attribute", dn("O=A"), dn("OU=A"), false, ""},
		{"one RDN more", dn("O=A"), dn("O=A", "CN=B"), false, ""},
		{"one RDN for two", dn("O=A", "CN=B"), dn(set(ava("2.5.4.10", cbasn1.UTF8String, "A"), ava("2.5.4.3", cbasn1.UTF8String, "B"))), false, ""},
		{"multi-valued RDN, the same", dn(set(ava("2.5.4.3", cbasn1.UTF8String, "B"), ava("2.5.4.10", cbasn1.UTF8String, "A"))), dn(set(ava("2.5.4.3", cbasn1.UTF8String, "B"), ava("2.5.4.10", cbasn1.UTF8String, "A"))), true, ""},
		{"multi-valued RDN in another order", dn(set(ava("2.5.4.3", cbasn1.UTF8String, "B"), ava("2.5.4.10", cbasn1.UTF8String, "A"))), dn(set(ava("2.5.4.10", cbasn1.UTF8String, "A"), ava("2.5.4.3", cbasn1.UTF8String, "B"))), true, ""},
		{"empty", dn(), dn(), true, ""},
		{"newline the same", dn("CN=A\nB"), dn("CN=A\nB"), true, ""},
		{"a separator that isn't one", dn("CN=A, O=B"), dn("CN=A", "O=B"), false, ""},
		{"invalid UTF-8", dn("CN=A\xff"), dn("CN=A\xff"), false, ""},
		{"VisibleString", dn(set(ava("2.5.4.3", cbasn1.Tag(26), "Sub"))), dn("CN=Sub"), false, ""},
	} {
		v.add("names: "+x.name, x.ok, func(root, sub, leaf *spec) { sub.subject, leaf.issuer = x.subject, x.issuer }).differs = x.differs
	}
}

func (v *verifyTable) damage() {
	flip := func(at func(der []byte) int) func([]byte) []byte {
		return func(der []byte) []byte {
			der = bytes.Clone(der)
			der[at(der)] ^= 1
			return der
		}
	}
	last := func(der []byte) int { return len(der) - 1 }
	inName := func(text string) func(der []byte) int {
		return func(der []byte) int { return bytes.LastIndex(der, []byte(text)) }
	}
	v.add("bit of the leaf's signature", false, func(root, sub, leaf *spec) { leaf.tamper = flip(last) })
	v.add("bit of the sub CA's signature", false, func(root, sub, leaf *spec) { sub.tamper = flip(last) })
	v.add("bit of the root's signature", false, func(root, sub, leaf *spec) { root.tamper = flip(last) }).differs = checkRoots
	v.add("bit of the leaf's subject", false, func(root, sub, leaf *spec) { leaf.tamper = flip(inName("Leaf")) })
	v.add("bit of the leaf's key", false, func(root, sub, leaf *spec) {
		leaf.key = testKey("ed25519/types")
		leaf.tamper = flip(func(der []byte) int { return bytes.Index(der, leaf.spki()) + len(leaf.spki()) - 1 })
	})
	v.add("bit of an RSA signature", false, func(root, sub, leaf *spec) { sub.key, leaf.tamper = testKey("rsa/types"), flip(last) })
	v.add("bit of a PSS signature", false, func(root, sub, leaf *spec) { sub.key, leaf.tamper = testKey("pss/types"), flip(last) })
	v.add("bit of an Ed25519 signature", false, func(root, sub, leaf *spec) { sub.key, leaf.tamper = testKey("ed25519/types"), flip(last) })
	v.add("empty signature", false, func(root, sub, leaf *spec) { leaf.sign = func([]byte) []byte { return nil } })
	v.add("signature of zeros", false, func(root, sub, leaf *spec) { leaf.sign = func([]byte) []byte { return make([]byte, 64) } })
	v.add("ECDSA signature r = s = 0", false, func(root, sub, leaf *spec) {
		leaf.sign = func([]byte) []byte { return seq([]byte{2, 1, 0}, []byte{2, 1, 0}) }
	})
	v.add("octet after an ECDSA signature", false, func(root, sub, leaf *spec) {
		leaf.sign = func(tbs []byte) []byte { return append(rawSign(leaf.algorithm, sub.key, tbs), 0) }
	})
	v.add("RSA signature with a leading zero octet", false, func(root, sub, leaf *spec) {
		sub.key = testKey("rsa/types")
		leaf.sign = func(tbs []byte) []byte { return append([]byte{0}, rawSign(leaf.algorithm, sub.key, tbs)...) }
	})
	v.add("signature of a wrong key", false, func(root, sub, leaf *spec) { leaf.signer = newP256() })
	v.add("sub CA signed by a wrong key", false, func(root, sub, leaf *spec) { sub.signer = newP256() })
	v.add("leaf signed by the root in the sub CA's name", false, func(root, sub, leaf *spec) { leaf.signer = root.key })
	v.add("root signed by a wrong key", false, func(root, sub, leaf *spec) { root.signer = newP256() }).differs = checkRoots
	v.add("trailing octet", false, func(root, sub, leaf *spec) {
		leaf.tamper = func(der []byte) []byte { return append(bytes.Clone(der), 0) }
	}).differs = strictDER
	v.add("cut off", false, func(root, sub, leaf *spec) {
		leaf.tamper = func(der []byte) []byte { return der[:len(der)-1] }
	})
}

func TestVerify(t *testing.T) {
	rows := verifyRows()
	if len(rows) < 250 {
		t.Errorf("only %d rows", len(rows))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.name] {
			t.Errorf("row %q stands twice", r.name)
		}
		seen[r.name] = true
		err := r.verify()
		if (err == nil) != r.ok {
			t.Errorf("%s: %v, want ok = %v", r.name, err, r.ok)
		}
	}
}

// verify builds the row and asks this package. Certificates that don't parse
// are refused like chains that don't verify.
func (r *verifyRow) verify() error {
	ders := func(specs []*spec) (list [][]byte) {
		for _, s := range specs {
			list = append(list, s.build())
		}
		return list
	}
	leaf, err := ParseCertificate(r.leaf.build())
	if err != nil {
		return err
	}
	roots, err := parseAll(ders(r.roots)...)
	if err != nil {
		return err
	}
	untrusted, err := parseAll(ders(r.untrusted)...)
	if err != nil {
		return err
	}
	path, err := Verify(leaf, VerifyOptions{Roots: roots, Intermediates: untrusted, Time: r.at})
	if err != nil {
		var fault *VerifyError
		if !errors.As(err, &fault) || fault.Certificate == nil || fault.Reason == "" {
			return fmt.Errorf("not a full *VerifyError: %#v", err)
		}
		return err
	}
	if !path[0].Equal(leaf) || !contains(roots, path[len(path)-1]) {
		panic(r.name + ": the path doesn't lead from the leaf to a root")
	}
	return nil
}

// TestVerifyOpenSSL holds the verdicts against those of openssl verify, which is
// what the platform's daemon calls.
func TestVerifyOpenSSL(t *testing.T) {
	program := tooltest.Path(t, "openssl")
	rows := verifyRows()
	dir := t.TempDir()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for i, r := range rows {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ok, output := r.openssl(t, program, filepath.Join(dir, fmt.Sprint(i)))
			if want := r.ok == (r.differs == ""); ok != want {
				t.Errorf("%s: we say %v (differs: %q), OpenSSL %v:\n%s", r.name, r.ok, r.differs, ok, output)
			}
		})
	}
	wg.Wait()
	t.Logf("%d chains", len(rows))
}

func (r *verifyRow) openssl(t *testing.T, program, prefix string) (bool, string) {
	args := []string{"verify", "-attime", fmt.Sprint(r.at.Unix())}
	write := func(name string, specs ...*spec) string {
		var ders [][]byte
		for _, s := range specs {
			ders = append(ders, s.build())
		}
		path := prefix + "-" + name
		if err := os.WriteFile(path, pemOf(ders...), 0o600); err != nil {
			t.Error(err)
		}
		return path
	}
	args = append(args, "-CAfile", write("roots", r.roots...))
	if len(r.untrusted) > 0 {
		args = append(args, "-untrusted", write("untrusted", r.untrusted...))
	}
	args = append(args, write("leaf", r.leaf))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%s: %v", r.name, err)
	}
	return err == nil, string(output)
}

// A heap of CAs that certify each other must not cost hours.
func TestVerifyBounded(t *testing.T) {
	root := &spec{subject: dn("CN=Root"), key: newP256(), ca: true}
	var helpers []*spec
	name := dn("CN=Mesh")
	keys := []crypto.Signer{newP256(), newP256(), newP256(), newP256(), newP256(), newP256(), newP256(), newP256()}
	for _, by := range keys {
		for _, key := range keys {
			s := &spec{subject: name, issuer: name, key: key, signer: by, ca: true}
			helpers = append(helpers, s.drop(oidSubjectKeyID))
		}
	}
	leaf := &spec{subject: dn("CN=Leaf"), key: newP256(), parent: &spec{subject: name, key: keys[0]}}
	leaf.drop(oidAuthorityKeyID)
	r := verifyRow{leaf: leaf, roots: []*spec{root}, untrusted: helpers, at: testNow}
	start := time.Now()
	err := r.verify()
	if err == nil || !strings.Contains(err.Error(), "too many paths to try") {
		t.Errorf("error %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

// Dates don't count for a device that isn't provisioned yet.
func TestVerifyWithoutTime(t *testing.T) {
	root, sub, leaf := tree()
	leaf.to, sub.from = testFrom.AddDate(0, 0, 1), testTo.AddDate(0, 0, -1)
	certs := must(parseAll(root.build(), sub.build(), leaf.build()))
	o := VerifyOptions{Roots: certs[:1], Intermediates: certs[1:2]}
	path, err := Verify(certs[2], o)
	if err != nil || len(path) != 3 {
		t.Errorf("without a time: %v", err)
	}
	o.Time = testNow
	if _, err := Verify(certs[2], o); err == nil {
		t.Error("with a time: no error")
	}
}

// One row for each reason: the certificate at fault is named, not the last one tried.
func TestVerifyReasons(t *testing.T) {
	for _, x := range []struct {
		change func(root, sub, leaf *spec)
		want   string
	}{
		{func(root, sub, leaf *spec) { leaf.to = testNow.AddDate(0, 0, -1) }, `O=Test, CN=Leaf: expired on 2029-12-31T00:00:00Z`},
		{func(root, sub, leaf *spec) { sub.from = testNow.AddDate(0, 0, 1) }, `O=Test, CN=Sub: not valid before 2030-01-02T00:00:00Z`},
		{func(root, sub, leaf *spec) { root.to = testNow.AddDate(0, 0, -1) }, `O=Test, CN=Root: expired on 2029-12-31T00:00:00Z`},
		{func(root, sub, leaf *spec) { leaf.issuer = dn("CN=Nobody\n") }, `O=Test, CN=Leaf: no certificate of its issuer CN=Nobody\0A is at hand`},
		{func(root, sub, leaf *spec) { sub.ca = false }, `O=Test, CN=Sub: is not a CA, but issues certificates`},
		{func(root, sub, leaf *spec) { sub.set(oidKeyUsage, true, []byte{3, 2, 7, 0x80}) }, `O=Test, CN=Sub: its key usage forbids signing certificates`},
		{func(root, sub, leaf *spec) { leaf.set(asn1.ObjectIdentifier{1, 2, 3}, true, null) }, `O=Test, CN=Leaf: unknown critical extension 1.2.3`},
		{func(root, sub, leaf *spec) { root.pathLen = 1 }, `O=Test, CN=Root: path length 0, but 1 sub CAs follow`},
		{func(root, sub, leaf *spec) { leaf.signer = newP256() }, `O=Test, CN=Leaf: ECDSA SHA-256: signature does not verify with the key of O=Test, CN=Sub`},
		{func(root, sub, leaf *spec) { root.signer = newP256() }, `O=Test, CN=Root: a root must be self-signed`},
		{func(root, sub, leaf *spec) {
			sub.set(oidNameConstraints, true, permitted(gn(tagDNS, "example.com")))
			leaf.set(oidSubjectAltName, false, san(gn(tagDNS, "a\nb")))
		}, `O=Test, CN=Leaf: the name a\0Ab is not among the permitted ones, which O=Test, CN=Sub forbids`},
		{func(root, sub, leaf *spec) {
			sub.set(oidNameConstraints, true, excluded(gn(tagIP, "\x0a\x00\x00\x00\xff\x00\x00\x00")))
			leaf.set(oidSubjectAltName, false, san(gn(tagIP, "\x0a\x00\x00\x01")))
		}, `O=Test, CN=Leaf: the name 10.0.0.1 is excluded, which O=Test, CN=Sub forbids`},
	} {
		root, sub, leaf := tree()
		x.change(root, sub, leaf)
		r := verifyRow{leaf: leaf, roots: []*spec{root}, untrusted: []*spec{sub}, at: testNow}
		if err := r.verify(); err == nil || err.Error() != x.want {
			t.Errorf("got  %v\nwant %s", err, x.want)
		}
	}
}
