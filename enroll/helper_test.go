package enroll

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/store"
)

// testPlan is a customer PKI with two product lines. KEY is the type of the keys.
const testPlan = `version: 1
plan: test
subject: {country: DE, organization: Test}
targets:
  uefi: {signers: ["rsa:2048"], authorities: ["rsa:2048"]}
  kernel: {signers: ["rsa:2048"], authorities: ["rsa:2048"]}
  cmld: {signers: ["rsa:2048"], authorities: ["rsa:2048", "ec:P-256"]}
keys: {place: "file:{name}.key"}
hierarchies: {customer: {}}
profiles:
  root: {ca: true, path_length: 1, validity: 3650d, key_usage: [keyCertSign, cRLSign]}
  subca: {ca: true, path_length: 0, validity: 2190d, key_usage: [keyCertSign, cRLSign]}
  device:
    issuer: device_subca
    validity: 1095d
    key_usage: [digitalSignature]
    extended_key_usage: [clientAuth]
    request: {subject: [common_name, serial_number], uuid: required, extensions: drop}
  sensor:
    issuer: sensor_subca
    validity: 365d
    key_usage: [digitalSignature]
    extended_key_usage: [clientAuth]
    subject: {organizational_unit: Sensors}
    request: {subject: [common_name], uuid: optional, extensions: refuse}
  closed: {issuer: device_subca, validity: 100d, key_usage: [digitalSignature]}
authorities:
  gen_rootca: {hierarchy: customer, profile: root, key: "ec:P-256", subject: {common_name: General Root CA}}
  device_subca: {issuer: gen_rootca, profile: subca, key: "KEY", subject: {common_name: Device Sub CA}}
  sensor_subca: {issuer: gen_rootca, profile: subca, key: "ec:P-256", subject: {common_name: Sensor Sub CA}}
publish:
  gen_rootca.cert: {of: gen_rootca, as: certificate}
  device_subca.cert: {of: device_subca, as: chain}
`

var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// newPKI makes the PKI of testPlan.
func newPKI(t testing.TB, keyType string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, plan.FileName), []byte(strings.ReplaceAll(testPlan, "KEY", keyType)), 0o600))
	_, err := plan.Apply(t.Context(), dir, plan.Options{Actor: "test", Now: func() time.Time { return testNow.AddDate(0, -1, 0) }})
	must(t, err)
	return dir
}

// open opens a profile of the PKI at testNow.
func open(t testing.TB, dir, profile string, change ...func(*Options)) *Registrar {
	t.Helper()
	p, err := plan.Open(t.Context(), dir)
	must(t, err)
	o := Options{Actor: "test", Now: func() time.Time { return testNow }}
	for _, c := range change {
		c(&o)
	}
	r, err := Open(t.Context(), p, profile, o)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// testUUID is the UUID of device n.
func testUUID(n int) string { return fmt.Sprintf("701b8942-B485-48f3-b7a1-%012x", n) }

// csr makes a request, PEM.
func csr(t testing.TB, key crypto.Signer, uuid, cn string) []byte {
	t.Helper()
	template := x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}
	if uuid != "" {
		uri := "UUID:" + uuid
		san, err := asn1.Marshal([]asn1.RawValue{{Class: 2, Tag: 6, Bytes: []byte(uri)}})
		must(t, err)
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// device makes the request of device n, with a key of its own.
func device(t testing.TB, n int) []byte {
	return csr(t, newKey(t), testUUID(n), fmt.Sprintf("Product\n SN%d\n", n))
}

// signed is Sign that must succeed.
func signed(t testing.TB, r *Registrar, request []byte) Result {
	t.Helper()
	result, err := r.Sign(t.Context(), request)
	must(t, err)
	if result.Certificate == nil {
		t.Fatal("no certificate")
	}
	return result
}

// refused is Sign that must be refused with a reason.
func refused(t testing.TB, r *Registrar, request []byte, want string) {
	t.Helper()
	result, err := r.Sign(t.Context(), request)
	if result.Err == nil || err == nil || !strings.Contains(result.Err.Error(), want) || result.Certificate != nil {
		t.Errorf("refused with %v, want %s", result.Err, want)
	}
}

// all collects the results of a batch.
func all(t testing.TB, r *Registrar, requests ...[]byte) ([]Result, Totals) {
	t.Helper()
	var results []Result
	totals, err := r.SignAll(t.Context(), func(yield func(Request) bool) {
		for n, data := range requests {
			if !yield(Request{Source: fmt.Sprint(n), Data: data}) {
				return
			}
		}
	}, func(one Result) error {
		if one.Index != len(results) || one.Source != fmt.Sprint(one.Index) {
			t.Errorf("result %d is of request %d, %s", len(results), one.Index, one.Source)
		}
		results = append(results, one)
		return nil
	})
	must(t, err)
	if len(results) != len(requests) || totals.Issued+totals.Known+totals.Rejected != len(requests) {
		t.Errorf("%d results of %d requests, %+v", len(results), len(requests), totals)
	}
	return results, totals
}

// checkStore verifies the ledger, and that no device and no key has two
// certificates that are good.
func checkStore(t testing.TB, dir string) map[string]*ca.Certificate {
	t.Helper()
	ctx := context.Background()
	db, err := plan.ReadStore(ctx, dir)
	must(t, err)
	defer db.Close()
	must(t, db.Verify(ctx))
	byName, byKey := map[string]*ca.Certificate{}, map[string]string{}
	for record, err := range db.Certificates(ctx) {
		must(t, err)
		if record.State != store.Issued || !strings.Contains(record.Name, "/") {
			continue
		}
		c, err := ca.ParseCertificate(record.DER)
		must(t, err)
		if byName[record.Name] != nil {
			t.Errorf("%s has two certificates", record.Name)
		}
		if other := byKey[string(c.SubjectKeyId)]; other != "" {
			t.Errorf("%s and %s have one key", record.Name, other)
		}
		byName[record.Name], byKey[string(c.SubjectKeyId)] = c, record.Name
	}
	return byName
}
