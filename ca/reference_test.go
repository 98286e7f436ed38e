package ca

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// referenceTime lies within the validity of all reference certificates.
var referenceTime = time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)

func readReference(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "reference", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func reference(t testing.TB, name string) []*Certificate {
	t.Helper()
	certs, err := ParsePEM(readReference(t, name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return certs
}

func TestReferenceChains(t *testing.T) {
	rows := []struct {
		file, root, helper string
		count              int // certificates in the file
		path               int // and in the path
		key                string
		algorithm          string // of the first certificate's signature
	}{
		{"ssig_rootca.cert", "ssig_rootca.cert", "", 1, 1, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"ssig_subca.cert", "ssig_rootca.cert", "", 2, 2, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"ssig.cert", "ssig_rootca.cert", "", 3, 3, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"ssig_subca_cml.cert", "ssig_rootca.cert", "", 1, 2, "rsa-pss:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"ssig_cml.cert", "ssig_rootca.cert", "", 2, 3, "rsa-pss:4096", ""},
		{"debos-1.cert", "ssig_rootca.cert", "", 2, 3, "rsa-pss:4096", ""},
		{"gen_rootca.cert", "gen_rootca.cert", "", 1, 1, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"device_subca.cert", "gen_rootca.cert", "", 2, 2, "rsa-pss:4096", ""},
		{"user_subca.cert", "gen_rootca.cert", "", 2, 2, "rsa-pss:4096", ""},
		{"backend_subca.cert", "gen_rootca.cert", "", 2, 2, "rsa-pss:4096", ""},
		{"backend.cert", "gen_rootca.cert", "", 3, 3, "rsa-pss:4096", "RSASSA-PSS SHA-256 salt 478"},
		{"ocsp_server.cert", "gen_rootca.cert", "", 3, 3, "rsa-pss:4096", "RSASSA-PSS SHA-256 salt 478"},
		{"PK.crt", "PK.crt", "", 1, 1, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"KEK.crt", "KEK.crt", "", 1, 1, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
		{"DB.crt", "DB.crt", "", 1, 1, "rsa:4096", "RSA PKCS#1 v1.5 SHA-256"},
	}
	files, err := filepath.Glob("testdata/reference/*.c[er][rt]*")
	if err != nil || len(files) != len(rows) {
		t.Errorf("%d rows for %d files (%v)", len(rows), len(files), err)
	}
	for _, r := range rows {
		certs := reference(t, r.file)
		leaf := certs[0]
		if len(certs) != r.count || leaf.KeyType().String() != r.key {
			t.Errorf("%s: %d certificates, key type %v", r.file, len(certs), leaf.KeyType())
		}
		if got := leaf.Algorithm.String(); r.algorithm != "" && got != r.algorithm {
			t.Errorf("%s: signed with %s, want %s", r.file, got, r.algorithm)
		}
		o := VerifyOptions{Roots: reference(t, r.root)[:1], Intermediates: certs[1:], Time: referenceTime}
		path, err := Verify(leaf, o)
		if err != nil || len(path) != r.path {
			t.Errorf("%s: %v, path of %d", r.file, err, len(path))
		}
		// The other hierarchy's root must not do.
		o.Roots = reference(t, "ssig_rootca.cert")
		if r.root == "ssig_rootca.cert" {
			o.Roots = reference(t, "gen_rootca.cert")
		}
		if _, err := Verify(leaf, o); err == nil {
			t.Errorf("%s verifies below the wrong root", r.file)
		}
	}
}

// What goes out is what came in, without the text around it.
func TestReferencePEM(t *testing.T) {
	for _, file := range []string{"backend.cert", "ssig.cert", "debos-1.cert"} {
		certs := reference(t, file)
		again := must(ParsePEM(MarshalPEM(certs...)))
		if len(again) != len(certs) {
			t.Fatalf("%s: %d certificates, then %d", file, len(certs), len(again))
		}
		for i := range certs {
			if !again[i].Equal(certs[i]) {
				t.Errorf("%s: certificate %d changed", file, i)
			}
		}
		out := MarshalPEM(certs[0])
		// The device wants exactly this (see doc/formats.md).
		if !bytes.HasPrefix(out, []byte("-----BEGIN CERTIFICATE-----\n")) || !bytes.HasSuffix(out, []byte("-----END CERTIFICATE-----\n")) || bytes.Contains(out, []byte("\r")) {
			t.Errorf("%s: %q…", file, out[:40])
		}
	}
}

// The config that the reference PKI signed verifies with the key as we read it.
func TestReferenceSignature(t *testing.T) {
	leaf := reference(t, "debos-1.cert")[0]
	a := spki.SignatureAlgorithm{Scheme: spki.PSS, Hash: crypto.SHA512, SaltLength: 64}
	config, signature := readReference(t, "debos-1.conf"), readReference(t, "debos-1.sig")
	if err := a.Verify(leaf.Key, config, signature); err != nil {
		t.Error(err)
	}
	if err := a.Verify(leaf.Key, append(config, '\n'), signature); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("changed config: %v", err)
	}
}

func TestReferenceRequests(t *testing.T) {
	for _, r := range []struct{ file, subject, commonName, key string }{
		{"plain.csr", `C=DE, O=Fraunhofer, OU=AISEC, CN=Standard PC 0000`, "Standard PC 0000", "rsa:4096"},
		{"scd-1.csr", `C=DE, O=Fraunhofer, OU=AISEC, CN=Standard PC\0A SN 12/34\0A`, "Standard PC\n SN 12/34\n", "rsa:4096"},
		{"scd-2.csr", `C=DE, O=Fraunhofer, OU=AISEC, CN=Standard PC (Q35 \+  012345678901234567890123456789012345678`, "Standard PC (Q35 +  012345678901234567890123456789012345678", "rsa:4096"},
		{"tpm-1.csr", `C=DE, O=Fraunhofer, OU=AISEC, CN=Standard PC SN1`, "Standard PC SN1", "rsa:2048"},
	} {
		data := readReference(t, r.file)
		req, err := ParseRequest(data)
		if err != nil {
			t.Errorf("%s: %v", r.file, err)
			continue
		}
		key := must(spki.KeyTypeOf(req.Key)).String()
		if got := req.Subject().String(); got != r.subject || req.Subject().CommonName() != r.commonName || key != r.key {
			t.Errorf("%s: subject %s, common name %q, key %s", r.file, got, req.Subject().CommonName(), key)
		}
		block, _ := pem.Decode(data)
		if again, err := ParseRequest(block.Bytes); err != nil || !bytes.Equal(again.Raw, req.Raw) {
			t.Errorf("%s as DER: %v", r.file, err)
		}
		// Proof of possession: any bit of what is signed, and of the signature.
		for _, at := range []int{len(block.Bytes) - 1, len(block.Bytes) - 200, bytes.Index(block.Bytes, []byte("Fraunhofer"))} {
			bad := bytes.Clone(block.Bytes)
			bad[at] ^= 1
			if _, err := ParseRequest(bad); !errors.Is(err, spki.ErrSignature) {
				t.Errorf("%s with octet %d changed: %v", r.file, at, err)
			}
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	good := readReference(t, "plain.csr")
	block, _ := pem.Decode(good)
	for _, r := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "certificate request: asn1: syntax error: sequence truncated"},
		{"two of them", append(bytes.Clone(good), good...), "something follows the certificate request"},
		{"text after it", append(bytes.Clone(good), "x"...), "something follows the certificate request"},
		{"a certificate", readReference(t, "gen_rootca.cert"), "a CERTIFICATE stands where a certificate request should"},
		{"a certificate in a request's block", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: reference(t, "PK.crt")[0].Raw}), "certificate request: "},
		{"trailing octet", append(bytes.Clone(block.Bytes), 0), "certificate request: "},
		{"cut off", good[:len(good)-60], "the PEM block is malformed or cut off"},
		{"too large", make([]byte, 2*MaxCertificate+1), "request of 131073 octets is too large"},
	} {
		_, err := ParseRequest(r.data)
		if err == nil || !strings.HasPrefix(err.Error(), r.want) {
			t.Errorf("%s: %v, want %s", r.name, err, r.want)
		}
	}
	// White space around it is fine.
	if _, err := ParseRequest(append(append([]byte("a device\n"), good...), "\n \n"...)); err != nil {
		t.Error(err)
	}
}

// Requests of all key types, made by OpenSSL, with their proof of possession.
func TestRequestsOpenSSL(t *testing.T) {
	tooltest.Need(t, "openssl")
	dir := t.TempDir()
	for _, r := range []struct {
		key       string
		genpkey   []string
		req       []string
		algorithm string
	}{
		{"rsa:2048", []string{"-algorithm", "RSA"}, nil, "RSA PKCS#1 v1.5 SHA-256"},
		{"rsa:2048", []string{"-algorithm", "RSA"}, []string{"-sha512", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:64"}, "RSASSA-PSS SHA-512 salt 64"},
		{"rsa-pss:2048", []string{"-algorithm", "RSA-PSS"}, nil, "RSASSA-PSS SHA-256 salt 222"},
		{"ec:P-256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, nil, "ECDSA SHA-256"},
		{"ec:P-521", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}, []string{"-sha512"}, "ECDSA SHA-512"},
		{"ed25519", []string{"-algorithm", "ED25519"}, nil, "Ed25519"},
	} {
		key := filepath.Join(dir, "key")
		tooltest.Run(t, "openssl", append([]string{"genpkey", "-out", key}, r.genpkey...)...)
		data := tooltest.Run(t, "openssl", append([]string{"req", "-new", "-key", key, "-subj", "/CN=a,b/O=\"x\""}, r.req...)...)
		req, err := ParseRequest(data)
		if err != nil {
			t.Errorf("%s: %v", r.key, err)
			continue
		}
		if got := must(spki.KeyTypeOf(req.Key)).String(); got != r.key || req.Algorithm.String() != r.algorithm {
			t.Errorf("%s: %s, %v", r.key, got, req.Algorithm)
		}
		if got := req.Subject().String(); got != `CN=a\,b, O=\"x\"` {
			t.Error(got)
		}
	}
	key := filepath.Join(dir, "key")
	tooltest.Run(t, "openssl", "genpkey", "-algorithm", "RSA", "-out", key)
	if _, err := ParseRequest(tooltest.Run(t, "openssl", "req", "-new", "-sha1", "-key", key, "-subj", "/CN=a")); err == nil || !strings.Contains(err.Error(), "1.2.840.113549.1.1.5 is not supported") {
		t.Errorf("SHA-1: %v", err)
	}
}

func TestParsePEM(t *testing.T) {
	root := MarshalPEM(reference(t, "gen_rootca.cert")...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, r := range []struct {
		name string
		data []byte
		n    int
		want string
	}{
		{"one", root, 1, ""},
		{"text around", join([]byte("Certificate:\n"), root, []byte("between\n"), root, []byte("after\n")), 2, ""},
		{"CRLF", bytes.ReplaceAll(root, []byte("\n"), []byte("\r\n")), 1, ""},
		{"nothing", nil, 0, "no PEM certificate in it"},
		{"DER", reference(t, "gen_rootca.cert")[0].Raw, 0, "no PEM certificate in it"},
		{"a request", readReference(t, "plain.csr"), 0, "a CERTIFICATE REQUEST stands where a certificate should"},
		{"a key between", join(root, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), root), 0, "a PRIVATE KEY stands where a certificate should"},
		{"trusted certificate", bytes.ReplaceAll(root, []byte(" CERTIFICATE"), []byte(" TRUSTED CERTIFICATE")), 0, "a TRUSTED CERTIFICATE stands where a certificate should"},
		{"second cut off", join(root, root[:len(root)-30]), 0, "a PEM block is malformed or cut off"},
		{"first cut off", join(root[:len(root)-30], []byte("\n"), root), 0, "a PEM block is malformed or cut off"},
		{"broken base64", bytes.Replace(root, []byte("\nMII"), []byte("\nM!I"), 1), 0, "a PEM block is malformed or cut off"},
		{"trailing octet inside", pemOf(append(bytes.Clone(reference(t, "gen_rootca.cert")[0].Raw), 0)), 0, "certificate 1: certificate: x509: trailing data"},
		{"64 of them", bytes.Repeat(root, MaxChain), MaxChain, ""},
		{"65 of them", bytes.Repeat(root, MaxChain+1), 0, "more than 64 certificates in one file"},
		{"too large", make([]byte, MaxChain*MaxCertificate+1), 0, "file of 4194305 octets is too large for a certificate chain"},
		{"too large inside", pemOf(make([]byte, MaxCertificate+1)), 0, "certificate 1: certificate of 65537 octets is larger than 65536"},
	} {
		certs, err := ParsePEM(r.data)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != r.want || len(certs) != r.n {
			t.Errorf("%s: %d certificates, error %q, want %q", r.name, len(certs), got, r.want)
		}
	}
}

func TestKeyIDs(t *testing.T) {
	// The kernel's IMA finds keys by the last four octets of this form.
	for _, file := range []string{"ssig_subca.cert", "ssig_cml.cert", "backend.cert"} {
		c := reference(t, file)[0]
		id := must(spki.KeyID(c.RawSubjectPublicKeyInfo))
		if !bytes.Equal(id, c.SubjectKeyId) {
			t.Errorf("%s: key identifier %x, in the certificate %x", file, id, c.SubjectKeyId)
		}
	}
}
