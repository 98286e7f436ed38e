package efi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"tmpki/spki"
)

// TestSign signs images of both forms and all lengths, and verifies them.
func TestSign(t *testing.T) {
	a := testAuthorities()
	when := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, pe32 := range []bool{false, true} {
		for trailing := range 9 {
			b := peImage{pe32: pe32, sections: []int{0x100, 0x40}, trailing: trailing}.build()
			signed := signBytes(t, b, a.leaf.signer(a.sub), SignOptions{Time: when})
			img := openBytes(t, signed)
			allowed, err := img.Verify(trusting(a.root))
			if err != nil {
				t.Fatalf("%d trailing octets: %v", trailing, err)
			}
			if len(allowed.Chain) != 3 || !bytes.Equal(allowed.Chain[0], a.leaf.certificate.Raw) || !bytes.Equal(allowed.Chain[2], a.root.certificate.Raw) {
				t.Errorf("chain of %d certificates", len(allowed.Chain))
			}
			s := img.Signatures()[0]
			if !s.Time.Equal(when) || s.Hash != crypto.SHA256 || !bytes.Equal(s.Signer, a.leaf.certificate.Raw) || len(s.Certificates) != 2 || s.Err != nil {
				t.Errorf("signature: %+v", s)
			}
			// The image is what it was but for CheckSum, entry, padding and table.
			at := img.layout
			clear(signed[at.checksum : at.checksum+checksumSize])
			clear(signed[at.directory : at.directory+directorySize])
			if !bytes.Equal(signed[:len(b)], b) || !isZero(signed[len(b):at.content]) {
				t.Errorf("%d trailing octets: the image was changed", trailing)
			}
			if again := signBytes(t, b, a.leaf.signer(a.sub), SignOptions{Time: when}); len(again) != len(signed) {
				t.Errorf("signed again: %d octets, not %d", len(again), len(signed))
			}
		}
	}
}

// TestSignReproducible signs without a time: the same octets each time.
func TestSignReproducible(t *testing.T) {
	a := testAuthorities()
	b := peImage{sections: []int{0x100}}.build()
	first := signBytes(t, b, a.direct.signer(), SignOptions{})
	if !bytes.Equal(first, signBytes(t, b, a.direct.signer(), SignOptions{})) {
		t.Error("differs")
	}
	if s := openBytes(t, first).Signatures()[0]; !s.Time.IsZero() {
		t.Errorf("has the time %v", s.Time)
	}
	replaced := signBytes(t, signBytes(t, b, a.stranger.signer(), SignOptions{}), a.direct.signer(), SignOptions{Replace: true})
	if !bytes.Equal(first, replaced) {
		t.Error("differs after a replaced signature")
	}
}

// TestSignAppends adds signatures: the digest stays, and all are good.
func TestSignAppends(t *testing.T) {
	a := testAuthorities()
	b := peImage{sections: []int{0x100}, trailing: 3}.build()
	signers := []*authority{a.stranger, a.direct, a.namesake}
	for _, s := range signers {
		b = signBytes(t, b, s.signer(), SignOptions{})
	}
	img := openBytes(t, b)
	if n := len(img.Signatures()); n != len(signers) {
		t.Fatalf("%d signatures, not %d", n, len(signers))
	}
	for i, s := range signers {
		allowed, err := img.Verify(trusting(s))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(allowed.Signature.DER, img.Signatures()[i].DER) {
			t.Errorf("signature %d: another one was verified", i+1)
		}
	}
	for range MaxSignatures - len(signers) {
		b = signBytes(t, b, a.direct.signer(), SignOptions{})
	}
	err := openBytes(t, b).Sign(io.Discard, a.direct.signer(), SignOptions{})
	if err == nil || !strings.Contains(err.Error(), "16 signatures already") {
		t.Errorf("one too many: %v", err)
	}
}

// TestSignRefuses wants each of these refused, with nothing written.
func TestSignRefuses(t *testing.T) {
	a := testAuthorities()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	good := peImage{sections: []int{0x100}}
	noCA := &authority{a.sub.key, issue("no CA", a.sub.key, a.root, asLeaf)}
	for _, row := range []struct {
		name   string
		image  peImage
		signer Signer
		want   string
	}{
		{"no directory entry", peImage{sections: []int{0x100}, directories: 4}, a.direct.signer(), "NumberOfRvaAndSizes leaves no place"},
		{"EC", good, Signer{Key: ec, Certificate: issue("ec", ec, nil, nil).Raw}, "ec:P-256: firmware takes"},
		{"RSA-1024", good, Signer{Key: small, Certificate: issue("small", small, nil, nil).Raw}, "rsa:1024: firmware takes"},
		{"PSS only", good, Signer{Key: &spki.PSSSigner{Signer: a.direct.key}, Certificate: a.direct.certificate.Raw}, "does not belong to the signing key"},
		{"another's certificate", good, Signer{Key: a.leaf.key, Certificate: a.direct.certificate.Raw}, "does not belong to the signing key"},
		{"no certificate", good, Signer{Key: a.leaf.key}, "the signer's certificate: "},
		{"chain without the issuer", good, a.leaf.signer(a.root), `issued by "CN=sub CA", not by "CN=root"`},
		{"chain in the wrong order", good, a.leaf.signer(a.root, a.sub), `issued by "CN=sub CA", not by "CN=root"`},
		{"chain with the signer", good, a.leaf.signer(a.leaf), "stands twice"},
		{"chain over a namesake", good, a.leaf.signer(a.sub, a.namesake), "key identifier"},
		{"chain over no CA", good, (&authority{a.leaf.key, issue("leaf", a.leaf.key, noCA, asLeaf)}).signer(noCA), "is not one of a CA"},
		{"chain of noise", good, Signer{Key: a.leaf.key, Certificate: a.leaf.certificate.Raw, Chain: [][]byte{{1}}}, "certificate 1 of the chain: "},
		{"broken token", good, Signer{Key: brokenToken{a.direct.key}, Certificate: a.direct.certificate.Raw}, "bad signature"},
		{"absent token", good, Signer{Key: absentToken{a.direct.key}, Certificate: a.direct.certificate.Raw}, errAbsent.Error()},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			err := openBytes(t, row.image.build()).Sign(&out, row.signer, SignOptions{})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
			if out.Len() > 0 {
				t.Errorf("%d octets were written", out.Len())
			}
		})
	}
}

// brokenToken returns signatures with an error in them.
type brokenToken struct{ *rsa.PrivateKey }

func (k brokenToken) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := k.PrivateKey.Sign(random, digest, opts)
	signature[7] ^= 1
	return signature, err
}

var errAbsent = errors.New("the token is gone")

// absentToken fails.
type absentToken struct{ *rsa.PrivateKey }

func (absentToken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errAbsent }

// TestSignNoticesChanges changes the image between hashing and copying.
func TestSignNoticesChanges(t *testing.T) {
	a := testAuthorities()
	b := peImage{sections: []int{0x100}}.build()
	signer := a.direct.signer()
	signer.Key = meddlingToken{a.direct.key, &b[testHeaderSize+5]}
	err := openBytes(t, b).Sign(io.Discard, signer, SignOptions{})
	if err == nil || !strings.Contains(err.Error(), "changed while it was signed") {
		t.Errorf("got %v", err)
	}
}

// meddlingToken changes an octet when it signs.
type meddlingToken struct {
	*rsa.PrivateKey
	octet *byte
}

func (k meddlingToken) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	*k.octet ^= 1
	return k.PrivateKey.Sign(random, digest, opts)
}

// TestSignWriteError wants the writer's error back.
func TestSignWriteError(t *testing.T) {
	img := openBytes(t, peImage{sections: []int{0x100}}.build())
	if err := img.Sign(fullDisk{}, testAuthorities().direct.signer(), SignOptions{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write(p []byte) (int, error) { return 0, io.ErrShortWrite }

// TestSignPSSIssuer has a sub CA with an id-RSASSA-PSS signature on its
// certificate in the chain, which firmware takes.
func TestSignPSSIssuer(t *testing.T) {
	a := testAuthorities()
	sub := &authority{a.sub.key, issue("PSS", a.sub.key, a.root, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA512WithRSAPSS })}
	leaf := &authority{a.leaf.key, issue("leaf", a.leaf.key, sub, func(c *x509.Certificate) { asLeaf(c); c.SignatureAlgorithm = x509.SHA256WithRSAPSS })}
	b := signBytes(t, peImage{sections: []int{0x100}}.build(), leaf.signer(sub), SignOptions{})
	if _, err := openBytes(t, b).Verify(trusting(a.root)); err != nil {
		t.Error(err)
	}
}

// TestPatchedFile reads in pieces of all sizes, at all places.
func TestPatchedFile(t *testing.T) {
	f := &patchedFile{
		file:    strings.NewReader("0123456789 and what is cut off"),
		end:     10,
		patches: []patch{{2, []byte("abc")}, {7, []byte("d")}},
		tail:    []byte("tail"),
	}
	const want = "01abc56d89tail"
	for size := 1; size <= len(want)+2; size++ {
		for offset := 0; offset <= len(want)+2; offset++ {
			p := make([]byte, size)
			n, err := f.ReadAt(p, int64(offset))
			expected := want[min(offset, len(want)):min(offset+size, len(want))]
			if string(p[:n]) != expected || (err == io.EOF) != (n < size) {
				t.Fatalf("%d octets at %d: %q and %v, want %q", size, offset, p[:n], err, expected)
			}
		}
	}
}
