package keys

import (
	"bytes"
	"encoding/pem"
	"testing"

	"tmpki/spki"
)

// FuzzParsePEM: a key that is read can be written, and reads the same again.
func FuzzParsePEM(f *testing.F) {
	needSeeds(f)
	p := passphrase(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if IsEncrypted(data) && !cheap(data) {
			return
		}
		signer, err := ParsePEM(data, p)
		checkPrinted(t, err)
		if err != nil {
			return
		}
		again, err := MarshalPEM(signer, nil)
		if err != nil {
			t.Fatal(err)
		}
		same, err := ParsePEM(again, nil)
		if err != nil || !spki.Equal(same.Public(), signer.Public()) {
			t.Fatalf("written as\n%s, which comes back as %v", again, err)
		}
		if third := mustPEM(t, same, nil); !bytes.Equal(third, again) {
			t.Fatalf("written as\n%s, then as\n%s", again, third)
		}
		if d, err := Describe(data); err != nil || (d.Encryption == "") != (d.Type != spki.KeyType{}) {
			t.Fatalf("Describe = %+v, %v", d, err)
		}
	})
}

// FuzzParseEncrypted takes DER, so that the fuzzer needs no base64. Envelopes
// that would take long are within bounds, but not tried.
func FuzzParseEncrypted(f *testing.F) {
	needSeeds(f)
	p := passphrase(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		data := toPEM(labelEncrypted, der)
		if len(data) > MaxFileSize || !cheap(data) {
			return
		}
		signer, err := ParsePEM(data, p)
		checkPrinted(t, err)
		if err == nil {
			mustPEM(t, signer, nil)
		}
	})
}

// cheap reports whether data is an encrypted key that is tried in a moment.
func cheap(data []byte) bool {
	block, _ := pem.Decode(data)
	if block == nil {
		return true
	}
	e, err := parseEnvelope(block.Bytes)
	return err != nil || e.kdf.iterations <= 100 && e.kdf.n*e.kdf.r*e.kdf.p <= 1024
}

func checkPrinted(t *testing.T, err error) {
	t.Helper()
	if err != nil && bytes.Contains([]byte(err.Error()), []byte(secret)) {
		t.Fatal("the error shows the passphrase")
	}
}

// FuzzParseURI: what is read and written reads the same again.
func FuzzParseURI(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err != nil {
			if u != (URI{}) {
				t.Fatalf("%+v beside %v", u, err)
			}
			return
		}
		text := u.String()
		if again, err := ParseURI(text); err != nil || again != u || again.String() != text {
			t.Fatalf("%q is written as %q, which comes back as %+v, %v", s, text, again, err)
		}
	})
}
