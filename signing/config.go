package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/ca"
	"tmpki/cms"
	"tmpki/internal/durable"
	"tmpki/internal/tree"
	"tmpki/plan"
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
	base, err := configBase(path)
	if err != nil {
		return nil, err
	}
	text, err := readLimited(path, guestos.MaxSize)
	if err != nil {
		return nil, err
	}
	signer, files, err := s.signText(text, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := tree.CheckWritable(path); err != nil {
		return nil, err
	}
	// NAME.cert beside the config could be a published file of the PKI.
	if _, err := os.Lstat(plan.StorePath(filepath.Dir(path))); err == nil {
		return nil, fmt.Errorf("%s lies in a PKI directory, whose files the signature could replace: sign it elsewhere", path)
	}
	if err := s.record(ctx, signer, signedConfig(o.Artifact, path, text)); err != nil {
		return nil, err
	}
	return signer, files.write(base)
}

// configBase returns the path of a config without its .conf.
func configBase(path string) (string, error) {
	if base, ok := strings.CutSuffix(path, ".conf"); ok && filepath.Base(path) != ".conf" {
		return base, nil
	}
	return "", fmt.Errorf("%s: a config is named NAME.conf", path)
}

// signedConfig is what the ledger says of a config.
func signedConfig(artifact, path string, text []byte) Signed {
	return Signed{artifact, filepath.Base(path), sha256.Sum256(text), int64(len(text))}
}

// signText signs a config in memory: nothing is recorded, and nothing in place.
func (s *Session) signText(text []byte, o ConfigOptions) (*Signer, signedFiles, error) {
	name, err := configName(o.Artifact, text)
	if err != nil {
		return nil, nil, err
	}
	signer, err := s.Signer(o.Artifact, o.As, name)
	if err != nil {
		return nil, nil, err
	}
	own := Verifier{Trust: signer.Chain[len(signer.Chain)-1:], Time: s.Now()}
	files, err := configFiles(text, signer, o.CMS, s.Now(), own.chain)
	return signer, files, err
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
// the platform's daemon does, and the images of a GuestOS if there is a directory
// NAME beside it.
func (s *Verifier) VerifyConfig(ctx context.Context, artifact, path string, p7s bool) Verdict {
	v := Verdict{File: path}
	base, err := configBase(path)
	if err != nil {
		v.Err = err
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
	// The daemon parses what it has verified.
	if v.Err == nil {
		_, v.Err = configName(artifact, text)
	}
	if v.Err == nil && artifact == "guestos" {
		v.Err = checkImages(ctx, text, base)
	}
	return v
}

// checkImages holds the images of a GuestOS against its config, if they are there.
func checkImages(ctx context.Context, text []byte, dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	c, lines, err := guestos.ParseGuestOS(text)
	if err != nil {
		return err
	}
	return guestos.CheckImages(ctx, c, lines, dir, nil)
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

// oidData is id-data (RFC 5652, Section 4), plain octets.
var oidData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}

// verifyCMS checks a detached signature with one signer, and the signer's chain.
func verifyCMS(content, der []byte, check chainCheck) (*ca.Certificate, []*ca.Certificate, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case sd.Content != nil:
		return nil, nil, errors.New("CMS: the signature is not detached: the message carries its content")
	case len(sd.Signers) != 1:
		return nil, nil, fmt.Errorf("CMS: %d signers, not 1", len(sd.Signers))
	case !sd.ContentType.Equal(oidData):
		// What was signed as something else, such as an EFI image, is no file.
		return nil, nil, fmt.Errorf("CMS: the signature is over content of type %v, not id-data", sd.ContentType)
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
