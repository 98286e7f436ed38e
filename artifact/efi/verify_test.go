package efi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"tmpki/cms"
	"tmpki/spki"
)

// withTable puts messages, whatever they are, into the certificate table of an
// unsigned image of aligned length.
func withTable(t *testing.T, image []byte, ders ...[]byte) []byte {
	t.Helper()
	img := openBytes(t, image)
	b := bytes.Clone(image)
	for _, der := range ders {
		b = append(b, marshalEntry(der)...)
	}
	binary.LittleEndian.PutUint32(b[img.layout.directory:], uint32(len(image)))
	binary.LittleEndian.PutUint32(b[img.layout.directory+4:], uint32(len(b)-len(image)))
	return b
}

// message makes a PKCS #7 message as Sign would not.
func message(t *testing.T, who Signer, scheme spki.SignatureAlgorithm, contentType asn1.ObjectIdentifier, content []byte) []byte {
	t.Helper()
	der, err := cms.SignElement(cms.Signer{Key: who.Key, Certificate: who.Certificate, Algorithm: scheme}, contentType, content,
		cms.Options{NullParameters: true, Certificates: append([][]byte{who.Certificate}, who.Chain...)})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// indirect returns SpcIndirectDataContent of an image.
func indirect(t *testing.T, image []byte, hash crypto.Hash) []byte {
	t.Helper()
	digest, err := openBytes(t, image).Digest(hash)
	if err != nil {
		t.Fatal(err)
	}
	content, err := marshalIndirectData(hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// replaceOnce replaces octets that stand in b once.
func replaceOnce(t *testing.T, b, old, new []byte) []byte {
	t.Helper()
	if bytes.Count(b, old) != 1 || len(old) != len(new) {
		t.Fatalf("%x stands %d times in the image", old, bytes.Count(b, old))
	}
	return bytes.Replace(b, old, new, 1)
}

// flip flips a bit.
func flip(b []byte, offset int) []byte {
	b = bytes.Clone(b)
	b[offset] ^= 0x10
	return b
}

// TestVerifyDenies has a row for each way to be denied.
func TestVerifyDenies(t *testing.T) {
	a := testAuthorities()
	image := peImage{sections: []int{0x200, 0x100}, trailing: 0x20}.build()
	other := peImage{sections: []int{0x200, 0x100}, trailing: 0x28}.build()
	sign := func(who Signer) []byte { return signBytes(t, image, who, SignOptions{}) }
	signed := sign(a.leaf.signer(a.sub))
	hash := [32]byte(func() []byte { d, _ := openBytes(t, signed).Digest(crypto.SHA256); return d }())
	signature := openBytes(t, signed).Signatures()[0]
	octets := signature.message.Signers[0].Signature
	root := trusting(a.root)

	// Variants of the leaf and of the sub CA, whose keys stay the same.
	leafOf := func(issuer *authority, change func(*x509.Certificate)) *authority {
		return &authority{a.leaf.key, issue("leaf", a.leaf.key, issuer, func(c *x509.Certificate) {
			asLeaf(c)
			if change != nil {
				change(c)
			}
		})}
	}
	subOf := func(change func(*x509.Certificate)) *authority {
		return &authority{a.sub.key, issue("sub CA", a.sub.key, a.root, change)}
	}
	// below signs with a leaf below a sub CA that Sign would refuse.
	below := func(sub *authority, change func(*x509.Certificate)) []byte {
		return withTable(t, image, message(t, leafOf(sub, change).signer(sub), firmwareAlgorithm(crypto.SHA256), oidIndirectData, indirect(t, image, crypto.SHA256)))
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}
	shallow := subOf(func(c *x509.Certificate) { c.MaxPathLenZero = true })
	deep := &authority{a.stranger.key, issue("deep", a.stranger.key, shallow, nil)}
	pss := spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}
	with := func(change func(*Databases)) Databases { d := root; change(&d); return d }

	for _, row := range []struct {
		name      string
		image     []byte
		databases Databases
		reason    Reason
		want      string
	}{
		{"unsigned", image, root, Unsigned, "no signature"},
		{"bit in the DOS header", flip(signed, 0x10), root, Altered, "was signed"},
		{"bit in the time stamp", flip(signed, 0x80+8), root, Altered, "was signed"},
		{"bit in the entry point", flip(signed, 0x80+coffHeaderSize+16), root, Altered, "was signed"},
		{"bit in the section table", flip(signed, 0x80+coffHeaderSize+fixedSizePE32Plus+maxDirectories*directorySize+8), root, Altered, "was signed"},
		{"bit behind the section table", flip(signed, testHeaderSize-1), root, Altered, "was signed"},
		{"bit in the first section", flip(signed, testHeaderSize), root, Altered, "was signed"},
		{"bit in the last section", flip(signed, testHeaderSize+0x2ff), root, Altered, "was signed"},
		{"bit behind the sections", flip(signed, testHeaderSize+0x310), root, Altered, "was signed"},
		{"octets in front of the table", withTable(t, append(bytes.Clone(image), make([]byte, 8)...), signature.DER), root, Altered, "was signed"},
		{"signature of another image", withTable(t, other, signature.DER), root, Altered, "was signed"},
		{"bit in the signed digest", replaceOnce(t, signed, append([]byte{4, 32}, hash[:]...), append([]byte{4, 32}, flip(hash[:], 3)...)), root, Altered, "was signed"},
		{"digest of the altered image put in", func() []byte {
			b := flip(signed, testHeaderSize)
			d, _ := openBytes(t, b).Digest(crypto.SHA256)
			return replaceOnce(t, b, append([]byte{4, 32}, hash[:]...), append([]byte{4, 32}, d...))
		}(), root, Unusable, "CMS: the content's digest is"},
		{"bit in the signature", replaceOnce(t, signed, octets, flip(octets, 9)), root, BadSignature, "does not verify"},
		{"signature of zeros", replaceOnce(t, signed, octets, make([]byte, len(octets))), root, BadSignature, "does not verify"},
		{"no certificates", withTable(t, image, withoutCertificates(t, a.leaf.signer(), indirect(t, image, crypto.SHA256))), root, Unusable, "is not in the message"},
		{"another certificate of that issuer and serial", func() []byte {
			fake := issue("leaf", a.stranger.key, a.sub, func(c *x509.Certificate) { asLeaf(c); c.SerialNumber = a.leaf.certificate.SerialNumber })
			der, err := cms.SignElement(cms.Signer{Key: a.leaf.key, Certificate: a.leaf.certificate.Raw, Algorithm: firmwareAlgorithm(crypto.SHA256)},
				oidIndirectData, indirect(t, image, crypto.SHA256), cms.Options{NullParameters: true, Certificates: [][]byte{fake.Raw, a.sub.certificate.Raw}})
			if err != nil {
				t.Fatal(err)
			}
			return withTable(t, image, der)
		}(), root, BadSignature, "does not verify"},
		{"PSS", withTable(t, image, message(t, a.leaf.signer(a.sub), pss, oidIndirectData, indirect(t, image, crypto.SHA256))), root, Unusable, "firmware takes RSA PKCS#1 v1.5 only"},
		{"EC", withTable(t, image, message(t, Signer{Key: ec, Certificate: issue("ec", ec, a.root, asLeaf).Raw}, spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA256}, oidIndirectData, indirect(t, image, crypto.SHA256))), root, Unusable, "firmware takes RSA PKCS#1 v1.5 only"},
		{"two hashes", withTable(t, image, message(t, a.leaf.signer(a.sub), firmwareAlgorithm(crypto.SHA256), oidIndirectData, indirect(t, image, crypto.SHA512))), root, Unusable, "the image is hashed with SHA-512, but"},
		{"not about an image", withTable(t, image, message(t, a.leaf.signer(a.sub), firmwareAlgorithm(crypto.SHA256), asn1.ObjectIdentifier{1, 2, 3}, indirect(t, image, crypto.SHA256))), root, Unusable, "not the digest of an image"},
		{"octets behind the digest", withTable(t, image, message(t, a.leaf.signer(a.sub), firmwareAlgorithm(crypto.SHA256), oidIndirectData, trailing(indirect(t, image, crypto.SHA256)))), root, Unusable, "SpcIndirectDataContent is malformed"},
		{"noise", withTable(t, image, append([]byte{0x30, 0x82, 0x01, 0x00}, make([]byte, 256)...)), root, Unusable, "CMS: "},
		{"short noise", withTable(t, image, []byte{0x30, 0}), root, Unusable, "a message of 2 octets"},

		{"stranger", sign(a.stranger.signer()), root, Untrusted, `"CN=stranger", issued by "CN=stranger", leads to none`},
		{"empty db", signed, Databases{}, Untrusted, "leads to none"},
		{"sub CA not in the signature", sign(a.leaf.signer()), root, Untrusted, `"CN=leaf", issued by "CN=sub CA", leads to none`},
		{"another root of the same name", signed, trusting(a.namesake), Untrusted, "with key identifier"},
		{"another root of the same name and key identifier", signed, Databases{Certificates: [][]byte{
			issue("root", a.namesake.key, nil, func(c *x509.Certificate) { c.SubjectKeyId = a.root.certificate.SubjectKeyId }).Raw}}, Untrusted, "is not issued with the key of"},
		{"another sub CA of the same name", withTable(t, image, message(t, Signer{Key: a.leaf.key, Certificate: a.leaf.certificate.Raw, Chain: [][]byte{
			issue("sub CA", a.stranger.key, a.root, func(c *x509.Certificate) { c.SubjectKeyId = a.sub.certificate.SubjectKeyId }).Raw}}, firmwareAlgorithm(crypto.SHA256), oidIndirectData, indirect(t, image, crypto.SHA256))), root, Untrusted, "is not issued with the key of"},
		{"issuer in db is no CA", sign(leafOf(a.direct, nil).signer()), trusting(a.direct), Untrusted, "is not one of a CA"},
		{"sub CA is no CA", below(subOf(asLeaf), nil), root, Untrusted, "is not one of a CA"},
		{"sub CA without keyCertSign", below(subOf(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), nil), root, Untrusted, "without keyCertSign"},
		{"sub CA with a critical extension", below(subOf(critical), nil), root, Untrusted, "unknown critical extension 1.2.3"},
		{"leaf with a critical extension", below(subOf(nil), critical), root, Untrusted, "unknown critical extension 1.2.3"},
		{"path too long", withTable(t, image, message(t, leafOf(deep, nil).signer(deep, shallow), firmwareAlgorithm(crypto.SHA256), oidIndirectData, indirect(t, image, crypto.SHA256))), root, Untrusted, "allows 0 CA certificates below it, not 1"},
		{"issued with ECDSA", withTable(t, image, message(t, Signer{Key: a.leaf.key,
			Certificate: issueEC(t, "leaf", a.leaf, ec).Raw, Chain: [][]byte{issue("ec CA", ec, a.root, nil).Raw}}, firmwareAlgorithm(crypto.SHA256), oidIndirectData, indirect(t, image, crypto.SHA256))), root, Untrusted, "ECDSA SHA-256: firmware takes RSA only"},
		{"two signatures, none good", signBytes(t, sign(a.stranger.signer()), a.direct.signer(), SignOptions{}), root, Untrusted, `signature 2: the certificate of "CN=direct"`},

		{"image in dbx", signed, with(func(d *Databases) { d.RevokedImages = [][32]byte{{}, hash} }), RevokedImage, "dbx has the image's hash"},
		{"image in db and dbx", image, Databases{Images: [][32]byte{hash}, RevokedImages: [][32]byte{hash}}, RevokedImage, "dbx has the image's hash"},
		{"leaf in dbx", signed, with(func(d *Databases) { d.RevokedCertificates = trusting(a.leaf).Certificates }), RevokedCertificate, `dbx has the certificate of "CN=leaf"`},
		{"sub CA in dbx", signed, with(func(d *Databases) { d.RevokedCertificates = trusting(a.direct, a.sub).Certificates }), RevokedCertificate, `dbx has the certificate of "CN=sub CA"`},
		{"root in db and dbx", signed, with(func(d *Databases) { d.RevokedCertificates = trusting(a.root).Certificates }), RevokedCertificate, `dbx has the certificate of "CN=root"`},
		{"sub CA in db, root in dbx", signed, Databases{Certificates: trusting(a.sub).Certificates, RevokedCertificates: trusting(a.root).Certificates}, RevokedCertificate, `"CN=root"`},
		{"sub CA in dbx by its hash", signed, with(func(d *Databases) { d.RevokedTBS = [][32]byte{sha256.Sum256(a.sub.certificate.RawTBSCertificate)} }), RevokedCertificate, `"CN=sub CA"`},
		{"revoked signature beside a good one", signBytes(t, signed, a.direct.signer(), SignOptions{}), Databases{Certificates: trusting(a.direct).Certificates, RevokedCertificates: trusting(a.leaf).Certificates}, RevokedCertificate, `"CN=leaf"`},
		{"revoked signature, image in db", signed, Databases{Images: [][32]byte{hash}, RevokedCertificates: trusting(a.leaf).Certificates}, RevokedCertificate, `"CN=leaf"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			allowed, err := openBytes(t, row.image).Verify(row.databases)
			var denied *DeniedError
			if !errors.As(err, &denied) {
				t.Fatalf("allowed: %+v, or no verdict: %v", allowed, err)
			}
			if denied.Reason != row.reason || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %v: %q", err, row.reason, row.want)
			}
		})
	}
}

// trailing adds an empty OCTET STRING at the end of a SEQUENCE with a length of
// one octet.
func trailing(der []byte) []byte {
	der = append(bytes.Clone(der), 4, 0)
	der[1] += 2
	return der
}

// withoutCertificates signs, but puts no certificate into the message.
func withoutCertificates(t *testing.T, who Signer, content []byte) []byte {
	t.Helper()
	der, err := cms.SignElement(cms.Signer{Key: who.Key, Certificate: who.Certificate, Algorithm: firmwareAlgorithm(crypto.SHA256)}, oidIndirectData, content, cms.Options{NullParameters: true})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issueEC makes a certificate for an authority's key, issued by an EC key.
func issueEC(t *testing.T, name string, a *authority, issuer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := *a.certificate
	template.SignatureAlgorithm, template.AuthorityKeyId = 0, nil
	template.Subject = pkix.Name{CommonName: name}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "ec CA"}}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, a.key.Public(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVerifyAllows has a row for each way to be allowed.
func TestVerifyAllows(t *testing.T) {
	a := testAuthorities()
	image := peImage{sections: []int{0x200, 0x100}}.build()
	hash := [32]byte(func() []byte { d, _ := openBytes(t, image).Digest(crypto.SHA256); return d }())
	signed := signBytes(t, image, a.leaf.signer(a.sub), SignOptions{})
	sha512 := withTable(t, image, message(t, a.leaf.signer(a.sub), firmwareAlgorithm(crypto.SHA512), oidIndirectData, indirect(t, image, crypto.SHA512)))
	for _, row := range []struct {
		name      string
		image     []byte
		databases Databases
		chain     int // certificates; 0: allowed by the image's hash
	}{
		{"root in db", signed, trusting(a.root), 3},
		{"sub CA in db", signed, trusting(a.sub), 2},
		{"leaf in db", signed, trusting(a.leaf), 1},
		{"sub CA and root in db", signed, trusting(a.root, a.sub), 2},
		{"root in the signature too", signBytes(t, image, a.leaf.signer(a.sub, a.root), SignOptions{}), trusting(a.root), 3},
		{"no CA in db, which signs itself", signBytes(t, image, a.direct.signer(), SignOptions{}), trusting(a.direct), 1},
		{"SHA-512", sha512, trusting(a.root), 3},
		{"stranger's signature first", signBytes(t, signBytes(t, image, a.stranger.signer(), SignOptions{}), a.leaf.signer(a.sub), SignOptions{}), trusting(a.root), 3},
		{"another image's signature first", withTable(t, image, openBytes(t, signBytes(t, append(bytes.Clone(image), 1), a.leaf.signer(a.sub), SignOptions{})).entries[0], openBytes(t, signed).entries[0]), trusting(a.root), 3},
		{"others in dbx", signed, Databases{Certificates: trusting(a.root).Certificates, RevokedCertificates: trusting(a.stranger, a.namesake).Certificates, RevokedImages: [][32]byte{{}}, RevokedTBS: [][32]byte{{}}}, 3},
		{"unsigned, image in db", image, Databases{Images: [][32]byte{hash}}, 0},
		{"signed by a stranger, image in db", signBytes(t, image, a.stranger.signer(), SignOptions{}), Databases{Images: [][32]byte{hash}}, 0},
		{"without a place for signatures", peImage{sections: []int{8}, directories: 4}.build(), Databases{Images: [][32]byte{digestOf(t, peImage{sections: []int{8}, directories: 4}.build())}}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			allowed, err := openBytes(t, row.image).Verify(row.databases)
			if err != nil {
				t.Fatal(err)
			}
			if len(allowed.Chain) != row.chain || (allowed.Signature != nil) != (row.chain > 0) {
				t.Errorf("a chain of %d certificates, want %d", len(allowed.Chain), row.chain)
			}
		})
	}

	// The firmware looks for the hash that a signature uses, here SHA-512.
	if _, err := openBytes(t, sha512).Verify(Databases{Images: [][32]byte{hash}}); err == nil {
		t.Error("signed with SHA-512 only, SHA-256 in db: allowed")
	}
	var denied *DeniedError
	for _, d := range []Databases{{Certificates: [][]byte{{1}}}, {RevokedCertificates: [][]byte{{1}}}} {
		if _, err := openBytes(t, signed).Verify(d); err == nil || errors.As(err, &denied) {
			t.Errorf("a database of noise: %v", err)
		}
	}
}

func digestOf(t *testing.T, image []byte) [32]byte {
	t.Helper()
	d, err := openBytes(t, image).Digest(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return [32]byte(d)
}
