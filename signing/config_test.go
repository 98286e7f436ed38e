package signing

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tmpki/artifact/guestos"
	"tmpki/ca"
	"tmpki/cms"
	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// text is a GuestOS config.
const text = `name: "debos"
hardware: "x86"
version: 1
init_path: "/sbin/init"
mounts_setup {
	image_file: "root"
	mount_point: "/"
	fs_type: "squashfs"
	mount_type: SHARED_RW
	image_size: 4096
	image_sha2_256: "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"
}
description {
	en: "example userland (x86)"
}
`

const containerText = `name: "core"
guest_os: "debos"
color: 4278190335
type: CONTAINER
token_type: NONE
`

// pss and pkcs1 are what the daemon takes from the two kinds of keys.
var (
	pss   = spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}
	pkcs1 = spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA512}
)

// configs is how each kind of config is called, and what it says.
var configs = map[string]string{"guestos": text, "container": containerText}

func TestSignConfig(t *testing.T) {
	s := newSession(t)
	for _, as := range []string{"ssig_cml", "config_rsa"} { // PSS, PKCS#1 v1.5
		for kind, content := range configs {
			for _, p7s := range []bool{false, true} {
				dir := t.TempDir()
				conf := write(t, dir, "debos-1.conf", []byte(content))
				signer, err := s.SignConfig(t.Context(), conf, ConfigOptions{Artifact: kind, As: as, CMS: p7s})
				if err != nil {
					t.Fatalf("%s by %s: %v", kind, as, err)
				}
				v := Verifier{Trust: s.Anchors(kind), Time: now}
				verdict := v.VerifyConfig(t.Context(), kind, conf, p7s)
				if verdict.Err != nil || signer.Entry.Name != as || !verdict.Signer.Equal(s.cert(t, as)) || len(verdict.Chain) != 3 {
					t.Errorf("%s by %s: %+v", kind, as, verdict)
				}
				// Not by the other side's anchor, and not at another time.
				other := Verifier{Trust: []*ca.Certificate{s.cert(t, "gen_rootca")}, Time: now}
				refused(t, other.VerifyConfig(t.Context(), kind, conf, p7s).Err, "no certificate of its issuer")
				later := Verifier{Trust: v.Trust, Time: now.AddDate(4, 0, 0)}
				refused(t, later.VerifyConfig(t.Context(), kind, conf, p7s).Err, "expired on")
				if p7s {
					opensslVerifiesCMS(t, conf, base(conf)+".p7s", s.cert(t, "ssig_rootca"))
				} else {
					opensslVerifiesConfig(t, conf, as == "ssig_cml", s.cert(t, "ssig_rootca"))
				}
				if names := files(t, dir); len(names) != map[bool]int{false: 3, true: 2}[p7s] {
					t.Errorf("%d files", len(names))
				}
			}
		}
	}
}

func base(conf string) string { return strings.TrimSuffix(conf, ".conf") }

// opensslVerifiesConfig does what the daemon does, step by step.
func opensslVerifiesConfig(t testing.TB, conf string, isPSS bool, root *ca.Certificate) {
	t.Helper()
	dir := t.TempDir()
	key := write(t, dir, "key.pem", tooltest.Run(t, "openssl", "x509", "-in", base(conf)+".cert", "-noout", "-pubkey"))
	args := []string{"dgst", "-sha512", "-verify", key}
	if isPSS {
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:64")
	}
	tooltest.Run(t, "openssl", append(args, "-signature", base(conf)+".sig", conf)...)
	anchor := pemFile(t, dir, "root.pem", root)
	tooltest.Run(t, "openssl", "verify", "-no_check_time", "-CAfile", anchor, "-untrusted", base(conf)+".cert", base(conf)+".cert")
}

func opensslVerifiesCMS(t testing.TB, file, p7s string, root *ca.Certificate) {
	t.Helper()
	anchor := pemFile(t, t.TempDir(), "root.pem", root)
	tooltest.Run(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", p7s, "-content", file,
		"-CAfile", anchor, "-no_check_time", "-purpose", "any", "-out", os.DevNull)
}

// configCase is a signed config, and who trusts whom, when.
type configCase struct {
	*testing.T
	s               *Session
	conf, sig, cert []byte
	p7s             []byte
	trust           []*ca.Certificate
	at              time.Time
}

// by signs the config anew with a key, the way a signer does who knows it better.
func (c *configCase) by(key crypto.Signer, a spki.SignatureAlgorithm, certs ...*ca.Certificate) {
	c.Helper()
	var err error
	if c.sig, err = a.Sign(key, c.conf); err != nil {
		c.Fatal(err)
	}
	if len(certs) > 0 {
		c.cert = ca.MarshalPEM(certs...)
	}
}

// ssig_cml and config_rsa, each with its issuers
func (c *configCase) chain(name string) []*ca.Certificate {
	c.Helper()
	chain, err := c.s.PKI.Chain(c.s.PKI.Plan.Entry(name))
	if err != nil {
		c.Fatal(err)
	}
	return chain
}

// foreign makes a leaf below ssig_subca, with a key of a kind, and signs with it.
func (c *configCase) foreign(kind string, a spki.SignatureAlgorithm, o opts) {
	c.Helper()
	key := newKey(c, kind, 0)
	o.name = "Foreign"
	sub := c.s.cert(c, "ssig_subca")
	leaf := issue(c, key, sub, c.s.key(c, "ssig_subca"), o)
	c.by(key, a, leaf, sub)
}

// verify writes the files and returns the verdict.
func (c *configCase) verify(kind string, p7s bool) Verdict {
	c.Helper()
	dir := c.TempDir()
	conf := write(c, dir, "debos-1.conf", c.conf)
	if p7s {
		write(c, dir, "debos-1.p7s", c.p7s)
	} else {
		write(c, dir, "debos-1.sig", c.sig)
		write(c, dir, "debos-1.cert", c.cert)
	}
	v := Verifier{Trust: c.trust, Time: c.at}
	return v.VerifyConfig(c.Context(), kind, conf, p7s)
}

// a row is one manipulation, and the words of the refusal; "" is accepted.
type configRow struct {
	name   string
	change func(c *configCase)
	want   string
}

// flip returns data with one bit of an octet flipped; a negative place counts
// from the end.
func flip(data []byte, at int) []byte {
	out := bytes.Clone(data)
	if at < 0 {
		at += len(out)
	}
	out[at] ^= 1
	return out
}

func withSalt(n int) spki.SignatureAlgorithm {
	return spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: n}
}

// rawKey takes the restriction off a key, as a careless tool would.
func rawKey(key crypto.Signer) crypto.Signer {
	if p, ok := key.(*spki.PSSSigner); ok {
		return p.Signer
	}
	return key
}

const doesNotVerify = "signature does not verify"

func configRows() []configRow {
	other := func(old, new string) func(*configCase) {
		return func(c *configCase) {
			changed := strings.Replace(text, old, new, 1)
			if changed == text {
				c.Fatalf("no %q in the config", old)
			}
			c.conf = []byte(changed)
			c.by(c.s.key(c, "ssig_cml"), pss)
		}
	}
	return []configRow{
		{"as it is", func(c *configCase) {}, ""},

		// The three files.
		{"flipped bit in conf", func(c *configCase) { c.conf = flip(c.conf, 100) }, doesNotVerify},
		{"newline at the end of conf", func(c *configCase) { c.conf = append(c.conf, '\n') }, doesNotVerify},
		{"CRLF in conf", func(c *configCase) { c.conf = bytes.ReplaceAll(c.conf, []byte("\n"), []byte("\r\n")) }, doesNotVerify},
		{"empty conf", func(c *configCase) { c.conf = nil }, doesNotVerify},
		{"flipped bit in sig", func(c *configCase) { c.sig = flip(c.sig, 100) }, doesNotVerify},
		{"sig cut off", func(c *configCase) { c.sig = c.sig[:255] }, doesNotVerify},
		{"empty sig", func(c *configCase) { c.sig = nil }, doesNotVerify},
		{"sig with newline", func(c *configCase) { c.sig = append(c.sig, '\n') }, doesNotVerify},
		{"sig in base64", func(c *configCase) { c.sig = []byte(base64.StdEncoding.EncodeToString(c.sig)) }, doesNotVerify},
		{"huge sig", func(c *configCase) { c.sig = make([]byte, guestos.MaxSignature+1) }, "debos-1.sig is larger than"},
		{"flipped bit in the leaf's signature", func(c *configCase) {
			chain := c.chain("ssig_cml")
			c.cert = append(pemBlock("CERTIFICATE", flip(chain[0].Raw, -1)), ca.MarshalPEM(chain[1])...)
		}, doesNotVerify + " with the key of"},
		{"flipped bit in the sub CA's signature", func(c *configCase) {
			chain := c.chain("ssig_cml")
			c.cert = append(ca.MarshalPEM(chain[0]), pemBlock("CERTIFICATE", flip(chain[1].Raw, -1))...)
		}, doesNotVerify + " with the key of"},
		{"broken PEM", func(c *configCase) { c.cert = bytes.Replace(c.cert, []byte("-----END"), []byte("----END"), 1) }, "malformed or cut off"},
		{"empty cert", func(c *configCase) { c.cert = nil }, "no PEM certificate in it"},
		{"DER cert", func(c *configCase) { c.cert = c.chain("ssig_cml")[0].Raw }, "no PEM certificate in it"},
		{"PKCS#7 cert", func(c *configCase) { c.cert = pemBlock("PKCS7", c.chain("ssig_cml")[0].Raw) }, "a PKCS7 stands where a certificate should"},
		{"key in cert", func(c *configCase) { c.cert = append(c.cert, pemBlock("PRIVATE KEY", []byte{0x30, 0})...) }, "a PRIVATE KEY stands where"},
		{"text before the PEM", func(c *configCase) { c.cert = append([]byte("Certificate:\n    Data:\n"), c.cert...) }, ""},

		// The scheme.
		{"salt of 32", func(c *configCase) { c.by(c.s.key(c, "ssig_cml"), withSalt(32)) }, doesNotVerify},
		{"salt of 20", func(c *configCase) { c.by(c.s.key(c, "ssig_cml"), withSalt(20)) }, doesNotVerify},
		{"salt as long as possible", func(c *configCase) { c.by(c.s.key(c, "ssig_cml"), withSalt(256-64-2)) }, doesNotVerify},
		{"SHA-256", func(c *configCase) {
			c.by(c.s.key(c, "ssig_cml"), spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA256, SaltLength: 32})
		}, doesNotVerify},
		{"SHA-384", func(c *configCase) {
			c.by(c.s.key(c, "ssig_cml"), spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA384, SaltLength: 64})
		}, doesNotVerify},
		{"PKCS#1 v1.5 by a PSS key", func(c *configCase) { c.by(rawKey(c.s.key(c, "ssig_cml")), pkcs1) }, doesNotVerify},
		{"PKCS#1 v1.5", func(c *configCase) { c.by(c.s.key(c, "config_rsa"), pkcs1, c.chain("config_rsa")...) }, ""},
		{"PSS by an rsaEncryption key", func(c *configCase) { c.by(c.s.key(c, "config_rsa"), pss, c.chain("config_rsa")...) }, doesNotVerify},
		{"PKCS#1 v1.5 with SHA-256", func(c *configCase) {
			c.by(c.s.key(c, "config_rsa"), spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}, c.chain("config_rsa")...)
		}, doesNotVerify},
		{"EC leaf", func(c *configCase) {
			c.foreign("ec:P-256", spki.SignatureAlgorithm{Scheme: spki.ECDSA, Hash: crypto.SHA512}, opts{})
		}, "can't verify configs with a key of type ec:P-256"},
		{"Ed25519 leaf", func(c *configCase) { c.foreign("ed25519", spki.SignatureAlgorithm{Scheme: spki.EdDSA}, opts{}) }, "can't verify configs with a key of type ed25519"},

		// The chain.
		{"root included", func(c *configCase) { c.cert = ca.MarshalPEM(c.chain("ssig_cml")...) }, ""},
		{"other order of the rest", func(c *configCase) {
			chain := c.chain("ssig_cml")
			c.cert = ca.MarshalPEM(chain[0], chain[2], chain[1])
		}, ""},
		{"a certificate too many", func(c *configCase) { c.cert = append(c.cert, ca.MarshalPEM(c.s.cert(c, "backend"))...) }, ""},
		{"leaf not first", func(c *configCase) {
			chain := c.chain("ssig_cml")
			c.cert = ca.MarshalPEM(chain[1], chain[0])
		}, doesNotVerify},
		{"sub CA missing", func(c *configCase) { c.cert = ca.MarshalPEM(c.chain("ssig_cml")[0]) }, "no certificate of its issuer"},
		{"partial chain", func(c *configCase) { c.trust = c.chain("ssig_cml")[1:2] }, "a root must be self-signed"},
		{"nobody trusted", func(c *configCase) { c.trust = nil }, "no certificate of its issuer"},
		{"other hierarchy", func(c *configCase) { c.trust = []*ca.Certificate{c.s.cert(c, "gen_rootca")} }, "no certificate of its issuer"},
		{"expired", func(c *configCase) { c.at = c.chain("ssig_cml")[0].NotAfter }, "expired on"},
		{"one second before", func(c *configCase) { c.at = c.chain("ssig_cml")[0].NotAfter.Add(-time.Second) }, ""},
		{"not valid yet", func(c *configCase) { c.at = c.chain("ssig_cml")[0].NotBefore.Add(-time.Second) }, "not valid before"},
		{"expired, on a device without a clock", func(c *configCase) { c.at = time.Time{} }, ""},
		{"expired leaf below a good CA", func(c *configCase) {
			c.foreign("rsa:2048", pkcs1, opts{from: now.Add(-2 * time.Hour), to: now.Add(-time.Hour)})
		}, "expired on 2030-06-01T11:00:00Z"},
		{"leaf of tomorrow", func(c *configCase) {
			c.foreign("rsa:2048", pkcs1, opts{from: now.Add(time.Hour), to: now.Add(2 * time.Hour)})
		}, "not valid before 2030-06-01T13:00:00Z"},
		{"foreign leaf, good", func(c *configCase) { c.foreign("rsa:2048", pkcs1, opts{}) }, ""},
		{"unknown critical extension", func(c *configCase) { c.foreign("rsa:2048", pkcs1, opts{extension: unknownCritical}) }, "unknown critical extension 1.3.6.1.4.1.99999.1"},
		{"leaf below a leaf", func(c *configCase) {
			key, issuer := newKey(c, "rsa:2048", 0), c.chain("config_rsa")
			c.by(key, pkcs1, append([]*ca.Certificate{issue(c, key, issuer[0], c.s.key(c, "config_rsa"), opts{name: "Below"})}, issuer...)...)
		}, "is not a CA, but issues certificates"},
		{"self-signed signer", func(c *configCase) {
			key := newKey(c, "rsa:2048", 0)
			c.by(key, pkcs1, issue(c, key, nil, nil, opts{name: "Self"}))
		}, "self-signed, but not among the trust anchors"},
		{"self-made root", func(c *configCase) {
			key, rootKey := newKey(c, "rsa:2048", 0), newKey(c, "rsa:2048", 1)
			root := issue(c, rootKey, nil, nil, opts{name: "Mine", ca: true})
			c.by(key, pkcs1, issue(c, key, root, rootKey, opts{name: "Leaf"}), root)
		}, "self-signed, but not among the trust anchors"},
		{"self-made root with the name of the real one", func(c *configCase) {
			key, rootKey := newKey(c, "rsa:2048", 0), newKey(c, "rsa:2048", 1)
			root := issue(c, rootKey, nil, nil, opts{ca: true, like: c.s.cert(c, "ssig_rootca")})
			c.by(key, pkcs1, issue(c, key, root, rootKey, opts{name: "Leaf"}), root)
		}, "GyroidOS Software Signing Root CA: self-signed, but not among the trust anchors"},
		{"leaf of a root with the name of the real one", func(c *configCase) {
			key, rootKey := newKey(c, "rsa:2048", 0), newKey(c, "rsa:2048", 1)
			root := issue(c, rootKey, nil, nil, opts{ca: true, like: c.s.cert(c, "ssig_rootca")})
			c.by(key, pkcs1, issue(c, key, root, rootKey, opts{name: "Leaf"}))
		}, doesNotVerify + " with the key of"},
		{"self-made sub CA with the name of the real one", func(c *configCase) {
			key, subKey := newKey(c, "rsa:2048", 0), newKey(c, "rsa:2048", 1)
			sub := issue(c, subKey, nil, nil, opts{ca: true, like: c.s.cert(c, "ssig_subca")})
			c.by(key, pkcs1, issue(c, key, sub, subKey, opts{name: "Leaf"}), c.s.cert(c, "ssig_subca"))
		}, doesNotVerify + " with the key of"},
		{"real chain under a root of the same name", func(c *configCase) {
			c.trust = []*ca.Certificate{issue(c, newKey(c, "rsa:2048", 1), nil, nil, opts{ca: true, like: c.s.cert(c, "ssig_rootca")})}
		}, doesNotVerify + " with the key of"},

		// The anchor twin: there is no purpose check, so gen_rootca lets in too much.
		{"device under gen_rootca", func(c *configCase) {
			c.by(c.s.key(c, "device_1"), pss, c.chain("device_1")...)
			c.trust = []*ca.Certificate{c.s.cert(c, "gen_rootca")}
		}, ""},
		{"device under guestos_anchor", func(c *configCase) {
			c.by(c.s.key(c, "device_1"), pss, c.chain("device_1")...)
			c.trust = []*ca.Certificate{c.s.cert(c, "guestos_anchor")}
		}, "self-signed, but not among the trust anchors"},
		{"GuestOS under guestos_anchor", func(c *configCase) {
			c.by(c.s.key(c, "guestos_debos"), pss, c.chain("guestos_debos")...)
			c.trust = []*ca.Certificate{c.s.cert(c, "guestos_anchor")}
		}, ""},
		{"sub CA itself signs", func(c *configCase) { c.by(c.s.key(c, "ssig_subca_cml"), pss, c.chain("ssig_subca_cml")...) }, ""},

		// What the daemon reads once it has verified.
		{"unknown field", other("version: 1", "version: 1\nsecret: 1"), "secret: unknown field"},
		{"mounts with a colon", other("mounts_setup {", "mounts_setup: {"), "line 5, column 13: mounts_setup[0]: colon before a message"},
		{"duplicate field", other("version: 1", "version: 1\nversion: 2"), "line 4, column 1: version: field is there twice"},
		{"missing field", other(`name: "debos"`, ""), "name: required field is missing"},
		{"a container config", func(c *configCase) {
			c.conf = []byte(containerText)
			c.by(c.s.key(c, "ssig_cml"), pss)
		}, "line 2, column 1: guest_os: unknown field"},
	}
}

func TestVerifyConfig(t *testing.T) {
	s := newSession(t)
	sig, err := pss.Sign(s.key(t, "ssig_cml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range configRows() {
		t.Run(row.name, func(t *testing.T) {
			c := &configCase{T: t, s: s, conf: []byte(text), sig: bytes.Clone(sig), at: now, trust: []*ca.Certificate{s.cert(t, "ssig_rootca")}}
			c.cert = ca.MarshalPEM(c.chain("ssig_cml")[:2]...)
			row.change(c)
			checkVerdict(t, c.verify("guestos", false), row.want)
		})
	}
}

func checkVerdict(t *testing.T, v Verdict, want string) {
	t.Helper()
	switch {
	case want != "":
		refused(t, v.Err, want)
	case v.Err != nil:
		t.Errorf("refused: %v", v.Err)
	case v.Signer == nil || len(v.Chain) == 0 || !v.Chain[0].Equal(v.Signer):
		t.Errorf("accepted from nobody: %+v", v)
	}
	if want == doesNotVerify && !errors.Is(v.Err, spki.ErrSignature) {
		t.Errorf("%v does not say that the signature is wrong", v.Err)
	}
}

// TestReferenceConfig verifies what the platform's own scripts signed.
func TestReferenceConfig(t *testing.T) {
	trust, err := ReadTrust([]string{"../ca/testdata/reference/ssig_rootca.cert"})
	if err != nil {
		t.Fatal(err)
	}
	v := Verifier{Trust: trust, Time: trust[0].NotBefore.Add(time.Hour)}
	verdict := v.VerifyConfig(t.Context(), "guestos", "../artifact/guestos/testdata/debos-1.conf", false)
	if verdict.Err != nil || len(verdict.Chain) != 3 {
		t.Errorf("%+v", verdict)
	}
	other, err := ReadTrust([]string{"../ca/testdata/reference/gen_rootca.cert"})
	if err != nil {
		t.Fatal(err)
	}
	v.Trust = other
	refused(t, v.VerifyConfig(t.Context(), "guestos", "../artifact/guestos/testdata/debos-1.conf", false).Err, "no certificate of its issuer")
}

func cmsRows() []configRow {
	sign := func(key, cert string, algorithm spki.SignatureAlgorithm, change func(c *configCase, o *cms.Options)) func(*configCase) {
		return func(c *configCase) {
			o := cms.Options{SigningTime: now}
			for _, x := range c.chain(cert)[:2] {
				o.Certificates = append(o.Certificates, x.Raw)
			}
			change(c, &o)
			var err error
			c.p7s, err = cms.Sign(cms.Signer{Key: c.s.key(c, key), Certificate: c.s.cert(c, cert).Raw, Algorithm: algorithm}, c.conf, o)
			if err != nil {
				c.Fatal(err)
			}
		}
	}
	nothing := func(*configCase, *cms.Options) {}
	// withOpenSSL signs with OpenSSL's tool and further arguments.
	withOpenSSL := func(args ...string) func(*configCase) {
		return func(c *configCase) {
			dir := c.TempDir()
			key := keyFile(c, dir, "key", c.s.key(c, "config_rsa"), "")
			key2 := keyFile(c, dir, "key2", c.s.key(c, "ssig"), "")
			leaf := pemFile(c, dir, "leaf", c.s.cert(c, "config_rsa"))
			leaf2 := pemFile(c, dir, "leaf2", c.s.cert(c, "ssig"))
			sub := pemFile(c, dir, "sub", c.s.cert(c, "ssig_subca"))
			all := []string{"cms", "-sign", "-outform", "DER", "-in", write(c, dir, "conf", c.conf), "-out", filepath.Join(dir, "p7s"),
				"-md", "sha512", "-certfile", sub, "-signer", leaf, "-inkey", key}
			for _, a := range args {
				all = append(all, strings.NewReplacer("KEY2", key2, "LEAF2", leaf2).Replace(a))
			}
			tooltest.Run(c, "openssl", all...)
			c.p7s = read(c, filepath.Join(dir, "p7s"))
		}
	}
	return []configRow{
		{"as it is", func(c *configCase) {}, ""},
		{"flipped bit in conf", func(c *configCase) { c.conf = flip(c.conf, 100) }, "the content's digest is"},
		{"CRLF in conf", func(c *configCase) { c.conf = bytes.ReplaceAll(c.conf, []byte("\n"), []byte("\r\n")) }, "the content's digest is"},
		{"flipped bit in the signature", func(c *configCase) { c.p7s = flip(c.p7s, -1) }, doesNotVerify},
		{"trailing octet", func(c *configCase) { c.p7s = append(c.p7s, 0) }, "1 octets after the ContentInfo"},
		{"cut off", func(c *configCase) { c.p7s = c.p7s[:len(c.p7s)-1] }, "CMS"},
		{"empty", func(c *configCase) { c.p7s = nil }, "CMS"},
		{"PEM", func(c *configCase) { c.p7s = pemBlock("CMS", c.p7s) }, "CMS"},
		{"huge", func(c *configCase) { c.p7s = make([]byte, maxCMS+1) }, "debos-1.p7s is larger than"},
		{"by OpenSSL", withOpenSSL("-binary"), ""},
		{"by OpenSSL with key identifier", withOpenSSL("-binary", "-keyid"), ""},
		{"by OpenSSL, text converted", withOpenSSL(), "the content's digest is"},
		{"content embedded", withOpenSSL("-binary", "-nodetach"), "carries its content"},
		{"two signers", withOpenSSL("-binary", "-signer", "LEAF2", "-inkey", "KEY2"), "2 signers, not 1"},
		{"other content type", withOpenSSL("-binary", "-econtent_type", "1.3.6.1.4.1.311.2.1.4"), "content of type 1.3.6.1.4.1.311.2.1.4, not id-data"},
		{"no certificates", withOpenSSL("-binary", "-nocerts"), "is not in the message"},
		{"no signed attributes by OpenSSL", withOpenSSL("-binary", "-noattr"), "no signed attributes"},
		{"no signed attributes", sign("ssig_cml", "ssig_cml", pss, func(_ *configCase, o *cms.Options) {
			o.NoAttributes, o.SigningTime = true, time.Time{}
		}), "no signed attributes"},
		{"no signing time", sign("ssig_cml", "ssig_cml", pss, func(_ *configCase, o *cms.Options) { o.SigningTime = time.Time{} }), ""},
		{"leaf alone", sign("ssig_cml", "ssig_cml", pss, func(_ *configCase, o *cms.Options) { o.Certificates = o.Certificates[:1] }), "no certificate of its issuer"},
		{"without the leaf", sign("ssig_cml", "ssig_cml", pss, func(_ *configCase, o *cms.Options) { o.Certificates = o.Certificates[1:] }), "is not in the message"},
		{"root included", sign("ssig_cml", "ssig_cml", pss, func(c *configCase, o *cms.Options) {
			o.Certificates = append(o.Certificates, c.s.cert(c, "ssig_rootca").Raw)
		}), ""},
		{"nobody signed", func(c *configCase) {
			dir := c.TempDir()
			out := filepath.Join(dir, "p7s")
			tooltest.Run(c, "openssl", "crl2pkcs7", "-nocrl", "-certfile", pemFile(c, dir, "leaf", c.chain("ssig_cml")...), "-outform", "DER", "-out", out)
			c.p7s = read(c, out)
		}, "CMS"},
		{"other hierarchy", func(c *configCase) { c.trust = []*ca.Certificate{c.s.cert(c, "gen_rootca")} }, "no certificate of its issuer"},
		{"expired", func(c *configCase) { c.at = c.chain("ssig_cml")[0].NotAfter }, "expired on"},
		{"device under guestos_anchor", func(c *configCase) {
			sign("device_1", "device_1", pss, nothing)(c)
			c.trust = []*ca.Certificate{c.s.cert(c, "guestos_anchor")}
		}, "no certificate of its issuer"},
		{"unknown field", func(c *configCase) {
			c.conf = append(c.conf, "secret: 1\n"...)
			sign("ssig_cml", "ssig_cml", pss, nothing)(c)
		}, "secret: unknown field"},
	}
}

func TestVerifyCMS(t *testing.T) {
	s := newSession(t)
	signer, err := s.Signer("guestos", "ssig_cml", "debos")
	if err != nil {
		t.Fatal(err)
	}
	p7s, err := signCMS([]byte(text), signer, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range cmsRows() {
		t.Run(row.name, func(t *testing.T) {
			c := &configCase{T: t, s: s, conf: []byte(text), p7s: bytes.Clone(p7s), at: now, trust: []*ca.Certificate{s.cert(t, "ssig_rootca")}}
			row.change(c)
			checkVerdict(t, c.verify("guestos", true), row.want)
		})
	}
}

// TestConfigFiles takes away one file after the other, or puts something there
// that must not be waited for or read whole.
func TestConfigFiles(t *testing.T) {
	s := newSession(t)
	for _, kind := range []string{"missing", "directory", "FIFO", "huge"} {
		for _, extension := range []string{".conf", ".sig", ".cert", ".p7s"} {
			t.Run(kind+extension, func(t *testing.T) {
				dir := t.TempDir()
				conf := write(t, dir, "debos-1.conf", []byte(text))
				p7s := extension == ".p7s"
				if _, err := s.SignConfig(t.Context(), conf, ConfigOptions{Artifact: "guestos", CMS: p7s}); err != nil {
					t.Fatal(err)
				}
				path := base(conf) + extension
				err := os.Remove(path)
				want := path + " is not a regular file"
				switch kind {
				case "directory":
					err = errors.Join(err, os.Mkdir(path, 0o755))
				case "FIFO":
					err = errors.Join(err, unix.Mkfifo(path, 0o644))
				case "huge":
					err = errors.Join(err, os.WriteFile(path, nil, 0o644), os.Truncate(path, 1<<40))
					want = path + " is larger than"
				default:
					want = fs.ErrNotExist.Error()[:4] // "file"
				}
				if err != nil {
					t.Fatal(err)
				}
				v := Verifier{Trust: s.Anchors("guestos"), Time: now}
				verdict := v.VerifyConfig(t.Context(), "guestos", conf, p7s)
				if kind == "missing" {
					if !errors.Is(verdict.Err, fs.ErrNotExist) {
						t.Errorf("%v", verdict.Err)
					}
				} else {
					refused(t, verdict.Err, want)
				}
				if extension == ".conf" {
					if _, err := s.SignConfig(t.Context(), conf, ConfigOptions{Artifact: "guestos"}); err == nil {
						t.Error("signed")
					}
				}
			})
		}
	}
}

// TestSignConfigRefuses holds that nothing is written or recorded that the daemon
// would not take, or that is not the signer's to sign.
func TestSignConfigRefuses(t *testing.T) {
	s := newSession(t)
	guestOS := ConfigOptions{Artifact: "guestos"}
	for _, row := range []struct {
		name, file, content string
		o                   ConfigOptions
		change              func(s *Session)
		want                string
	}{
		{"no .conf", "debos", text, guestOS, nil, "a config is named NAME.conf"},
		{"nothing but .conf", ".conf", text, guestOS, nil, "a config is named NAME.conf"},
		{"unknown kind", "a.conf", text, ConfigOptions{Artifact: "firmware"}, nil, `unknown kind of config "firmware"`},
		{"other kind", "a.conf", containerText, guestOS, nil, "line 2, column 1: guest_os: unknown field"},
		{"unknown field", "a.conf", text + "secret: 1\n", guestOS, nil, "line 16, column 1: secret: unknown field"},
		{"image upwards", "a.conf", strings.Replace(text, `"root"`, `"../root"`, 1), guestOS, nil, "image_file"},
		{"unknown signer", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "nobody"}, nil, `"nobody" is not an entry of the plan`},
		{"signer of kernels", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "ssig"}, nil, "ssig signs efi, module, ima, not guestos"},
		{"signer of GuestOSes", "a.conf", containerText, ConfigOptions{Artifact: "container", As: "guestos_debos"}, nil, "guestos_debos signs guestos, not container"},
		{"no signer at all", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "device_1"}, nil, "device_1 signs no artifacts"},
		{"anchor", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "guestos_anchor"}, nil, "guestos_anchor signs no artifacts"},
		{"expired signer", "a.conf", text, guestOS, func(s *Session) { s.Now = func() time.Time { return now.AddDate(3, 0, 1) } }, "ssig_cml can't sign now"},
		{"signer of tomorrow", "a.conf", text, guestOS, func(s *Session) { s.Now = func() time.Time { return now.AddDate(0, 0, -1) } }, "ssig_cml can't sign now"},
		{"no passphrase", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "guestos_debos"}, func(*Session) { os.Unsetenv(passphraseVariable) }, "the key is encrypted and needs a passphrase"},
		{"wrong passphrase", "a.conf", text, ConfigOptions{Artifact: "guestos", As: "guestos_debos"}, func(*Session) { os.Setenv(passphraseVariable, "not this one") }, "passphrase"},
		{"key lost", "a.conf", text, guestOS, func(s *Session) { os.Remove(filepath.Join(s.PKI.Dir, "ssig_cml.key")) }, "ssig_cml"},
		{"key of another", "a.conf", text, guestOS, func(s *Session) {
			os.WriteFile(filepath.Join(s.PKI.Dir, "ssig_cml.key"), read(t, filepath.Join(s.PKI.Dir, "ssig_subca_cml.key")), 0o600)
		}, "is not the key of the certificate of ssig_cml"},
		{"ledger gone", "a.conf", text, guestOS, func(s *Session) { spoil(t, s) }, "pki.db"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv(passphraseVariable, testPassphrase) // and back again
			mine := openSession(t, s.PKI.Dir)
			if row.change != nil {
				mine = newSession(t)
				row.change(mine)
			}
			dir := t.TempDir()
			path := write(t, dir, row.file, []byte(row.content))
			unchanged(t, dir, func() {
				for _, p7s := range []bool{false, true} {
					row.o.CMS = p7s
					_, err := mine.SignConfig(t.Context(), path, row.o)
					refused(t, err, row.want)
				}
			})
		})
	}
	if list := signatures(t, s.PKI.Dir); len(list) > 0 {
		t.Errorf("recorded: %v", list)
	}
}
