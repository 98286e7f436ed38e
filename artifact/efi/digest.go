package efi

import (
	"crypto"
	"fmt"
	"hash"
	"io"

	"tmpki/spki"
)

// copyBuffer is how many octets of an image are in memory at a time.
const copyBuffer = 128 << 10

// Digest returns the Authenticode digest of the image as it is ("Calculating the
// PE Image Hash"): of all but CheckSum, the certificate table and its directory
// entry. The algorithm is SHA-256, SHA-384 or SHA-512.
//
// The SHA-256 is the hash that db and dbx know the image by. Note that Sign pads
// an image whose length is no multiple of 8 octets, which changes its hash: many
// linkers' outputs have another hash unsigned than signed.
func (img *Image) Digest(algorithm crypto.Hash) ([]byte, error) {
	digests, err := img.digests(algorithm)
	if err != nil {
		return nil, err
	}
	return digests[algorithm], nil
}

// digests returns the digests with several algorithms, in one pass over the file.
func (img *Image) digests(algorithms ...crypto.Hash) (map[crypto.Hash][]byte, error) {
	var hashes []hash.Hash
	var writers []io.Writer
	for _, algorithm := range algorithms {
		if spki.HashName(algorithm) == "" {
			return nil, fmt.Errorf("EFI image: digest %v is not supported", algorithm)
		}
		h := algorithm.New()
		hashes, writers = append(hashes, h), append(writers, h)
	}
	if err := img.copyContent(io.MultiWriter(writers...)); err != nil {
		return nil, err
	}
	digests := make(map[crypto.Hash][]byte)
	for i, algorithm := range algorithms {
		digests[algorithm] = hashes[i].Sum(nil)
	}
	return digests, nil
}

// copyContent writes what digests cover. Since Open allows no gaps and no
// overlaps, the order of the sections is the order of the file, and what
// follows the sections follows here too.
func (img *Image) copyContent(w io.Writer) error {
	at := img.layout
	if at.directory == 0 {
		return img.copySpans(w, span{0, at.checksum}, span{at.checksum + checksumSize, at.content})
	}
	return img.copySpans(w,
		span{0, at.checksum},
		span{at.checksum + checksumSize, at.directory},
		span{at.directory + directorySize, at.content})
}

// span is a part of the file.
type span struct{ from, to int64 }

func (img *Image) copySpans(w io.Writer, spans ...span) error {
	buffer := make([]byte, copyBuffer)
	for _, s := range spans {
		n, err := io.CopyBuffer(w, io.NewSectionReader(img.file, s.from, s.to-s.from), buffer)
		if err == nil && n != s.to-s.from {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("EFI image: copying octets at %#x: %w", s.from+n, err)
		}
	}
	return nil
}
