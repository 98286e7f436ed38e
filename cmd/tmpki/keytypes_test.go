package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/internal/tooltest"
)

// TestKeyTypes has OpenSSL and efitools look at every file that generate makes,
// for each kind of key.
func TestKeyTypes(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "openssl", "sig-list-to-certs")
	for _, tt := range []struct {
		keyType, pass string
		mixed         bool
	}{
		{"rsa:2048", "", false},
		{"rsa:2048", "a passphrase", false},
		{"ec:secp384r1", "a passphrase", true},
		{"ed25519", "", true},
	} {
		name := tt.keyType
		if tt.pass != "" {
			name += " encrypted"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "pki")
			env := []string{"DO_PLATFORM_KEYS=y"}
			if tt.pass != "" {
				env = append(env, "GYROIDOS_TEST_PASSWD_PKI="+tt.pass)
			}
			r := runIn(t, parent, env, "tmpki", "generate", dir, tt.keyType)
			if r.code != 0 {
				t.Fatalf("generate: %d\n%s", r.code, r.stderr)
			}
			// A plan where some keys stay RSA says which, and why.
			if tt.mixed != strings.Contains(r.stdout, "stay RSA, because") {
				t.Errorf("mixed: %v\n%s", tt.mixed, r.stdout)
			}
			acceptAll(t, dir, tt.pass)
			if r := runIn(t, parent, env, "tmpki", "check", dir); r.code != 0 {
				t.Errorf("check: %d\n%s", r.code, r.stdout)
			}
		})
	}
}

// acceptAll has OpenSSL and efitools accept every file of a PKI.
func acceptAll(t *testing.T, dir, pass string) {
	t.Helper()
	temp := t.TempDir()
	ssl := func(args ...string) string { return openssl(t, dir, args...) }
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	encrypted, pairs := 0, 0
	for _, file := range names(t, dir) {
		base, ext := strings.TrimSuffix(file, filepath.Ext(file)), filepath.Ext(file)
		switch ext {
		case ".key":
			if bytes.Contains(read(file), []byte("ENCRYPTED")) {
				encrypted++
			}
			public := ssl("pkey", "-in", file, "-passin", "pass:"+pass, "-pubout")
			ssl("pkey", "-in", file, "-passin", "pass:"+pass, "-check", "-noout")
			cert := base + ".cert"
			if _, err := os.Stat(filepath.Join(dir, cert)); err != nil {
				cert = base + ".crt"
			}
			if of := ssl("x509", "-in", cert, "-noout", "-pubkey"); of != public {
				t.Errorf("%s is not the key of %s", file, cert)
			}
			pairs++
		case ".cert":
			ssl("x509", "-in", file, "-noout", "-text")
			root := "gen_rootca.cert"
			if strings.HasPrefix(file, "ssig") {
				root = "ssig_rootca.cert"
			}
			if file == "guestos_anchor.cert" {
				root = file
			}
			ssl("verify", "-x509_strict", "-CAfile", root, "-untrusted", file, file)
		case ".crt":
			ssl("verify", "-check_ss_sig", "-CAfile", file, file)
		case ".cer":
			want := ssl("x509", "-in", base+".crt", "-outform", "DER")
			if !bytes.Equal([]byte(want), read(file)) {
				t.Errorf("%s is not %s.crt in DER", file, base)
			}
		case ".esl":
			must(t, dir, "sig-list-to-certs", file, filepath.Join(temp, file))
		case ".auth":
			// EFI_TIME, then WIN_CERTIFICATE with its length; the content follows.
			data := read(file)
			length := 16 + int(data[16]) + int(data[17])<<8
			if content := read(base + ".esl"); !bytes.Equal(content, data[length:]) {
				t.Errorf("%s has another content than %s.esl", file, base)
			}
		case ".yaml", ".db", "":
		default:
			t.Errorf("%s: nobody looked at it", file)
		}
	}
	if pairs != 16 {
		t.Errorf("%d keys, want 16", pairs)
	}
	if want := 8; (pass != "") != (encrypted == want) {
		t.Errorf("%d encrypted keys, want %d with a passphrase", encrypted, want)
	}
	// The module signing key: key, then certificate; the certificate in DER.
	pem := read("certs/signing_key.pem")
	key, cert := bytes.Index(pem, []byte("-----BEGIN PRIVATE KEY-----")), bytes.Index(pem, []byte("-----BEGIN CERTIFICATE-----"))
	if key != 0 || cert < 0 || bytes.Count(pem, []byte("-----BEGIN")) != 2 {
		t.Error("signing_key.pem is not a key, then a certificate")
	}
	if info, err := os.Stat(filepath.Join(dir, "certs/signing_key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("signing_key.pem: %v, %v", info.Mode(), err)
	}
	if der := ssl("x509", "-in", "certs/signing_key.pem", "-outform", "DER"); !bytes.Equal([]byte(der), read("certs/signing_key.x509")) {
		t.Error("signing_key.x509 is not the certificate in signing_key.pem")
	}
	if ssl("pkey", "-in", "certs/signing_key.pem", "-pubout") != ssl("x509", "-in", "certs/signing_key.pem", "-noout", "-pubkey") {
		t.Error("key and certificate in signing_key.pem do not belong together")
	}
}
