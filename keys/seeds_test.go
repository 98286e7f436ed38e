package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWriteSeeds makes testdata/fuzz anew, on demand only. The keys in it are
// made for it and used for nothing else.
func TestWriteSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	save := func(fuzzer, name, value string) {
		dir := filepath.Join("testdata", "fuzz", fuzzer)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("go test fuzz v1\n"+value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string]string{
		"aes":    "-iter 1 -nomaciter",
		"des":    "-descert -keypbe PBE-SHA1-3DES -macalg sha1 -iter 2 -nomaciter",
		"plain":  "-certpbe NONE -keypbe NONE -nomaciter",
		"nomac":  "-nomac -iter 1",
		"legacy": "-legacy -iter 1 -nomaciter",
	} {
		save("FuzzPKCS12", name, fmt.Sprintf("[]byte(%q)", opensslPKCS12(t, strings.Fields(args)...)))
	}
	for name, signer := range testKeys(t) {
		save("FuzzParsePEM", name, fmt.Sprintf("[]byte(%q)", mustPEM(t, signer, nil)))
	}
	ec := testKeys(t)["p256"]
	in, pass := write(t, "key", mustPEM(t, ec, nil)), "file:"+write(t, "pass", []byte(secret))
	save("FuzzParsePEM", "traditional", fmt.Sprintf("[]byte(%q)", openssl(t, "pkey", "-in", in, "-traditional")))
	for name, args := range map[string]string{
		"pbkdf2":   "-v2 aes-256-cbc -iter 1",
		"sha512":   "-v2 aes-128-cbc -v2prf hmacWithSHA512 -iter 2",
		"des3sha1": "-v2 des3 -v2prf hmacWithSHA1 -iter 1",
		"scrypt":   "-v2 aes-256-cbc -scrypt -scrypt_N 2 -scrypt_r 1 -scrypt_p 1",
	} {
		args := append([]string{"pkcs8", "-topk8", "-in", in, "-passout", pass}, strings.Fields(args)...)
		save("FuzzParsePEM", name, fmt.Sprintf("[]byte(%q)", openssl(t, args...)))
		save("FuzzParseEncrypted", name, fmt.Sprintf("[]byte(%q)", openssl(t, append(args, "-outform", "DER")...)))
	}
	for name, uri := range map[string]string{
		"file":   "file:keys/ssig_rootca.key",
		"escape": "file:/a%20b/%C3%BC",
		"token":  "pkcs11:token=root;object=ssig%20rootca;id=%01%FF;type=private?module-name=softhsm2",
		"source": "pkcs11:slot-id=3;library-version=2.40?module-path=/usr/lib/p11.so&pin-source=file:/run/pin",
		"pin":    "pkcs11:?pin-value=0000",
	} {
		save("FuzzParseURI", name, fmt.Sprintf("string(%q)", uri))
	}
}
