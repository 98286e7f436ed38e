package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"tmpki/internal/tooltest"
	"tmpki/plan"
)

// openssl runs OpenSSL in dir and returns its standard output.
func openssl(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return must(t, dir, tooltest.Path(t, "openssl"), args...)
}

// checkTerminal fails if s could do more to a terminal than show letters.
func checkTerminal(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %q", s)
	}
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%q reaches the terminal in\n%q", r, s)
			return
		}
	}
}

// wantAll fails unless s has each of the texts.
func wantAll(t *testing.T, s string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(s, text) {
			t.Errorf("no %q in\n%s", text, s)
		}
	}
}

// show runs the verb for people and for programs, and holds both against what
// must never be.
func show(t *testing.T, path string) string {
	t.Helper()
	out, err := call(t, nil, "show", path)
	if err != nil {
		t.Fatal(err)
	}
	checkTerminal(t, out)
	asJSON, err := call(t, nil, "show", "--json", path)
	if err != nil {
		t.Fatal(err)
	}
	checkTerminal(t, asJSON)
	var any map[string]any
	if err := json.Unmarshal([]byte(asJSON), &any); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestShowKeys(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		make [][]string // OpenSSL commands, the last of which writes "out"
		want []string
	}{
		{"rsa", [][]string{{"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "out"}}, []string{"private key", "PRIVATE KEY", "none:", "rsa:2048 (id "}},
		{"rsa traditional", [][]string{{"genrsa", "-traditional", "-out", "out", "2048"}}, []string{"RSA PRIVATE KEY", "rsa:2048"}},
		{"rsa-pss", [][]string{{"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "out"}}, []string{"rsa-pss:2048 (id "}},
		{"rsa-pss restricted", [][]string{{"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha512", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha512", "-pkeyopt", "rsa_pss_keygen_saltlen:64", "-out", "out"}}, []string{"rsa-pss:2048, restricted to SHA-512, salt from 64"}},
		{"P-256", [][]string{{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "out"}}, []string{"ec:P-256"}},
		{"P-384", [][]string{{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "out"}}, []string{"ec:P-384"}},
		{"P-521 traditional", [][]string{{"ecparam", "-name", "secp521r1", "-genkey", "-out", "out"}}, []string{"EC PRIVATE KEY", "ec:P-521"}},
		{"ed25519", [][]string{{"genpkey", "-algorithm", "ED25519", "-out", "out"}}, []string{"ed25519"}},
		{"ed25519 DER", [][]string{{"genpkey", "-algorithm", "ED25519", "-outform", "DER", "-out", "out"}}, []string{"ed25519"}},
		{"encrypted", [][]string{{"genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x", "-out", "out"}}, []string{"ENCRYPTED PRIVATE KEY", "PBKDF2", "AES-256-CBC"}},
		{"public", [][]string{{"genpkey", "-algorithm", "ED25519", "-out", "key"}, {"pkey", "-in", "key", "-pubout", "-out", "out"}}, []string{"public key", "ed25519 (id "}},
		{"public DER", [][]string{{"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key"}, {"pkey", "-in", "key", "-pubout", "-outform", "DER", "-out", "out"}}, []string{"public key", "rsa-pss:2048"}},
	}
	path := filepath.Join(dir, "out")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, args := range test.make {
				openssl(t, dir, args...)
			}
			out := show(t, path)
			wantAll(t, out, test.want...)
			if strings.Contains(test.name, "public") {
				return
			}
			// No line of the file but its label reaches the output.
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			asJSON, err := call(t, nil, "show", "--json", path)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(string(content), "\n") {
				if len(line) > 8 && !strings.HasPrefix(line, "-----") && strings.Contains(out+asJSON, line) {
					t.Errorf("private material %q is shown", line)
				}
			}
		})
	}
}

const certificateConfig = `
[req]
distinguished_name = dn
prompt = no
[dn]
C = DE
CN = Every extension
[all]
basicConstraints = critical, CA:true, pathlen:3
keyUsage = critical, keyCertSign, cRLSign
extendedKeyUsage = serverAuth, OCSPSigning, 1.2.3.4.5
subjectKeyIdentifier = hash
subjectAltName = DNS:*.example, email:a@example, URI:https://example/x, IP:10.1.2.3, IP:2001:db8::1, RID:1.2.3, otherName:1.2.3;UTF8:hello, dirName:dir
nameConstraints = critical, permitted;DNS:.example, permitted;IP:10.0.0.0/255.0.0.0, excluded;email:bad.example
certificatePolicies = 1.2.3.4, 2.5.29.32.0
authorityInfoAccess = OCSP;URI:http://ocsp.example, caIssuers;URI:http://ca.example/ca.cer
crlDistributionPoints = URI:http://crl.example/1.crl
1.2.3.4.5.6 = DER:04:02:ab:cd
noCheck = ignored
[dir]
CN = In a directory
`

func TestShowCertificate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "c"), []byte(certificateConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key", "-config", "c", "-extensions", "all", "-days", "400", "-set_serial", "0x0102", "-out", "cert.pem")
	openssl(t, dir, "x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der")
	want := []string{
		"certificate of a CA, self-signed", "C=DE, CN=Every extension", "0102", "(399 days left)", "ec:P-256 (id ", "ECDSA SHA-256",
		"yes, path length 3 (critical)", "keyCertSign, cRLSign (critical)", "serverAuth, OCSPSigning, 1.2.3.4.5",
		"dns:*.example", "email:a@example", "uri:https://example/x", "ip:10.1.2.3", "ip:2001:db8::1", "[8]:2a03", "[0]:", "directory:CN=In a directory",
		"permitted dns:.example (critical)", "permitted ip:10.0.0.0/8", "excluded email:bad.example",
		"1.2.3.4\n", "2.5.29.32.0", "ocsp http://ocsp.example", "issuer http://ca.example/ca.cer", "http://crl.example/1.crl", "1.2.3.4.5.6 0402abcd", "OCSP no check",
	}
	out := show(t, filepath.Join(dir, "cert.pem"))
	wantAll(t, out, append(want, "tokens/ca")...)
	wantAll(t, show(t, filepath.Join(dir, "cert.der")), want...)
	// A second opinion on the fingerprint and the key identifier.
	fingerprint := openssl(t, dir, "x509", "-in", "cert.pem", "-noout", "-fingerprint", "-sha256", "-ext", "subjectKeyIdentifier")
	line, _, _ := strings.Cut(fingerprint, "\n")
	_, sum, _ := strings.Cut(line, "=")
	wantAll(t, out, strings.ToLower(strings.ReplaceAll(sum, ":", "")))
	fields := strings.Fields(fingerprint)
	wantAll(t, out, "(id "+strings.ToLower(fields[len(fields)-1])+")")
}

const crlConfig = `
[ca]
default_ca = d
[d]
database = index
certificate = cert.pem
private_key = key
default_md = sha256
default_crl_days = 30
crlnumber = number
`

func TestShowCRL(t *testing.T) {
	dir := t.TempDir()
	var index strings.Builder
	for i := range 25 {
		fmt.Fprintf(&index, "R\t400101000000Z\t250101000000Z,keyCompromise\t%04X\tunknown\t/CN=Device %d\n", 0x1000+i, i)
	}
	for name, content := range map[string]string{"c": certificateConfig, "ca": crlConfig, "index": index.String(), "number": "0A\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-config", "c", "-extensions", "all", "-days", "400", "-out", "cert.pem")
	openssl(t, dir, "ca", "-gencrl", "-config", "ca", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:20", "-out", "crl.pem")
	openssl(t, dir, "crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
	for _, name := range []string{"crl.pem", "crl.der"} {
		out := show(t, filepath.Join(dir, name))
		wantAll(t, out, "CRL\n", "C=DE, CN=Every extension", "RSASSA-PSS SHA-256 salt 20", "CRL number", "25 revoked certificates", "1000  keyCompromise", "1013  keyCompromise", "5, not shown", "29 days left")
		if strings.Contains(out, "1014  ") {
			t.Errorf("more than 20 entries in\n%s", out)
		}
	}
}

func TestShowReference(t *testing.T) {
	tests := []struct {
		file string
		want []string
	}{
		{"backend.cert", []string{"3 items", "links up to a self-signed root", "1. certificate\n", "3. certificate of a CA, self-signed", "RSASSA-PSS SHA-256 salt 478", "tokens/ca"}},
		{"ssig_cml.cert", []string{"2 items", "links up, but not to a self-signed root: the issuer is not in the file", "rsa-pss:4096"}},
		{"scd-1.csr", []string{`CN=Standard PC\0A SN 12/34\0A`, "possession         good", "uri:UUID:e2e8ae6c-1c75-4acd-b2e4-ff38740858d0", "clientAuth"}},
		{"scd-2.csr", []string{`CN=Standard PC (Q35 \+`, "good"}},
		{"tpm-1.csr", []string{"rsa:2048", "good"}},
		{"plain.csr", []string{"CN=Standard PC 0000", "good"}},
		{"DB.esl", []string{"EFI signature lists with 2 entries", "x509, owner 844db385-ee6e-4f8b-bb34-f734db311449", "CN=GyroidOS Software Signing Sub CA"}},
		{"DB.auth", []string{"good, a new value of db", "CN=KEK", "CN=DB", "2026-11-24 20:15:42 UTC"}},
		{"PK.auth", []string{"good, a new value of PK", "CN=PK"}},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			wantAll(t, show(t, filepath.Join("testdata", "reference", test.file)), test.want...)
		})
	}
}

// read returns a reference file.
func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "reference", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestShowBadSignatures(t *testing.T) {
	block, _ := pem.Decode(read(t, "tpm-1.csr"))
	block.Bytes[len(block.Bytes)-1] ^= 1
	auth := read(t, "DB.auth")
	auth[len(auth)-1] ^= 1
	chain := read(t, "backend.cert")
	middle := bytes.Index(chain[1:], []byte("Certificate:\n")) + 1
	end := bytes.LastIndex(chain, []byte("-----BEGIN"))
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"request":         {pem.EncodeToMemory(block), "possession         bad: "},
		"update":          {auth, "signature  bad: it fits no variable"},
		"chain with hole": {append(bytes.Clone(chain[:middle]), chain[end:]...), "chain             does not link up: from the first certificate only 1 of 2 link up"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := call(t, bytes.NewReader(test.data), "show", "-")
			if err != nil {
				t.Fatal(err)
			}
			wantAll(t, out, test.want)
		})
	}
}

func TestShowEntry(t *testing.T) {
	dir := samplePKI(t)
	out, err := call(t, nil, "--pki", dir, "show", "backend")
	if err != nil {
		t.Fatal(err)
	}
	checkTerminal(t, out)
	wantAll(t, out, `backend: in the hierarchy "customer", issued by gen_rootca`, "ed25519 at file:backend.key (custody online, here)", "by tester, ledger entry ", `O=Sample & \<Sons\>, CN=Backend`, "dns:localhost")
	out, err = call(t, nil, "--pki", dir, "--json", "show", "ssig")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Entry entryFacts
		Items []certificateFacts
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Entry.Issuer != "ssig_subca" || s.Entry.Record.Actor != "tester" || !s.Entry.Record.Issued.Equal(issuedAt) || len(s.Entry.Published) != 1 || !s.Items[0].NotBefore.Equal(issuedAt) {
		t.Errorf("JSON: %s", out)
	}
	for name, want := range map[string]string{
		"ssig_rootca":    `root of the hierarchy "software signing"`,
		"guestos_anchor": "trust anchor, twin of guestos_subca",
		"PK":             "UEFI key",
	} {
		out, err := call(t, nil, "--pki", dir, "show", name)
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, out, want)
	}
	// Before apply there is only the plan.
	out, err = call(t, nil, "--pki", builtInPKI(t, plan.Development), "show", "ssig")
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, out, "not made yet", "CN=GyroidOS Software Signing Certificate", "certs/signing_key.x509 (der)")
}

func TestShowDecides(t *testing.T) {
	dir := builtInPKI(t, plan.Development)
	t.Chdir(t.TempDir())
	request := publicKeyPEM(t)
	for _, name := range []string{"ssig", "stray", "ssig.csr"} {
		if err := os.WriteFile(name, request, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const entry, file = "in the hierarchy", "public key"
	for arg, want := range map[string]string{"ssig": entry, "./ssig": file, "ssig.csr": file, "stray": file} {
		out, err := call(t, nil, "--pki", dir, "show", arg)
		if err != nil {
			t.Fatal(err)
		}
		wantAll(t, out, want)
	}
	// No PKI: then it is a file.
	out, err := call(t, nil, "--pki", "nowhere", "show", "ssig")
	if err != nil {
		t.Fatal(err)
	}
	wantAll(t, out, file)
	if _, err := call(t, nil, "--pki", dir, "show", "nothing"); err == nil || !strings.Contains(err.Error(), `"nothing" is neither a file nor an entry`) {
		t.Errorf("unknown name: %v", err)
	}
	if _, err := call(t, nil, "--pki", t.TempDir(), "show", "nothing"); !errors.Is(err, plan.ErrNoPlan) {
		t.Errorf("PKI without a plan: %v", err)
	}
	var usage *usageError
	if _, err := call(t, nil, "show"); !errors.As(err, &usage) {
		t.Errorf("no argument: %v", err)
	}
}

// publicKeyPEM returns a public key in PEM.
func publicKeyPEM(t *testing.T) []byte {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestShowHostileNames(t *testing.T) {
	evil := "\x1b]0;owned\x07\r\nroot ok\u202egnp.\u009b31m\xff\u2028"
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// dNSName is an IA5String, in which control characters are allowed.
	san, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("\x1b[2Jevil\nhost")}})
	if err != nil {
		t.Fatal(err)
	}
	raw := asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(strings.ToValidUTF8(evil, ""))}
	subject := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: raw}}}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}, {Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte("\x1b[2J")}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	// The file's name is hostile too.
	path := filepath.Join(t.TempDir(), "\x1b[31m\nname.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	wantAll(t, show(t, path), `\1B]0\;owned\07\0D\0Aroot ok`, `dns:\1B[2Jevil\0Ahost`, "1.2.3 1b5b324a")
	// And so it is in errors.
	for _, data := range []string{"", "-----BEGIN \x1b[31m-----\nAAAA\n-----END \x1b[31m-----\n", "-----BEGIN CERTIFICATE-----\n", "\x1b[31m"} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := call(t, nil, "show", path)
		if err == nil {
			t.Fatalf("%q is shown", data)
		}
		checkTerminal(t, err.Error())
	}
	_, err = call(t, nil, "show", path+"\x1b.gone")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that isn't there: %v", err)
	}
	checkTerminal(t, err.Error())
}

func TestShowRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo.pem")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	large := bytes.Repeat([]byte("x"), 5<<20)
	many := bytes.Repeat(read(t, "plain.csr"), 65)
	for path, want := range map[string]string{
		file("twelve", []byte("just a text\n")):    "a file of 12 octets that is no certificate, request, CRL, key, .esl or .auth",
		file("half.der", []byte{0x30, 0x03, 0x30}): "a file of 3 octets that is no certificate, request, CRL, key, .esl or .auth (read as a certificate: ",
		file("empty.pem", nil):                     "an empty file",
		file("large.pem", large):                   "larger than 4194304 octets",
		file("many.pem", many):                     "more than 64",
		file("bad.esl", []byte("0123456789")):      "signature list 1 at octet 0",
		file("bad.auth", []byte("0123456789")):     "authenticated variable: 10 octets",
		file("pkcs7.pem", []byte("-----BEGIN PKCS7-----\nAAAA\n-----END PKCS7-----\n")): `a PEM block "PKCS7" is none that can be shown`,
		fifo:                           "is a pipe",
		dir:                            "is a directory",
		"/dev/null":                    "is not a regular file",
		filepath.Join(dir, "gone.pem"): "no such file",
	} {
		if out, err := call(t, nil, "show", path); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%s: %q, %v; want %q", path, out, err, want)
		}
	}
	if _, err := call(t, bytes.NewReader(large), "show", "-"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("5 MiB of standard input: %v", err)
	}
}

func TestShowTruncated(t *testing.T) {
	for _, name := range []string{"plain.csr", "ssig_cml.cert", "DB.esl", "DB.auth"} {
		data := read(t, name)
		if block, _ := pem.Decode(data); block != nil && name != "ssig_cml.cert" {
			data = block.Bytes
		}
		for _, n := range []int{1, 10, 40, len(data) / 4, len(data) / 2, len(data) - 30} {
			s, err := recognize(name, data[:n])
			if err == nil {
				t.Errorf("%s cut to %d octets is %+v", name, n, s.Items)
			}
		}
	}
}

func FuzzRecognize(f *testing.F) {
	for _, name := range []string{"plain.csr", "scd-1.csr", "ssig_cml.cert", "DB.esl", "DB.auth"} {
		data := read(f, name)
		f.Add(data)
		if block, _ := pem.Decode(data); block != nil {
			f.Add(block.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := recognize("fuzz", data)
		if err != nil {
			checkTerminal(t, err.Error())
			return
		}
		var out bytes.Buffer
		if err := s.print(&out, issuedAt); err != nil {
			t.Fatal(err)
		}
		checkTerminal(t, out.String())
		if _, err := json.Marshal(s); err != nil {
			t.Fatal(err)
		}
	})
}
