package keys

import (
	"bytes"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

// TestTruncatedKeys cuts a key at every length: none is read, and none that
// still begins a PEM block is called anything but truncated or damaged.
func TestTruncatedKeys(t *testing.T) {
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	for name, whole := range map[string][]byte{
		"plain":     bytes.TrimSpace(mustPEM(t, ec, nil)),
		"encrypted": bytes.TrimSpace(mustPEM(t, ec, passphrase(t))),
	} {
		if _, err := ParsePEM(whole, passphrase(t)); err != nil {
			t.Fatalf("%s: whole: %v", name, err)
		}
		begins := bytes.IndexByte(whole, '\n')
		end := bytes.Index(whole, []byte("-----END "))
		for n := range whole {
			_, err := ParsePEM(whole[:n], passphrase(t))
			if err == nil {
				t.Errorf("%s: the first %d octets are read", name, n)
			}
			if n > begins && n <= end && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s: the first %d octets: %v", name, n, err)
			}
		}
	}

	// The same within: a whole PEM block around half a key.
	block, _ := pem.Decode(mustPEM(t, ec, nil))
	for n := range block.Bytes {
		if _, err := ParsePEM(toPEM(labelPKCS8, block.Bytes[:n]), nil); err == nil {
			t.Errorf("the first %d octets of DER are read", n)
		}
	}
}

func TestParsePEMRejects(t *testing.T) {
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	plain, sealed := mustPEM(t, ec, nil), mustPEM(t, ec, passphrase(t))
	block, _ := pem.Decode(sealed)
	header := func(name, value string) []byte {
		b, _ := pem.Decode(plain)
		b.Headers = map[string]string{name: value}
		return pem.EncodeToMemory(b)
	}
	wrong, err := NewPassphrase([]byte("battery staple"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(block.Bytes)
	damaged[len(damaged)-17] ^= 1
	for _, tt := range []struct {
		name string
		data []byte
		pass *Passphrase
		want string
		is   error
	}{
		{"plain", plain, nil, "", nil},
		{"plain, passphrase not needed", plain, wrong, "", nil},
		{"text before", append([]byte("Bag Attributes\n"), plain...), nil, "", nil},
		{"white space after", append(bytes.Clone(plain), " \r\n\n"...), nil, "", nil},
		{"CRLF", bytes.ReplaceAll(plain, []byte("\n"), []byte("\r\n")), nil, "", nil},
		{"no passphrase", sealed, nil, "needs a passphrase", ErrPassphraseNeeded},
		{"wrong passphrase", sealed, wrong, "passphrase is wrong", ErrPassphraseWrong},
		{"damaged padding", toPEM(labelEncrypted, damaged), passphrase(t), "or the key is damaged", ErrPassphraseWrong},
		{"empty", nil, nil, "no PEM block", nil},
		{"text", []byte("ssig_rootca"), nil, "no PEM block", nil},
		{"two keys", append(bytes.Clone(plain), plain...), nil, "more data follows", nil},
		{"text after", append(bytes.Clone(plain), '#'), nil, "more data follows", nil},
		{"a certificate after", append(bytes.Clone(plain), toPEM("CERTIFICATE", []byte{0x30, 0})...), nil, "more data follows", nil},
		{"a certificate first", append(toPEM("CERTIFICATE", []byte{0x30, 0}), plain...), nil, "not a private key", ErrCertificate},
		{"parameters alone", toPEM(labelECParams, []byte{5, 0}), nil, "no PEM block", nil},
		{"another label", toPEM("DSA PRIVATE KEY", []byte{0x30, 0}), nil, `"DSA PRIVATE KEY" is not a key`, nil},
		{"OpenSSH", toPEM("OPENSSH PRIVATE KEY", []byte("x")), nil, "is not a key", nil},
		{"encrypted as plain", toPEM(labelPKCS8, block.Bytes), nil, "not a PKCS#8", nil},
		{"plain as encrypted", bytes.ReplaceAll(plain, []byte(labelPKCS8), []byte(labelEncrypted)), passphrase(t), "malformed", nil},
		{"plain as RSA", bytes.ReplaceAll(plain, []byte(labelPKCS8), []byte(labelRSA)), nil, "RSA: ", nil},
		{"plain as EC", bytes.ReplaceAll(plain, []byte(labelPKCS8), []byte(labelEC)), nil, "EC: ", nil},
		{"labels differ", bytes.Replace(plain, []byte("END PRIVATE"), []byte("END EC PRIVATE"), 1), nil, "damaged", nil},
		{"not base64", bytes.Replace(plain, []byte("\nM"), []byte("\n*"), 1), nil, "damaged", nil},
		{"damaged, then a good one", append(bytes.Replace(plain, []byte("\nM"), []byte("\n*"), 1), plain...), nil, "damaged", nil},
		{"a header", header("Comment", "x"), nil, "has headers", nil},
		{"traditional encryption", header("DEK-Info", "AES-256-CBC,00"), passphrase(t), "openssl pkcs8 -topk8", nil},
		{"too large", append(bytes.Repeat([]byte("\n"), MaxFileSize), plain...), nil, "more than 65536", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer, err := ParsePEM(tt.data, tt.pass)
			checkError(t, err, tt.want)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			if (signer == nil) != (err != nil) {
				t.Errorf("signer %v beside error %v", signer, err)
			}
			if _, derr := Describe(tt.data); (derr != nil) != (err != nil) && tt.is != ErrPassphraseNeeded && tt.is != ErrPassphraseWrong {
				t.Errorf("Describe: %v, ParsePEM: %v", derr, err)
			}
		})
	}
}

// TestManyWrongPassphrases: a wrong key passes the padding once in 256 times,
// and must be called wrong then too.
func TestManyWrongPassphrases(t *testing.T) {
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(mustPEM(t, ec, passphrase(t)))
	e, err := parseEnvelope(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	e.kdf.iterations = 1
	for i := range 3000 {
		wrong, err := NewPassphrase([]byte(strings.Repeat("x", i%7+1) + string(rune('a'+i))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.open(wrong); !errors.Is(err, ErrPassphraseWrong) {
			t.Fatalf("passphrase %d: %v", i, err)
		}
	}
}
