package signing

import (
	"cmp"
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tmpki/artifact/efi"
	"tmpki/ca"
	"tmpki/internal/durable"
)

// EFIOptions say how EFI images are signed.
type EFIOptions struct {
	As      string // "" for the plan's default
	Out     string // "" replaces the image
	Replace bool   // leave out the signatures that are there

	// Reproducible leaves out the signing time: the same input gives the same
	// octets.
	Reproducible bool
}

// SignEFI signs a kernel, boot loader or unified kernel image, and puts the
// result in place when firmware with this PKI's db would boot it.
func (s *Session) SignEFI(ctx context.Context, path string, o EFIOptions) (*Signer, error) {
	signer, err := s.Signer("efi", o.As, "")
	if err != nil {
		return nil, err
	}
	if o.Out != "" {
		if err := s.PKI.CheckOutput(o.Out); err != nil {
			return nil, err
		}
	}
	file, info, err := durable.OpenRegular(path, efi.MaxSize)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	img, err := efi.Open(file, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// The chain goes in without the root: firmware has one of it in db.
	by := efi.Signer{Key: signer.Key, Certificate: signer.Certificate().Raw}
	for _, c := range signer.plain()[1:] {
		by.Chain = append(by.Chain, c.Raw)
	}
	opts := efi.SignOptions{Replace: o.Replace}
	if !o.Reproducible {
		opts.Time = s.Now().UTC().Truncate(time.Second)
	}
	target := cmp.Or(o.Out, path)
	if info, err := os.Lstat(target); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: name another output", target)
	}
	out, err := durable.NewFile(target, info.Mode().Perm())
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := img.Sign(out, by, opts); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	digest, err := s.checkEFI(out, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: the image as signed: %w", path, err)
	}
	if err := s.record(ctx, signer, Signed{"efi", filepath.Base(target), digest, img.ContentSize()}); err != nil {
		return nil, err
	}
	return signer, out.Commit()
}

// checkEFI verifies a signed image that is not in place yet, as firmware would
// with this PKI's db, or with the signer's root if the plan has no db.
func (s *Session) checkEFI(out *durable.File, signer *Signer) ([32]byte, error) {
	size, err := out.Size()
	if err != nil {
		return [32]byte{}, err
	}
	img, err := efi.Open(out, size)
	if err != nil {
		return [32]byte{}, err
	}
	anchors := s.Anchors("efi")
	if s.PKI.Plan.UEFI == nil {
		anchors = signer.Chain[len(signer.Chain)-1:]
	}
	// The image may have another signature that db trusts already.
	if !slices.ContainsFunc(signer.Chain, func(c *ca.Certificate) bool { return slices.ContainsFunc(anchors, c.Equal) }) {
		return [32]byte{}, fmt.Errorf("the plan's db holds neither the certificate of %s nor one above it", signer.Entry.Name)
	}
	allowed, err := img.Verify(efi.Databases{Certificates: rawCertificates(anchors)})
	if err != nil {
		return [32]byte{}, err
	}
	return allowed.Digest, nil
}

func rawCertificates(certs []*ca.Certificate) [][]byte {
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

// VerifyEFI verifies an image as firmware with Secure Boot does; the trust
// anchors are its db.
func (s *Verifier) VerifyEFI(path string) Verdict {
	v := Verdict{File: path}
	file, info, err := durable.OpenRegular(path, efi.MaxSize)
	if err != nil {
		v.Err = err
		return v
	}
	defer file.Close()
	img, err := efi.Open(file, info.Size())
	if err != nil {
		v.Err = err
		return v
	}
	allowed, err := img.Verify(efi.Databases{Certificates: rawCertificates(s.Trust)})
	if err != nil {
		v.Err = err
		if signatures := img.Signatures(); len(signatures) > 0 && len(signatures[0].Signer) > 0 {
			v.Signer, _ = ca.ParseCertificate(signatures[0].Signer)
		}
		return v
	}
	for _, raw := range allowed.Chain {
		c, err := ca.ParseCertificate(raw)
		if err != nil {
			v.Err = err
			return v
		}
		v.Chain = append(v.Chain, c)
	}
	if len(v.Chain) > 0 {
		v.Signer = v.Chain[0]
	}
	return v
}

// EFIDigest returns the hash by which db and dbx know an image.
func EFIDigest(path string) ([32]byte, error) {
	file, info, err := durable.OpenRegular(path, efi.MaxSize)
	if err != nil {
		return [32]byte{}, err
	}
	defer file.Close()
	img, err := efi.Open(file, info.Size())
	if err != nil {
		return [32]byte{}, fmt.Errorf("%s: %w", path, err)
	}
	digest, err := img.Digest(crypto.SHA256)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(digest), nil
}
