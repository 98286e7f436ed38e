package efi

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tmpki/spki"
)

// checkKey tells, as an error, why firmware can't use a certificate's key for
// images: EDK II verifies them with rsaEncryption keys only. Many boards take no
// more than 2048 bits, which is for the platform to say.
func checkKey(certificate *x509.Certificate) error {
	pub, err := spki.ParsePublicKey(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	t, err := spki.KeyTypeOf(pub)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", certificate.Subject, err)
	}
	if t.Kind != spki.RSA || (t.Bits != 2048 && t.Bits != 3072 && t.Bits != 4096) {
		return fmt.Errorf("the certificate of %q has a key of type %v: firmware takes rsa:2048, rsa:3072 and rsa:4096 with PKCS#1 v1.5 only", certificate.Subject, t)
	}
	return nil
}

// checkIssued tells, as an error, why firmware would not take issuer as the
// issuer of a certificate that has so many CA certificates below it. EDK II asks
// OpenSSL, which wants of an issuer, even of one in db, what RFC 5280 does. It
// asks neither for dates nor for extended key usage.
func checkIssued(certificate, issuer *x509.Certificate, below int) error {
	if !bytes.Equal(certificate.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("the certificate of %q is issued by %q, not by %q", certificate.Subject, certificate.Issuer, issuer.Subject)
	}
	if a, s := certificate.AuthorityKeyId, issuer.SubjectKeyId; len(a) > 0 && len(s) > 0 && !bytes.Equal(a, s) {
		return fmt.Errorf("the certificate of %q is issued by %q with key identifier %x, not %x", certificate.Subject, issuer.Subject, a, s)
	}
	switch {
	case !issuer.BasicConstraintsValid || !issuer.IsCA:
		return fmt.Errorf("the certificate of %q is not one of a CA, and can't have issued that of %q", issuer.Subject, certificate.Subject)
	case issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("the certificate of %q has a key usage without keyCertSign, and can't have issued that of %q", issuer.Subject, certificate.Subject)
	case issuer.MaxPathLen >= 0 && below > issuer.MaxPathLen:
		return fmt.Errorf("the certificate of %q allows %d CA certificates below it, not %d", issuer.Subject, issuer.MaxPathLen, below)
	}
	if err := checkCritical(issuer); err != nil {
		return err
	}
	algorithm, err := certificateAlgorithm(certificate)
	if err != nil {
		return err
	}
	pub, err := spki.ParsePublicKey(issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", issuer.Subject, err)
	}
	if err := algorithm.Verify(pub, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return fmt.Errorf("the certificate of %q is not issued with the key of %q: %w", certificate.Subject, issuer.Subject, err)
	}
	return nil
}

// checkCritical refuses certificates with extensions that nobody may overlook.
func checkCritical(c *x509.Certificate) error {
	if len(c.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("the certificate of %q has the unknown critical extension %v", c.Subject, c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// certificateAlgorithm returns how a certificate is signed. Unlike images,
// certificates may be signed with PSS, and issuers have id-RSASSA-PSS keys. It
// reads the identifier itself: crypto/x509 knows PSS with some salts only.
func certificateAlgorithm(c *x509.Certificate) (spki.SignatureAlgorithm, error) {
	input := cryptobyte.String(c.Raw)
	var body, identifier cryptobyte.String
	if !input.ReadASN1(&body, cbasn1.SEQUENCE) || !body.SkipASN1(cbasn1.SEQUENCE) || !body.ReadASN1Element(&identifier, cbasn1.SEQUENCE) {
		return spki.SignatureAlgorithm{}, fmt.Errorf("the certificate of %q is malformed", c.Subject)
	}
	algorithm, err := spki.ParseSignatureAlgorithm(identifier)
	if err != nil {
		return algorithm, fmt.Errorf("the certificate of %q: %w", c.Subject, err)
	}
	if algorithm.Scheme != spki.PKCS1v15 && algorithm.Scheme != spki.PSS {
		return algorithm, fmt.Errorf("the certificate of %q is signed with %v: firmware takes RSA only", c.Subject, algorithm)
	}
	return algorithm, nil
}

// findChain returns a chain from a certificate over certificates of a pool to an
// anchor, both included. The certificate may itself be an anchor. If there is no
// chain, the error tells what stood in the way. No certificate is looked at
// twice, and so it ends.
func findChain(from *x509.Certificate, pool, anchors []*x509.Certificate) ([]*x509.Certificate, error) {
	if err := checkCritical(from); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(anchors, from.Equal) {
		return []*x509.Certificate{from}, nil
	}
	seen := []*x509.Certificate{from}
	obstacles := []error{fmt.Errorf("the certificate of %q, issued by %q, leads to none in the database", from.Subject, from.Issuer)}
	for queue := [][]*x509.Certificate{{from}}; len(queue) > 0; queue = queue[1:] {
		chain := queue[0]
		top := chain[len(chain)-1]
		for _, issuer := range slices.Concat(anchors, pool) {
			if !bytes.Equal(top.RawIssuer, issuer.RawSubject) || slices.ContainsFunc(seen, issuer.Equal) {
				continue
			}
			if err := checkIssued(top, issuer, len(chain)-1); err != nil {
				obstacles = append(obstacles, err)
				continue
			}
			longer := append(slices.Clip(chain), issuer)
			if slices.ContainsFunc(anchors, issuer.Equal) {
				return longer, nil
			}
			seen = append(seen, issuer)
			queue = append(queue, longer)
		}
	}
	return nil, errors.Join(obstacles...)
}
