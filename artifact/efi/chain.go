package efi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"tmpki/spki"
)

// checkKey tells, as an error, why firmware can't use a certificate's key for
// images: EDK II reads rsaEncryption keys only. Many boards take no more than
// 2048 bits, which is for the platform to say.
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
// issuer of a certificate. It asks for no dates and no extended key usage.
func checkIssued(certificate, issuer *x509.Certificate) error {
	if !bytes.Equal(certificate.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("the certificate of %q is issued by %q, not by %q", certificate.Subject, certificate.Issuer, issuer.Subject)
	}
	if a, s := certificate.AuthorityKeyId, issuer.SubjectKeyId; len(a) > 0 && len(s) > 0 && !bytes.Equal(a, s) {
		return fmt.Errorf("the certificate of %q is issued by %q with key identifier %x, not %x", certificate.Subject, issuer.Subject, a, s)
	}
	var hash crypto.Hash
	switch certificate.SignatureAlgorithm {
	case x509.SHA256WithRSA:
		hash = crypto.SHA256
	case x509.SHA384WithRSA:
		hash = crypto.SHA384
	case x509.SHA512WithRSA:
		hash = crypto.SHA512
	default:
		return fmt.Errorf("the certificate of %q is signed with %v: firmware takes RSA PKCS#1 v1.5 with SHA-2 only", certificate.Subject, certificate.SignatureAlgorithm)
	}
	pub, err := spki.ParsePublicKey(issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("the certificate of %q: %w", issuer.Subject, err)
	}
	if err := firmwareAlgorithm(hash).Verify(pub, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return fmt.Errorf("the certificate of %q is not issued with the key of %q: %w", certificate.Subject, issuer.Subject, err)
	}
	return nil
}

// findChain returns a chain from a certificate over certificates of a pool to an
// anchor, both included, or nil. The certificate may itself be an anchor.
// It looks at no certificate twice, and so ends.
func findChain(from *x509.Certificate, pool, anchors []*x509.Certificate) []*x509.Certificate {
	type node struct {
		certificate *x509.Certificate
		below       *node
	}
	seen := []*x509.Certificate{from}
	for queue := []*node{{certificate: from}}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		isIssuer := func(c *x509.Certificate) bool { return checkIssued(n.certificate, c) == nil }
		top := n
		if !slices.ContainsFunc(anchors, n.certificate.Equal) {
			i := slices.IndexFunc(anchors, isIssuer)
			if i < 0 {
				for _, c := range pool {
					if !slices.ContainsFunc(seen, c.Equal) && isIssuer(c) {
						seen = append(seen, c)
						queue = append(queue, &node{certificate: c, below: n})
					}
				}
				continue
			}
			top = &node{certificate: anchors[i], below: n}
		}
		var chain []*x509.Certificate
		for ; top != nil; top = top.below {
			chain = append(chain, top.certificate)
		}
		slices.Reverse(chain)
		return chain
	}
	return nil
}
