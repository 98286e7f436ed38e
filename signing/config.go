package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/ca"
	"tmpki/cms"
	"tmpki/internal/durable"
)

// ConfigOptions say how configs are signed.
type ConfigOptions struct {
	Artifact string // "guestos" or "container"
	As       string // "" for the plan's default
	CMS      bool   // NAME.p7s in place of NAME.sig and NAME.cert
}

// maxCertFile bounds NAME.cert, and maxCMS NAME.p7s, in octets.
const (
	maxCertFile = 1 << 20
	maxCMS      = cms.MaxSize
)

// configName parses a config strictly and returns the name in it: a config that
// the platform's daemon would refuse, or read differently, is not signed.
func configName(artifact string, text []byte) (string, error) {
	switch artifact {
	case "guestos":
		c, _, err := guestos.ParseGuestOS(text)
		return c.GetName(), err
	case "container":
		c, _, err := guestos.ParseContainer(text)
		return c.GetName(), err
	default:
		return "", fmt.Errorf("unknown kind of config %q", artifact)
	}
}

// SignConfig signs a GuestOS or container config, verifies the result as the
// platform's daemon does, records it, and writes NAME.sig and NAME.cert, or
// NAME.p7s, beside NAME.conf.
func (s *Session) SignConfig(ctx context.Context, path string, o ConfigOptions) (*Signer, error) {
	base, ok := strings.CutSuffix(path, ".conf")
	if !ok || filepath.Base(base) == "" {
		return nil, fmt.Errorf("%s: a config is named NAME.conf", path)
	}
	text, err := readLimited(path, guestos.MaxSize)
	if err != nil {
		return nil, err
	}
	name, err := configName(o.Artifact, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, err := s.Signer(o.Artifact, o.As, name)
	if err != nil {
		return nil, err
	}
	own := Verifier{Trust: signer.Chain[len(signer.Chain)-1:], Time: s.Now()}
	files, err := configFiles(text, signer, o.CMS, s.Now(), own.chain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, f := range files {
		if err := s.PKI.CheckReserved(base + f.extension); err != nil {
			return nil, err
		}
	}
	if err := s.record(ctx, signer, Signed{o.Artifact, filepath.Base(path), sha256.Sum256(text), int64(len(text))}); err != nil {
		return nil, err
	}
	return signer, files.write(base)
}

// signedFiles are the files beside a config, in the order of writing: the
// signature comes last, with it the set is complete.
type signedFiles []struct {
	extension string
	content   []byte
}

func (f signedFiles) write(base string) error {
	for _, s := range f {
		if err := durable.WriteFile(base+s.extension, s.content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// chainCheck validates the chain of a leaf with the help of other certificates.
type chainCheck func(leaf *ca.Certificate, helpers []*ca.Certificate) ([]*ca.Certificate, error)

// configFiles signs a config and verifies what it made.
func configFiles(text []byte, signer *Signer, asCMS bool, now time.Time, check chainCheck) (signedFiles, error) {
	if asCMS {
		p7s, err := signCMS(text, signer, now)
		if err != nil {
			return nil, err
		}
		if _, _, err := verifyCMS(text, p7s, check); err != nil {
			return nil, fmt.Errorf("the signature as made: %w", err)
		}
		return signedFiles{{".p7s", p7s}}, nil
	}
	certs := ca.MarshalPEM(signer.Embedded()...)
	sig, err := guestos.SignText(text, signer.Key)
	if err != nil {
		return nil, err
	}
	if _, _, err := verifyConfig(text, sig, certs, check); err != nil {
		return nil, fmt.Errorf("the signature as made: %w", err)
	}
	return signedFiles{{".cert", certs}, {".sig", sig}}, nil
}

// VerifyConfig verifies NAME.conf with NAME.sig and NAME.cert, or NAME.p7s, as
// the platform's daemon does. trust are its anchors.
func (s *Verifier) VerifyConfig(artifact, path string, p7s bool) Verdict {
	v := Verdict{File: path}
	base, ok := strings.CutSuffix(path, ".conf")
	if !ok {
		v.Err = fmt.Errorf("%s: a config is named NAME.conf", path)
		return v
	}
	text, err := readLimited(path, guestos.MaxSize)
	if err != nil {
		v.Err = err
		return v
	}
	if p7s {
		signature, err := readLimited(base+".p7s", maxCMS)
		if err != nil {
			v.Err = err
			return v
		}
		v.Signer, v.Chain, v.Err = verifyCMS(text, signature, s.chain)
	} else {
		sig, err := readLimited(base+".sig", guestos.MaxSignature)
		if err != nil {
			v.Err = err
			return v
		}
		certs, err := readLimited(base+".cert", maxCertFile)
		if err != nil {
			v.Err = err
			return v
		}
		v.Signer, v.Chain, v.Err = verifyConfig(text, sig, certs, s.chain)
	}
	if v.Err == nil {
		// The daemon parses what it has verified.
		_, v.Err = configName(artifact, text)
	}
	return v
}

// verifyConfig: the first certificate gives the key, the rest helps to build the
// chain, in any order.
func verifyConfig(text, sig, certFile []byte, check chainCheck) (*ca.Certificate, []*ca.Certificate, error) {
	certs, err := ca.ParsePEM(certFile)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate file: %w", err)
	}
	leaf := certs[0]
	if err := guestos.VerifyText(text, sig, leaf.Key); err != nil {
		return leaf, nil, err
	}
	chain, err := check(leaf, certs[1:])
	return leaf, chain, err
}

// signCMS makes a detached CMS signature over the octets as they are, with the
// scheme and hash that the platform's consumers take from such a key.
func signCMS(content []byte, signer *Signer, now time.Time) ([]byte, error) {
	algorithm, err := guestos.SignatureAlgorithm(signer.Key.Public())
	if err != nil {
		return nil, err
	}
	var embedded [][]byte
	for _, c := range signer.Embedded() {
		embedded = append(embedded, c.Raw)
	}
	return cms.Sign(cms.Signer{Key: signer.Key, Certificate: signer.Certificate().Raw, Algorithm: algorithm},
		content, cms.Options{SigningTime: now, Certificates: embedded})
}

// verifyCMS checks a detached signature with one signer, and the signer's chain.
func verifyCMS(content, der []byte, check chainCheck) (*ca.Certificate, []*ca.Certificate, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, nil, err
	}
	if len(sd.Signers) != 1 || sd.Content != nil {
		return nil, nil, fmt.Errorf("CMS: wants one detached signature, has %d signers", len(sd.Signers))
	}
	raw, err := sd.Certificate(&sd.Signers[0])
	if err != nil {
		return nil, nil, err
	}
	leaf, err := ca.ParseCertificate(raw)
	if err != nil {
		return nil, nil, err
	}
	// Without signed attributes a signature over other attributes' octets could
	// pass for one over a content that looks like them.
	if sd.Signers[0].SignedAttributes == nil {
		return leaf, nil, errors.New("CMS: the signature has no signed attributes")
	}
	if err := sd.Verify(&sd.Signers[0], leaf.Key, content); err != nil {
		return leaf, nil, err
	}
	var helpers []*ca.Certificate
	for _, raw := range sd.Certificates {
		if c, err := ca.ParseCertificate(raw); err == nil && !bytes.Equal(raw, leaf.Raw) {
			helpers = append(helpers, c)
		}
	}
	chain, err := check(leaf, helpers)
	return leaf, chain, err
}
