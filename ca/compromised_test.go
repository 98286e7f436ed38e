package ca

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

func TestCompromisedKeys(t *testing.T) {
	weak, other := testKey("rsa/weak").Public(), testKey("rsa/good0").Public()
	// The fingerprint as the tool openssl-vulnkey made it: of what openssl prints.
	file := filepath.Join(t.TempDir(), "weak.pem")
	if err := os.WriteFile(file, []byte("-----BEGIN PUBLIC KEY-----\n"+wrapBase64(must(spki.MarshalPublicKey(weak)))+"-----END PUBLIC KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	printed := tooltest.Run(t, "openssl", "rsa", "-pubin", "-in", file, "-noout", "-modulus")
	debian := fmt.Sprintf("%x", sha1.Sum(printed))[20:]
	point := must(spki.MarshalPublicKey(testKey("p256/weak").Public()))

	var keys CompromisedKeys
	if err := keys.Add(strings.NewReader("# Fingerprints\n\nffffffffffffffffffff\n" + debian + "\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := keys.Add(strings.NewReader(fmt.Sprintf("00000000000000000000\n%x", sha256.Sum256(point)))); err != nil {
		t.Fatal(err)
	}
	if keys.Len() != 4 || !keys.Contains(weak) || keys.Contains(other) || !keys.Contains(testKey("p256/weak").Public()) || keys.Contains(testKey("p256/other").Public()) {
		t.Errorf("%d keys", keys.Len())
	}
	// The same modulus as a key of another type is the same private key.
	if !keys.Contains(&spki.PSSPublicKey{Key: weak.(*rsa.PublicKey)}) {
		t.Error("an id-RSASSA-PSS key was not found")
	}
	if (*CompromisedKeys)(nil).Contains(weak) || (&CompromisedKeys{}).Contains(weak) {
		t.Error("an empty list has keys")
	}
	for _, bad := range []string{"ffff", debian + "0", debian + " # of Debian", "zzzzzzzzzzzzzzzzzzzz", strings.Repeat("a", 70_000)} {
		if err := (&CompromisedKeys{}).Add(strings.NewReader("#\n" + bad)); err == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
}

func wrapBase64(der []byte) string {
	text := string(bytes.SplitN(pemOf(der), []byte("\n"), 2)[1])
	return strings.TrimSuffix(text, "-----END CERTIFICATE-----\n")
}
