package ca

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

func ocspProfile() *Profile {
	return must(NewProfile("ocsp", ProfileConfig{Validity: ptr("1000d"), KeyUsage: []string{"digitalSignature"}, ExtendedKeyUsage: []string{"OCSPSigning"},
		Extensions: []ExtensionConfig{{OID: "1.3.6.1.5.5.7.48.1.5", DER: "0500"}}}))
}

// ocspPKI is a CA with a responder, and two certificates.
type ocspPKI struct {
	issuer    *Issuer
	responder *Responder
	signer    *Certificate
	key       crypto.Signer
	good, bad *Certificate
}

func newOCSP(t testing.TB, kind string) ocspPKI {
	p := ocspPKI{issuer: authority(t, nil, rootProfile(), "Root", testKey(kind+"/ocsp root")), key: testKey(kind + "/ocsp responder")}
	leaf := func(name string, profile *Profile, key crypto.PublicKey) *Certificate {
		return issue(t, p.issuer, profile, Request{Name: name, Subject: testName(name), PublicKey: key, NotBefore: testFrom})
	}
	p.signer = leaf("OCSP", ocspProfile(), p.key.Public())
	long := must(NewProfile("long", ProfileConfig{Validity: ptr("1000d"), KeyUsage: []string{"digitalSignature"}}))
	p.good, p.bad = leaf("Good", long, testKey("p256/good").Public()), leaf("Bad", long, testKey("p256/bad").Public())
	var err error
	if p.responder, err = NewResponder(p.issuer.certificate, p.signer, p.key, defaultAlgorithm(t, p.key), crlNow); err != nil {
		t.Fatal(err)
	}
	return p
}

// answer does what a responder does with a request.
func (p ocspPKI) answer(t testing.TB, der []byte) []byte {
	t.Helper()
	r, err := ParseOCSPRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	var list []SingleResponse
	for _, id := range r.CertIDs {
		a := SingleResponse{CertID: id, ThisUpdate: crlNow, NextUpdate: crlNow.AddDate(0, 0, 7), Status: OCSPUnknown}
		if !p.responder.AnswersFor(id) {
			t.Errorf("%v: not our issuer", id)
		}
		switch {
		case bytes.Equal(id.Serial, p.good.SerialNumber.Bytes()):
			a.Status = OCSPGood
		case bytes.Equal(id.Serial, p.bad.SerialNumber.Bytes()):
			a.Status, a.RevokedAt, a.Reason = OCSPRevoked, crlNow.Add(-time.Hour), KeyCompromise
		}
		list = append(list, a)
	}
	out, err := p.responder.Sign(crlNow, r.Nonce, list...)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseOCSPResponse(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.CheckSignature(p.key.Public()); err != nil || len(again.Responses) != len(list) || !bytes.Equal(again.Nonce, r.Nonce) {
		t.Errorf("%v: %+v", err, again)
	}
	return out
}

// openssl asks and takes our answers; x/crypto/ocsp reads the same, as far as it
// can.
func TestOCSP(t *testing.T) {
	tooltest.Need(t, "openssl")
	for _, kind := range []string{"rsa", "pss", "pss256", "p256", "p384", "ed25519"} {
		p := newOCSP(t, kind)
		dir := t.TempDir()
		issuer, good, bad := pemFile(t, "CERTIFICATE", p.issuer.certificate.Raw), pemFile(t, "CERTIFICATE", p.good.Raw), pemFile(t, "CERTIFICATE", p.bad.Raw)
		request, response := filepath.Join(dir, "req"), filepath.Join(dir, "resp")
		for _, asks := range [][]string{
			{"-cert", good, "-cert", bad, "-serial", "0x123456"},
			{"-no_nonce", "-sha256", "-cert", bad},
			{"-sha384", "-cert", good},
		} {
			args := append([]string{"ocsp", "-issuer", issuer, "-reqout", request}, asks...)
			if asks[0] != "-cert" {
				args = append(append([]string{"ocsp", "-reqout", request}, asks[:len(asks)-2]...), append([]string{"-issuer", issuer}, asks[len(asks)-2:]...)...)
			}
			if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			der := must(os.ReadFile(request))
			if err := os.WriteFile(response, p.answer(t, der), 0o600); err != nil {
				t.Fatal(err)
			}
			args = []string{"ocsp", "-respin", response, "-CAfile", issuer, "-attime", fmt.Sprint(crlNow.Add(time.Hour).Unix()), "-validity_period", "1", "-reqin", request}
			out, err := exec.Command("openssl", append(args, "-resp_text")...).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("Response verify OK")) {
				// openssl ocsp looks at thisUpdate by the real clock; the signature counts.
				t.Errorf("%s: openssl ocsp %v: %v\n%s", kind, asks, err, out)
			}
			for want, has := range map[string]bool{"Cert Status: good": slices.Contains(asks, good), "Cert Status: revoked": slices.Contains(asks, bad), "Cert Status: unknown": slices.Contains(asks, "0x123456")} {
				if bytes.Contains(out, []byte(want)) != has {
					t.Errorf("%s: %v: %q is %v in\n%s", kind, asks, want, !has, out)
				}
			}
		}
		// The second opinion of a Go library, which knows no PSS keys.
		id := must(NewCertID(p.issuer.certificate, p.bad.SerialNumber.Bytes(), crypto.SHA1))
		ours := must(MarshalOCSPRequest(OCSPRequest{CertIDs: []CertID{id}}))
		if kind == "rsa" || kind == "p256" {
			theirs := must(ocsp.CreateRequest(p.bad.Certificate, p.issuer.certificate.Certificate, nil))
			if !bytes.Equal(ours, theirs) {
				t.Errorf("%s: request\n%x, x/crypto has\n%x", kind, ours, theirs)
			}
			r, err := ocsp.ParseResponseForCert(p.answer(t, ours), p.bad.Certificate, p.issuer.certificate.Certificate)
			if err != nil {
				t.Fatal(kind, err)
			}
			if r.Status != ocsp.Revoked || r.RevocationReason != ocsp.KeyCompromise || !r.RevokedAt.Equal(crlNow.Add(-time.Hour)) || !r.NextUpdate.Equal(crlNow.AddDate(0, 0, 7)) ||
				!r.Certificate.Equal(p.signer.Certificate) {
				t.Errorf("%s: x/crypto reads %+v", kind, r)
			}
		}
	}
}

func TestOCSPByTheIssuerItself(t *testing.T) {
	p := newOCSP(t, "p256")
	r, err := NewResponder(p.issuer.certificate, p.issuer.certificate, p.issuer.signer, p.issuer.algorithm, crlNow)
	if err != nil {
		t.Fatal(err)
	}
	id := must(NewCertID(p.issuer.certificate, p.good.SerialNumber.Bytes(), crypto.SHA1))
	der := must(r.Sign(crlNow, nil, SingleResponse{CertID: id, ThisUpdate: crlNow}))
	got, err := ocsp.ParseResponseForCert(der, p.good.Certificate, p.issuer.certificate.Certificate)
	if err != nil || got.Status != ocsp.Good || got.Certificate != nil || !got.NextUpdate.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNewResponderRefuses(t *testing.T) {
	p := newOCSP(t, "p256")
	other := newOCSP(t, "p384")
	a := defaultAlgorithm(t, p.key)
	rows := []struct {
		want         string
		issuer, cert *Certificate
		signer       crypto.Signer
		algorithm    spki.SignatureAlgorithm
		now          time.Time
	}{
		{"the key is not the one", p.issuer.certificate, p.signer, other.key, a, crlNow},
		{"does not fit", p.issuer.certificate, p.signer, p.key, spki.SignatureAlgorithm{Scheme: spki.EdDSA}, crlNow},
		{"is valid from", p.issuer.certificate, p.signer, p.key, a, testFrom.AddDate(10, 0, 0)},
		{"is not by", other.issuer.certificate, p.signer, p.key, a, crlNow},
		{"lacks OCSPSigning", p.issuer.certificate, p.good, testKey("p256/good"), a, crlNow},
	}
	for _, r := range rows {
		if _, err := NewResponder(r.issuer, r.cert, r.signer, r.algorithm, r.now); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%v, want %q", err, r.want)
		}
	}
}

func TestOCSPSignRefuses(t *testing.T) {
	p := newOCSP(t, "p256")
	good := SingleResponse{CertID: must(NewCertID(p.issuer.certificate, []byte{1}, crypto.SHA256)), ThisUpdate: crlNow, NextUpdate: crlNow.Add(time.Hour)}
	rows := []struct {
		want   string
		change func(*SingleResponse)
	}{
		{"without a CertID", func(a *SingleResponse) { a.CertID = CertID{} }},
		{"unknown status 3", func(a *SingleResponse) { a.Status = 3 }},
		{"revoked at", func(a *SingleResponse) { a.Status = OCSPRevoked }},
		{"reason 7", func(a *SingleResponse) { a.Status, a.RevokedAt, a.Reason = OCSPRevoked, crlNow, 7 }},
		{"removeFromCRL", func(a *SingleResponse) { a.Status, a.RevokedAt, a.Reason = OCSPRevoked, crlNow, RemoveFromCRL }},
		{"is not after this update", func(a *SingleResponse) { a.NextUpdate = crlNow }},
		{"after the end of the responder's certificate", func(a *SingleResponse) { a.NextUpdate = p.responder.Until().Add(time.Second) }},
	}
	for _, r := range rows {
		a := good
		r.change(&a)
		if _, err := p.responder.Sign(crlNow, nil, a); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("%v, want %q", err, r.want)
		}
	}
	if _, err := p.responder.Sign(crlNow, nil); err == nil {
		t.Error("an answer to nothing")
	}
	if _, err := p.responder.Sign(crlNow, make([]byte, 33), good); err == nil {
		t.Error("a nonce of 33 octets")
	}
	p.responder.signer = faultySigner{p.key, testKey("p256/good").Sign}
	if _, err := p.responder.Sign(crlNow, nil, good); !errors.Is(err, spki.ErrSignature) {
		t.Errorf("a bad signature: %v", err)
	}
}

func TestOCSPErrors(t *testing.T) {
	for e, text := range map[OCSPError]string{OCSPMalformedRequest: "malformedRequest", OCSPInternalError: "internalError", OCSPTryLater: "tryLater", OCSPUnauthorized: "unauthorized", 99: "status 99"} {
		r, err := ParseOCSPResponse(e.Marshal())
		if err != nil || r.Status != e || e.Error() != text || !errors.Is(r.CheckSignature(nil), e) {
			t.Errorf("%v: %+v, %v", e, r, err)
		}
		if _, err := ocsp.ParseResponse(e.Marshal(), nil); e != 99 && (err == nil || !strings.Contains(err.Error(), "error from server")) {
			t.Errorf("%v: x/crypto: %v", e, err)
		}
	}
}

// Requests and responses of which each breaks one rule.
func TestParseOCSPRefuses(t *testing.T) {
	p := newOCSP(t, "p256")
	id := must(NewCertID(p.issuer.certificate, []byte{5}, crypto.SHA1))
	hash := bytes.Repeat([]byte{1}, 20)
	sha1ID := seq(oidDER(1, 3, 14, 3, 2, 26), []byte{5, 0})
	certID := func(algorithm, name, key, serial []byte) []byte {
		return seq(algorithm, octets(name), octets(key), serial)
	}
	five := element(cbasn1.INTEGER, []byte{5})
	request := func(list []byte, more ...[]byte) []byte { return seq(seq(append([][]byte{list}, more...)...)) }
	one := seq(seq(id.der))
	nonce := func(n int) []byte {
		return explicit(2, seq(seq(oidDER(1, 3, 6, 1, 5, 5, 7, 48, 1, 2), octets(octets(make([]byte, n))))))
	}
	critical := seq(seq(oidDER(1, 2, 3), element(cbasn1.BOOLEAN, []byte{0xff}), octets(nil)))
	if _, err := ParseOCSPRequest(request(one, nonce(32))); err != nil {
		t.Fatal(err)
	}
	if r, err := ParseOCSPRequest(request(seq(seq(certID(seq(oidDER(1, 2, 3)), hash, nil, five))))); err != nil || p.responder.AnswersFor(r.CertIDs[0]) {
		t.Errorf("an unknown hash: %v", err)
	}
	if r, err := ParseOCSPRequest(request(seq(seq(certID(sha1ID, hash, hash, element(cbasn1.INTEGER, []byte{0x80})))))); err != nil || r.CertIDs[0].Serial != nil {
		t.Errorf("a negative serial: %v", err)
	}
	for i, r := range []struct {
		want string
		der  []byte
	}{
		{"malformed", nil},
		{"malformed", append(request(one), 0)},
		{"malformed", seq(seq(one), seq())},
		{"malformed", seq(seq(one), explicit(0, octets(nil)))},
		{"not of version 1", seq(seq(explicit(0, element(cbasn1.INTEGER, []byte{1})), one))},
		{"malformed", request(seq())},
		{"malformed", request(one, octets(nil))},
		{"nonce of 0 octets", request(one, nonce(0))},
		{"nonce of 33 octets", request(one, nonce(33))},
		{"malformed nonce", request(one, explicit(2, seq(seq(oidDER(1, 3, 6, 1, 5, 5, 7, 48, 1, 2), octets([]byte{1})))))},
		{"critical extension 1.2.3", request(one, explicit(2, critical))},
		{"critical extension 1.2.3", request(seq(seq(id.der, explicit(0, critical))))},
		{"malformed CertID", request(seq(seq(seq())))},
		{"malformed", request(seq(seq(id.der, octets(nil))))},
		{"are not SHA-1", request(seq(seq(certID(sha1ID, hash[:19], hash, five))))},
		{"malformed CertID", request(seq(seq(certID(sha1ID, hash, hash, element(cbasn1.INTEGER)))))},
		{"malformed CertID", request(seq(seq(certID(sha1ID, hash, hash, element(cbasn1.INTEGER, make([]byte, 65))))))},
		{"malformed CertID", request(seq(seq(certID(seq(oidDER(1, 3, 14, 3, 2, 26), five), hash, hash, five))))},
		{"more than 256", request(seq(bytes.Repeat(seq(id.der), 257)))},
		{"larger than", make([]byte, MaxOCSPRequest+1)},
	} {
		if _, err := ParseOCSPRequest(r.der); err == nil || !strings.Contains(err.Error(), r.want) {
			t.Errorf("request %d: %v, want %q", i, err, r.want)
		}
	}
	response := must(p.responder.Sign(crlNow, []byte{1}, SingleResponse{CertID: id, ThisUpdate: crlNow, NextUpdate: crlNow.Add(time.Hour)}))
	for n := range response {
		if _, err := ParseOCSPResponse(response[:n]); err == nil {
			t.Errorf("a response cut off after %d octets: taken", n)
		}
	}
	for i := range response {
		bent := bytes.Clone(response)
		bent[i] ^= 0x40
		if r, err := ParseOCSPResponse(bent); err == nil && r.Status == 0 && bytes.Equal(r.Signature, must(ParseOCSPResponse(response)).Signature) &&
			!bytes.Equal(r.RawTBS, must(ParseOCSPResponse(response)).RawTBS) && r.CheckSignature(p.key.Public()) == nil {
			t.Errorf("octet %d changed: verifies", i)
		}
	}
	for i, r := range [][]byte{append(bytes.Clone(response), 0), {0x30, 3, 0x0a, 1, 0}, make([]byte, MaxOCSPResponse+1)} {
		if _, err := ParseOCSPResponse(r); err == nil {
			t.Errorf("response %d: taken", i)
		}
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	p := newOCSP(f, "p256")
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		id := must(NewCertID(p.issuer.certificate, []byte{0x80, 1}, hash))
		f.Add(must(MarshalOCSPRequest(OCSPRequest{CertIDs: []CertID{id}, Nonce: []byte("0123456789")})))
		f.Add(must(MarshalOCSPRequest(OCSPRequest{CertIDs: []CertID{id, id}})))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseOCSPRequest(der)
		if err != nil {
			checkText(t, err.Error())
			return
		}
		again, err := MarshalOCSPRequest(*r)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseOCSPRequest(again)
		if err != nil || len(s.CertIDs) != len(r.CertIDs) || !bytes.Equal(s.Nonce, r.Nonce) {
			t.Fatalf("%x, then %x: %v", der, again, err)
		}
		for i := range r.CertIDs {
			if !bytes.Equal(r.CertIDs[i].der, s.CertIDs[i].der) {
				t.Fatal("another CertID")
			}
			p.responder.AnswersFor(r.CertIDs[i])
		}
	})
}

func FuzzParseOCSPResponse(f *testing.F) {
	p := newOCSP(f, "p256")
	id := must(NewCertID(p.issuer.certificate, []byte{7}, crypto.SHA1))
	f.Add(OCSPTryLater.Marshal())
	f.Add(must(p.responder.Sign(crlNow, []byte{1}, SingleResponse{CertID: id, ThisUpdate: crlNow, NextUpdate: crlNow.Add(time.Hour)},
		SingleResponse{CertID: id, ThisUpdate: crlNow, Status: OCSPRevoked, RevokedAt: crlNow, Reason: 1})))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseOCSPResponse(der)
		if err != nil {
			checkText(t, err.Error())
			return
		}
		if r.Status == 0 && (len(r.Responses) == 0 || !bytes.Contains(der, r.RawTBS)) {
			t.Fatal("a response without answers")
		}
		_ = r.CheckSignature(p.key.Public())
	})
}

// BenchmarkOCSP signs one response after the other, beside what the signature
// alone takes.
func BenchmarkOCSP(b *testing.B) {
	p := newOCSP(b, "p256")
	id := must(NewCertID(p.issuer.certificate, []byte{7}, crypto.SHA1))
	b.Run("response", func(b *testing.B) {
		for b.Loop() {
			must(p.responder.Sign(crlNow, nil, SingleResponse{CertID: id, ThisUpdate: crlNow, NextUpdate: crlNow.Add(time.Hour)}))
		}
	})
	b.Run("signature", func(b *testing.B) {
		message := make([]byte, 200)
		for b.Loop() {
			must(p.responder.algorithm.Sign(p.key, message))
		}
	})
}
