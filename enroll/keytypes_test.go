package enroll

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"tmpki/internal/tooltest"
)

// Requests that OpenSSL made for keys of each type, below authorities of each
// type: OpenSSL verifies the certificates up to the root.
func TestKeyTypes(t *testing.T) {
	tooltest.Need(t, "openssl")
	work := t.TempDir()
	requests := map[string][]byte{}
	for n, options := range [][]string{
		{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"},
		{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
		{"-algorithm", "ED25519"},
	} {
		key, file := filepath.Join(work, "key.pem"), filepath.Join(work, "request.csr")
		tooltest.Run(t, "openssl", append([]string{"genpkey", "-out", key}, options...)...)
		args := []string{"req", "-new", "-key", key, "-out", file, "-subj", "/CN=Device/serialNumber=7", "-addext", "subjectAltName=URI:UUID:" + testUUID(n), "-addext", "keyUsage=digitalSignature,keyEncipherment"}
		if options[1] == "RSA" {
			args = append(args, "-sigopt", "rsa_padding_mode:pss") // and PKCS#1 v1.5 in other tests
		}
		tooltest.Run(t, "openssl", args...)
		data, err := os.ReadFile(file)
		must(t, err)
		requests[fmt.Sprint(options[1], n)] = data
	}
	for _, authority := range []string{"ec:P-256", "ec:P-384", "rsa:2048", "rsa-pss:2048", "ed25519"} {
		dir := newPKI(t, authority)
		r := open(t, dir, "device")
		for name, request := range requests {
			one, err := r.Sign(t.Context(), request)
			if err != nil {
				t.Errorf("%s below %s: %v", name, authority, err)
				continue
			}
			text, err := r.PEM(one.Certificate, WithIssuers)
			must(t, err)
			cert := filepath.Join(work, "device.cert")
			must(t, os.WriteFile(cert, text, 0o600))
			tooltest.Run(t, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", fmt.Sprint(testNow.Unix()),
				"-CAfile", filepath.Join(dir, "gen_rootca.cert"), "-untrusted", cert, cert)
		}
		if n := len(checkStore(t, dir)); n != len(requests) {
			t.Errorf("%d certificates below %s", n, authority)
		}
	}
}
