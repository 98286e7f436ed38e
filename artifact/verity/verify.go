package verity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// MismatchError says that image, hash file and root hash do not belong
// together. Which of them was altered is not known.
type MismatchError struct {
	// Reason names the first place found that does not match.
	Reason string
}

// Error returns the reason.
func (e *MismatchError) Error() string { return "verity: " + e.Reason }

// Verify checks that every block of image is the one that root vouches for
// by way of the tree in hashFile, which starts with a superblock. It computes
// the tree anew, in the same single pass as Build, so Result.ImageSHA256 comes
// for free, and compares: hash blocks, their padding, root.
//
// It is stricter than "veritysetup verify": image and hash file must have
// exactly the sizes that the superblock says, with nothing unprotected behind.
// For progress see Build. The error is a *MismatchError if anything does not
// match; other errors come from a superblock that this package does not know,
// from reading, and from ctx.
func Verify(ctx context.Context, image, hashFile Source, root Digest, progress func(n int64)) (*Result, error) {
	head := make([]byte, BlockSize)
	if n, err := hashFile.ReadAt(head, 0); n < len(head) {
		if err == io.EOF {
			return nil, mismatch("hash file of %d bytes is too short for a superblock", n)
		}
		return nil, fmt.Errorf("reading the verity superblock: %w", err)
	}
	sb, err := ParseSuperblock(head[:SuperblockSize])
	if err != nil {
		return nil, err
	}
	if !allZero(head[SuperblockSize:]) {
		return nil, mismatch("bytes behind the superblock are not zero")
	}
	if want := sb.Blocks * BlockSize; image.Size() != want {
		return nil, mismatch("image has %d bytes, but the superblock says %d blocks, which are %d", image.Size(), sb.Blocks, want)
	}
	return verify(ctx, image, hashFile, root, Options{Salt: sb.Salt, UUID: sb.UUID}, progress)
}

// VerifyBare is Verify for a hash file without a superblock, whose salt must
// come from elsewhere.
func VerifyBare(ctx context.Context, image, hashFile Source, salt []byte, root Digest, progress func(n int64)) (*Result, error) {
	return verify(ctx, image, hashFile, root, Options{Salt: salt, NoSuperblock: true}, progress)
}

func verify(ctx context.Context, image, hashFile Source, root Digest, opts Options, progress func(n int64)) (*Result, error) {
	l, err := newLayout(image.Size(), opts)
	if err != nil {
		return nil, err
	}
	if hashFile.Size() != l.size {
		return nil, mismatch("hash file has %d bytes, but the tree of %d data blocks has %d", hashFile.Size(), l.blocks, l.size)
	}
	result, err := Build(ctx, image, &comparer{layout: l, hashFile: hashFile}, opts, progress)
	var differs *MismatchError
	if errors.As(err, &differs) {
		return nil, differs // without what Build says about writing
	}
	if err != nil {
		return nil, err
	}
	if result.Root != root {
		return nil, mismatch("root hash is %x, want %x", result.Root, root)
	}
	return result, nil
}

func mismatch(format string, args ...any) error {
	return &MismatchError{Reason: fmt.Sprintf(format, args...)}
}

// comparer stands in for the hash file that Build writes: instead of writing a
// block it compares it with the one that is there.
type comparer struct {
	layout   layout
	hashFile io.ReaderAt
}

// WriteAt compares the block b with the one at off in the hash file.
func (c *comparer) WriteAt(b []byte, off int64) (int, error) {
	stored := make([]byte, len(b))
	if n, err := c.hashFile.ReadAt(stored, off); n < len(b) {
		return 0, err
	}
	if bytes.Equal(stored, b) {
		return len(b), nil
	}
	lvl, block := c.layout.at(off)
	if lvl == len(c.layout.levels) {
		return 0, mismatch("superblock differs from the one for its own values")
	}
	// Name the block below whose hash differs. Only in the last hash block of
	// a level are there fewer than 128, and zeros behind.
	i := 0
	for bytes.Equal(stored[i:i+sha256.Size], b[i:i+sha256.Size]) {
		i += sha256.Size
	}
	below := block*hashesPerBlock + int64(i/sha256.Size)
	switch {
	case lvl == 0 && below >= c.layout.blocks, lvl > 0 && below >= c.layout.levels[lvl-1].blocks:
		return 0, mismatch("padding of hash block %d of level %d is not zero", block, lvl)
	case lvl == 0:
		return 0, mismatch("data block %d does not match its hash in the tree", below)
	default:
		return 0, mismatch("hash block %d of level %d does not match its hash in level %d", below, lvl-1, lvl)
	}
}
