package signing

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/internal/tree"
)

// Verifier holds artifacts against trust anchors.
type Verifier struct {
	Trust []*ca.Certificate
	Time  time.Time // zero: dates don't count
}

// chain is a chainCheck against the verifier's anchors.
func (s *Verifier) chain(leaf *ca.Certificate, helpers []*ca.Certificate) ([]*ca.Certificate, error) {
	return ca.Verify(leaf, ca.VerifyOptions{Roots: s.Trust, Intermediates: helpers, Time: s.Time})
}

// maxFile bounds a file that is signed whole in memory, in octets.
const maxFile = 1 << 30

// SignFile makes a detached CMS signature FILE.p7s of any file.
func (s *Session) SignFile(ctx context.Context, path, as string) (*Signer, error) {
	content, err := readLimited(path, maxFile)
	if err != nil {
		return nil, err
	}
	signer, err := s.Signer("file", as, "")
	if err != nil {
		return nil, err
	}
	p7s, err := signCMS(content, signer, s.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	own := Verifier{Trust: signer.Chain[len(signer.Chain)-1:], Time: s.Now()}
	if _, _, err := verifyCMS(content, p7s, own.chain); err != nil {
		return nil, fmt.Errorf("%s: the signature as made: %w", path, err)
	}
	if err := tree.CheckWritable(path); err != nil {
		return nil, err
	}
	if err := s.record(ctx, signer, Signed{"file", filepath.Base(path), sha256.Sum256(content), int64(len(content))}); err != nil {
		return nil, err
	}
	return signer, durable.WriteFile(path+".p7s", p7s, 0o644)
}

// VerifyFile verifies FILE with FILE.p7s.
func (s *Verifier) VerifyFile(path string) Verdict {
	v := Verdict{File: path}
	content, err := readLimited(path, maxFile)
	if err == nil {
		var p7s []byte
		if p7s, err = readLimited(path+".p7s", maxCMS); err == nil {
			v.Signer, v.Chain, err = verifyCMS(content, p7s, s.chain)
		}
	}
	v.Err = err
	return v
}
