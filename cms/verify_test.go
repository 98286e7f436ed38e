package cms

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// resign signs the attributes of a message anew, so that a row fails for its
// own reason and not for a bad signature.
func resign(t *testing.T, sd *SignedData) {
	t.Helper()
	s := &sd.Signers[0]
	message, err := signedOctets(s.SignedAttributes)
	if err != nil {
		t.Fatal(err)
	}
	if s.Signature, err = s.Algorithm.Sign(signer(t, "rsa", s.Algorithm).Key, message); err != nil {
		t.Fatal(err)
	}
}

// without removes an attribute.
func without(attributes []Attribute, oid asn1.ObjectIdentifier) []Attribute {
	var rest []Attribute
	for _, a := range attributes {
		if !a.Type.Equal(oid) {
			rest = append(rest, a)
		}
	}
	return rest
}

// valueOf points to the first value of an attribute.
func valueOf(t *testing.T, sd *SignedData, oid asn1.ObjectIdentifier) *[]byte {
	t.Helper()
	a := sd.Signers[0].signedAttribute(oid)
	if a == nil {
		t.Fatalf("no attribute %v", oid)
	}
	return &a.Values[0]
}

func TestVerifyRefuses(t *testing.T) {
	type check struct {
		sd      *SignedData
		pub     crypto.PublicKey
		content []byte
	}
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	for _, c := range []struct {
		name   string
		sample string
		spoil  func(t *testing.T, c *check)
		err    string
	}{
		{"content flipped, attributes", "cms-attributes.p7", func(_ *testing.T, c *check) { c.content = flip(c.content) }, "but"},
		{"content flipped, no attributes", "module.p7", func(_ *testing.T, c *check) { c.content = flip(c.content) }, "does not verify"},
		{"content longer", "cms-attributes.p7", func(_ *testing.T, c *check) { c.content = append(c.content, '\n') }, "was signed"},
		{"content with CRLF", "cms-attributes.p7", func(_ *testing.T, c *check) {
			c.content = bytes.ReplaceAll(c.content, []byte("\n"), []byte("\r\n"))
		}, "was signed"},
		{"no content", "module.p7", func(_ *testing.T, c *check) { c.content = nil }, "does not verify"},
		{"signature flipped", "cms-attributes.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].Signature = flip(c.sd.Signers[0].Signature) }, "does not verify"},
		{"signature empty", "module.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].Signature = nil }, "does not verify"},
		{"signature with a zero before it", "module.p7", func(_ *testing.T, c *check) {
			c.sd.Signers[0].Signature = append([]byte{0}, c.sd.Signers[0].Signature...)
		}, "does not verify"},
		{"another key", "cms-pss.p7", func(t *testing.T, c *check) { c.pub = publicKey(t, "rsa") }, "does not verify"},
		{"key of another kind", "module.p7", func(t *testing.T, c *check) { c.pub = publicKey(t, "ec") }, "does not fit"},
		{"no key", "module.p7", func(_ *testing.T, c *check) { c.pub = nil }, "not supported"},
		{"PKCS #1 with a PSS key", "module.p7", func(t *testing.T, c *check) {
			key, _ := spki.RSAKey(publicKey(t, "rsa"))
			c.pub = &spki.PSSPublicKey{Key: key}
		}, "does not fit"},
		{"another salt length", "cms-pss.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].Algorithm.SaltLength = 32 }, "does not verify"},
		{"another hash", "module.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].Algorithm.Hash = crypto.SHA384 }, "does not verify"},
		{"a hash that is not supported", "module.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].Algorithm.Hash = crypto.SHA1 }, "is not supported"},
		{"PKCS #1 read as PSS", "module.p7", func(_ *testing.T, c *check) {
			c.sd.Signers[0].Algorithm = spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32}
		}, "does not verify"},
		{"attributes taken away", "cms-attributes.p7", func(_ *testing.T, c *check) { c.sd.Signers[0].SignedAttributes = nil }, "does not verify"},
		{"attribute added", "cms-attributes.p7", func(_ *testing.T, c *check) {
			c.sd.Signers[0].SignedAttributes = append(c.sd.Signers[0].SignedAttributes, Attribute{oidOpusInfo, [][]byte{{5, 0}}})
		}, "does not verify"},
		{"attribute removed", "cms-attributes.p7", func(_ *testing.T, c *check) {
			c.sd.Signers[0].SignedAttributes = without(c.sd.Signers[0].SignedAttributes, oidSigningTime)
		}, "does not verify"},
		{"signing time changed", "cms-attributes.p7", func(t *testing.T, c *check) {
			v := valueOf(t, c.sd, oidSigningTime)
			(*v)[4] ^= 1
		}, "does not verify"},
		{"no contentType", "cms-attributes.p7", func(t *testing.T, c *check) {
			c.sd.Signers[0].SignedAttributes = without(c.sd.Signers[0].SignedAttributes, oidContentType)
			resign(t, c.sd)
		}, "contentType: missing"},
		{"no messageDigest", "cms-attributes.p7", func(t *testing.T, c *check) {
			c.sd.Signers[0].SignedAttributes = without(c.sd.Signers[0].SignedAttributes, oidMessageDigest)
			resign(t, c.sd)
		}, "messageDigest: missing"},
		{"contentType is another", "cms-attributes.p7", func(t *testing.T, c *check) {
			*valueOf(t, c.sd, oidContentType) = []byte{6, 3, 0x2a, 3, 4}
			resign(t, c.sd)
		}, "contentType is 1.2.3.4"},
		{"contentType is no OID", "cms-attributes.p7", func(t *testing.T, c *check) {
			*valueOf(t, c.sd, oidContentType) = []byte{5, 0}
			resign(t, c.sd)
		}, "contentType: malformed"},
		{"contentType has two values", "cms-attributes.p7", func(t *testing.T, c *check) {
			a := c.sd.Signers[0].signedAttribute(oidContentType)
			a.Values = append(a.Values, []byte{6, 3, 0x2a, 3, 4})
			resign(t, c.sd)
		}, "has 2 values"},
		{"messageDigest has two values", "cms-attributes.p7", func(t *testing.T, c *check) {
			a := c.sd.Signers[0].signedAttribute(oidMessageDigest)
			a.Values = append(a.Values, a.Values[0])
			resign(t, c.sd)
		}, "has 2 values"},
		{"messageDigest is no OCTET STRING", "cms-attributes.p7", func(t *testing.T, c *check) {
			*valueOf(t, c.sd, oidMessageDigest) = []byte{5, 0}
			resign(t, c.sd)
		}, "messageDigest: malformed"},
		{"messageDigest cut short", "cms-attributes.p7", func(t *testing.T, c *check) {
			sum := sha256.Sum256(c.content)
			*valueOf(t, c.sd, oidMessageDigest) = append([]byte{4, 31}, sum[:31]...)
			resign(t, c.sd)
		}, "was signed"},
		{"content type changed", "cms-attributes.p7", func(_ *testing.T, c *check) { c.sd.ContentType = oidIndirectData }, "but the content's type is"},
		{"content type changed, no attributes", "module.p7", func(_ *testing.T, c *check) { c.sd.ContentType = oidIndirectData }, "without signed attributes"},
		{"embedded content, taken for detached", "cms-embedded.p7", func(_ *testing.T, _ *check) {}, "not detached"},
		{"content slipped in", "cms-attributes.p7", func(_ *testing.T, c *check) { c.sd.Content = []byte{4, 1, 'x'} }, "not detached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, err := Parse(readFile(t, c.sample))
			if err != nil {
				t.Fatal(err)
			}
			who := "rsa"
			if c.sample == "cms-pss.p7" {
				who = "pss"
			}
			k := check{sd: sd, pub: publicKey(t, who), content: readFile(t, "content")}
			if err := k.sd.Verify(&k.sd.Signers[0], k.pub, k.content); err != nil && sd.Content == nil {
				t.Fatalf("the row before: %v", err)
			}
			c.spoil(t, &k)
			err = k.sd.Verify(&k.sd.Signers[0], k.pub, k.content)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if strings.Contains(c.err, "does not verify") && !errors.Is(err, spki.ErrSignature) {
				t.Fatalf("%v does not wrap ErrSignature", err)
			}
		})
	}
}

func TestVerifyEmbeddedRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(sd *SignedData)
		err   string
	}{
		{"digest in the content flipped", func(sd *SignedData) { sd.Content[len(sd.Content)-1] ^= 1 }, "was signed"},
		{"tag and length as content", func(sd *SignedData) {
			var b cryptobyte.Builder
			b.AddASN1OctetString(sd.Content)
			sd.Content = b.BytesOrPanic()
		}, "was signed"},
		{"content taken away", func(sd *SignedData) { sd.Content = nil }, "is detached"},
		{"content cut", func(sd *SignedData) { sd.Content = sd.Content[:len(sd.Content)-1] }, "not one DER element"},
		{"attributes taken away", func(sd *SignedData) { sd.Signers[0].SignedAttributes = nil }, "without signed attributes"},
		{"type of plain octets", func(sd *SignedData) { sd.ContentType = oidData }, "contentType is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sd, err := Parse(readFile(t, "osslsigncode.p7"))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(sd)
			if err := sd.VerifyEmbedded(&sd.Signers[0], publicKey(t, "rsa")); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
		})
	}
}

// The tag of an OCTET STRING may change without the digest noticing, but not
// the octets: a consumer must look at the type of what it reads.
func TestDigestCoversNoTag(t *testing.T) {
	der, err := SignElement(signer(t, "rsa", pkcs1SHA256), oidIndirectData, []byte{0x30, 3, 2, 1, 42}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sd, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	var digest cryptobyte.String
	value := cryptobyte.String(*valueOf(t, sd, oidMessageDigest))
	want := sha256.Sum256([]byte{2, 1, 42})
	if !value.ReadASN1(&digest, cbasn1.OCTET_STRING) || !bytes.Equal(digest, want[:]) {
		t.Fatalf("the digest is %x", []byte(digest))
	}
}

func TestSigningTimeRefuses(t *testing.T) {
	for name, value := range map[string][]byte{
		"no time":        {5, 0},
		"no such month":  append([]byte{23, 13}, "261301000000Z"...),
		"local time":     append([]byte{23, 17}, "260101000000+0100"...),
		"without second": append([]byte{23, 11}, "2601010000Z"...),
	} {
		sd, err := Parse(readFile(t, "cms-attributes.p7"))
		if err != nil {
			t.Fatal(err)
		}
		*valueOf(t, sd, oidSigningTime) = value
		if when, err := sd.Signers[0].SigningTime(); err == nil {
			t.Errorf("%s: read as %v", name, when)
		}
	}
}
