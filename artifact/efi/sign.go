package efi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"tmpki/cms"
)

// Signer is who signs an image.
type Signer struct {
	Key         crypto.Signer // RSA of 2048, 3072 or 4096 bits, not restricted to PSS
	Certificate []byte        // DER; its key must be Key's

	// Chain are further certificates to put into the signature, each in DER:
	// the issuer of Certificate, its issuer, and so on. Firmware needs those
	// below the one that it has in db.
	Chain [][]byte
}

// SignOptions are what signatures can differ in.
type SignOptions struct {
	// Time becomes the signing time, in UTC and whole seconds. The zero time
	// leaves it out: the same image, key and certificates then give the same
	// octets.
	Time time.Time

	// Replace leaves out all signatures that the image has.
	Replace bool
}

// Sign writes the image with one more signature: SHA-256, RSA with PKCS#1 v1.5,
// the signer's certificate and chain included. It pads the image with zeros to a
// multiple of 8 octets first, which the signature covers, and sets CheckSum. The
// image itself is only read: once to hash it, once to copy it.
//
// Nothing is written before the new signature has been parsed back out of the
// result and verified against its key and the image's digest. Whether a
// platform would boot the image, Verify tells of what was written.
//
// It refuses keys that firmware can't use, a chain whose certificates firmware
// could not connect, and an image without room for a certificate table in its
// header. It does not mind that the signer has signed before. An error after the
// first octet means that w is left incomplete.
func (img *Image) Sign(w io.Writer, signer Signer, opts SignOptions) error {
	if err := img.sign(w, signer, opts); err != nil {
		return fmt.Errorf("signing an EFI image: %w", err)
	}
	return nil
}

func (img *Image) sign(w io.Writer, signer Signer, opts SignOptions) error {
	// 1. Check what can be known before a key is touched.
	if err := signer.check(); err != nil {
		return err
	}
	if img.layout.directory == 0 {
		return errors.New("NumberOfRvaAndSizes leaves no place for a certificate table")
	}
	var entries [][]byte
	if !opts.Replace {
		entries = slices.Clone(img.entries)
	}
	if len(entries) >= MaxSignatures {
		return fmt.Errorf("the image has %d signatures already", len(entries))
	}

	// 2. Hash the image, with the padding that will be part of it.
	content := align(img.layout.content)
	if content > MaxSize-MaxTableSize {
		return fmt.Errorf("%d octets leave no room for a signature below %d", content, MaxSize)
	}
	padding := make([]byte, content-img.layout.content)
	h, sum := crypto.SHA256.New(), &wordSum{}
	both := io.MultiWriter(h, sum)
	if err := img.copyContent(both); err != nil {
		return err
	}
	both.Write(padding) // neither fails
	digest := h.Sum(nil)

	// 3. Sign the digest.
	der, err := signer.sign(digest, opts.Time)
	if err != nil {
		return err
	}
	var table []byte
	for _, entry := range append(entries, der) {
		table = append(table, marshalEntry(entry)...)
	}
	if len(table) > MaxTableSize {
		return fmt.Errorf("certificate table: %d octets are more than %d", len(table), MaxTableSize)
	}

	// 4. Put the result together: two fields of the header, and the table.
	directory := binary.LittleEndian.AppendUint32(nil, uint32(content))
	directory = binary.LittleEndian.AppendUint32(directory, uint32(len(table)))
	sum.Write(directory)
	sum.Write(table)
	size := content + int64(len(table))
	result := &patchedFile{
		file:    img.file,
		end:     img.layout.content,
		patches: []patch{{img.layout.checksum, binary.LittleEndian.AppendUint32(nil, sum.checksum(size))}, {img.layout.directory, directory}},
		tail:    slices.Concat(padding, table),
	}

	// 5. Read it back, as a verifier would.
	signed, err := Open(result, size)
	if err != nil {
		return fmt.Errorf("the result: %w", err)
	}
	signatures := signed.Signatures()
	last := signatures[len(signatures)-1]
	if last.Err != nil {
		return fmt.Errorf("the result: signature %d: %w", len(signatures), last.Err)
	}
	if err := last.check(map[crypto.Hash][]byte{crypto.SHA256: digest}); err != nil {
		return fmt.Errorf("the result: signature %d: %w", len(signatures), err)
	}

	// 6. Write it, and notice if the image was changed meanwhile.
	var written wordSum
	if _, err := io.CopyBuffer(io.MultiWriter(w, &written), io.NewSectionReader(result, 0, size), make([]byte, copyBuffer)); err != nil {
		return err
	}
	sum.Write(result.patches[0].octets)
	if written.checksum(size) != sum.checksum(size) {
		return errors.New("the image changed while it was signed")
	}
	return nil
}

// check tells, as an error, why nobody could verify the signer's signatures.
func (s Signer) check() error {
	certificate, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return fmt.Errorf("the signer's certificate: %v", err)
	}
	if err := checkKey(certificate); err != nil {
		return err
	}
	for i, der := range s.Chain {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate %d of the chain: %v", i+1, err)
		}
		if certificate.Equal(issuer) {
			return fmt.Errorf("certificate %d of the chain: %q stands twice", i+1, issuer.Subject)
		}
		if err := checkIssued(certificate, issuer, i); err != nil {
			return fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		certificate = issuer
	}
	return nil
}

// sign returns the PKCS #7 message of a signature over an image's digest.
func (s Signer) sign(digest []byte, t time.Time) ([]byte, error) {
	content, err := marshalIndirectData(crypto.SHA256, digest)
	if err != nil {
		return nil, err
	}
	who := cms.Signer{Key: s.Key, Certificate: s.Certificate, Algorithm: firmwareAlgorithm(crypto.SHA256)}
	return cms.SignElement(who, oidIndirectData, content, cms.Options{
		NullParameters: true,
		SigningTime:    t,
		// SpcSpOpusInfo is mandatory, its fields are not: an empty SEQUENCE.
		Attributes:   []cms.Attribute{{Type: oidOpusInfo, Values: [][]byte{{0x30, 0x00}}}},
		Certificates: append([][]byte{bytes.Clone(s.Certificate)}, s.Chain...),
	})
}

// patchedFile is a file up to an end, with some octets replaced and others
// added. It implements io.ReaderAt.
type patchedFile struct {
	file    io.ReaderAt
	end     int64
	patches []patch // before end
	tail    []byte  // from end on
}

type patch struct {
	offset int64
	octets []byte
}

func (f *patchedFile) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	if offset < f.end {
		n = int(min(int64(len(p)), f.end-offset))
		if err := readAt(f.file, p[:n], offset); err != nil {
			return 0, err
		}
		for _, patch := range f.patches {
			overlay(p[:n], offset, patch)
		}
	}
	if at := offset + int64(n) - f.end; n < len(p) && at < int64(len(f.tail)) {
		n += copy(p[n:], f.tail[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// overlay writes those octets of a patch into p that lie there; p is at offset.
func overlay(p []byte, offset int64, patch patch) {
	from := patch.offset - offset
	switch {
	case from >= int64(len(p)) || from+int64(len(patch.octets)) <= 0:
	case from >= 0:
		copy(p[from:], patch.octets)
	default:
		copy(p, patch.octets[-from:])
	}
}
