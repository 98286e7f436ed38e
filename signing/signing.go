// Package signing signs artifacts with the keys of a PKI, and verifies them the
// way their consumers do.
//
// Whatever the artifact, the road is one: choose the signer, sign, verify the
// result with the verifier of the consumer, record it in the ledger, and only
// then put it in place. The formats stand in the packages below artifact.
package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/store"
)

// Session signs with one PKI.
type Session struct {
	PKI   *plan.PKI
	Actor string           // for the record
	Now   func() time.Time // the clock
}

// Open opens a PKI for signing and verifying.
func Open(ctx context.Context, dir, actor string, now func() time.Time) (*Session, error) {
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &Session{p, actor, now}, nil
}

// Signer is an entry of the plan with its key and certificates at hand.
type Signer struct {
	Entry *plan.Entry
	Key   crypto.Signer
	Chain []*ca.Certificate // the signer's, then its issuers; the root, if there, last

	embedded []*ca.Certificate
}

// Certificate returns the signer's own certificate.
func (s *Signer) Certificate() *ca.Certificate { return s.Chain[0] }

// Embedded returns the chain without its root, which whoever verifies has. While an
// authority changes its key, cross-certificates are in it, so that whoever trusts
// only the one or only the other anchor finds a path.
func (s *Signer) Embedded() []*ca.Certificate {
	if s.embedded != nil {
		return s.embedded
	}
	return s.plain()
}

// plain is Embedded without cross-certificates.
func (s *Signer) plain() []*ca.Certificate {
	if last := len(s.Chain) - 1; last > 0 && s.Chain[last].SelfIssued() {
		return s.Chain[:last]
	}
	return s.Chain
}

// Signer opens the signer named as, or if that is empty the plan's default for a
// kind of artifact; guestos is the name in a GuestOS config. A signer whose
// entry is not for that artifact, or whose certificate or one above it is not in
// date or is revoked, is refused.
func (s *Session) Signer(artifact, as, guestos string) (*Signer, error) {
	e, err := s.PKI.Plan.DefaultSigner(artifact, guestos)
	if as != "" {
		if e = s.PKI.Plan.Entry(as); e == nil {
			return nil, fmt.Errorf("%q is not an entry of the plan", as)
		}
		err = e.MaySign(artifact)
	}
	if err != nil {
		return nil, err
	}
	if err := s.PKI.CheckRevoked(e); err != nil {
		return nil, err
	}
	key, err := s.PKI.Signer(e)
	if err != nil {
		return nil, err
	}
	chain, err := s.PKI.Chain(e)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	for _, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return nil, fmt.Errorf("%s can't sign now: %s is valid from %s to %s", e.Name, c.Subject(),
				c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
		}
	}
	return &Signer{e, key, chain, s.PKI.Embedded(e, now)}, nil
}

// Signed is an artifact that was signed.
type Signed struct {
	Artifact string
	File     string
	SHA256   [sha256.Size]byte // of the content without its signature
	Size     int64             // of that content, in octets
}

// record puts one ledger entry for each artifact into the store. Nothing may be
// put in place before.
func (s *Session) record(ctx context.Context, signer *Signer, signed ...Signed) error {
	db, err := s.PKI.OpenStore(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	db.Now = s.Now
	var list []store.Signature
	for _, a := range signed {
		if !utf8.ValidString(a.File) {
			a.File = ca.Printable(a.File) // a file system takes any octets, the ledger text
		}
		list = append(list, store.Signature{
			Artifact: a.Artifact, File: a.File, SHA256: a.SHA256, Size: a.Size,
			Signer: signer.Entry.Name, Serial: signer.Certificate().SerialNumber.Bytes(), Actor: s.Actor,
		})
	}
	if err := db.RecordSignature(ctx, list...); err != nil {
		return fmt.Errorf("recording the signature: %w", err)
	}
	return nil
}

// Verdict says who signed an artifact, and whether its consumer takes it.
type Verdict struct {
	File   string
	Signer *ca.Certificate   // nil if unknown
	Chain  []*ca.Certificate // from the signer to the trust anchor, if it leads there
	Err    error             // why not; nil: accepted
}

// readLimited reads a whole file of at most limit octets.
func readLimited(path string, limit int64) ([]byte, error) {
	content, _, err := durable.ReadFile(path, limit)
	return content, err
}

// ReadTrust reads the certificates of PEM or DER files, and those that pkcs11:
// URIs mean.
func ReadTrust(files []string) ([]*ca.Certificate, error) {
	var out []*ca.Certificate
	for _, f := range files {
		if strings.HasPrefix(f, keys.SchemePKCS11+":") {
			certs, err := tokenCertificates(f)
			if err != nil {
				return nil, err
			}
			out = append(out, certs...)
			continue
		}
		data, err := readLimited(f, ca.MaxChain*ca.MaxCertificate)
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(data, []byte("-----BEGIN ")) {
			c, err := ca.ParseCertificate(data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			out = append(out, c)
			continue
		}
		certs, err := ca.ParsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		out = append(out, certs...)
	}
	return out, nil
}

func tokenCertificates(uri string) ([]*ca.Certificate, error) {
	u, err := keys.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	list, err := keys.CertificatesAt(u)
	if err != nil {
		return nil, err
	}
	var out []*ca.Certificate
	for _, der := range list {
		c, err := ca.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", uri, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// Anchors returns the certificates that the consumer of a kind of artifact should
// trust in this PKI. A "file" is verified by whoever wants to, with the roots.
func (s *Session) Anchors(artifact string) []*ca.Certificate {
	var anchors []plan.TrustAnchor
	switch artifact {
	case "efi":
		for _, a := range s.PKI.TrustAnchors(plan.ForEFI) {
			if a.Variable.Name == "db" {
				anchors = append(anchors, a)
			}
		}
	case "module":
		anchors = s.PKI.TrustAnchors(plan.ForKernel)
	case "ima":
		anchors = s.PKI.TrustAnchors(plan.ForIMA)
	case "guestos", "container":
		// The daemon asks all of its anchors for every config.
		anchors = append(s.PKI.TrustAnchors(plan.ForDevice), s.PKI.TrustAnchors(plan.ForGuestOS)...)
	default:
		return s.PKI.ConfigRoots(artifact)
	}
	var out []*ca.Certificate
	for _, a := range anchors {
		if !slices.ContainsFunc(out, a.Certificate.Equal) {
			out = append(out, a.Certificate)
		}
	}
	return out
}
