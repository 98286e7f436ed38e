// Package verity computes and checks dm-verity hash trees, the integrity data
// by which the kernel checks every block it reads from a read-only image. It
// follows the kernel's Documentation/admin-guide/device-mapper/verity.rst and
// the on-disk superblock, version 1, of cryptsetup, and writes bit for bit what
// "veritysetup format" writes for the same salt and UUID.
//
// It knows the one format that the platform uses: hash type 1, SHA-256, data
// and hash blocks of 4096 bytes. It leaves out other hashes and block sizes,
// hash type 0 (Chrome OS), forward error correction, a tree behind the data in
// one file, and signed root hashes. It maps no devices: the kernel does.
//
// One pass over an image gives both its SHA-256 and its tree, see Build.
package verity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
)

// BlockSize is the size in bytes of a data block and of a hash block.
const BlockSize = 4096

// MaxImageSize is the size in bytes of the largest image: 16 TiB, the largest
// file of ext4. It bounds the memory that Build takes.
const MaxImageSize = 1 << 44

// MaxSaltSize is the longest salt, in bytes, that a superblock can hold.
const MaxSaltSize = 256

// Source is an image or a hash file: bytes at any offset, and their number.
// *io.SectionReader (over an *os.File) and *bytes.Reader are Sources.
type Source interface {
	io.ReaderAt
	// Size returns the number of bytes that ReadAt can read.
	Size() int64
}

// Digest is a SHA-256 hash. Print it with %x.
type Digest [sha256.Size]byte

// Options says how a tree is made. The zero value is a tree with a superblock,
// without a salt, and with an all-zero UUID. "veritysetup format" by default
// draws a salt of 32 bytes and a UUID at random: callers that want these draw
// them.
type Options struct {
	// Salt is hashed before each block: 0 to MaxSaltSize bytes. It is public.
	Salt []byte

	// UUID names the hash file in its superblock. Nothing verifies it.
	UUID [16]byte

	// NoSuperblock leaves the superblock out, as "veritysetup --no-superblock"
	// does: the tree then starts at offset 0, and whoever verifies must be told
	// the salt and the number of blocks.
	NoSuperblock bool

	// IgnoreTail accepts an image that does not end on a block boundary, and
	// leaves its last bytes out of the tree, unprotected, as veritysetup
	// does without a word. They still count for Result.ImageSHA256. Without
	// IgnoreTail such an image is an error.
	IgnoreTail bool
}

// Result is what Build and Verify found.
type Result struct {
	// Root is the root hash, which vouches for all blocks of the image.
	Root Digest
	// ImageSHA256 is the plain SHA-256 of the whole image.
	ImageSHA256 Digest
	// Blocks is the number of data blocks that the tree covers.
	Blocks int64
	// TreeSize is the size in bytes of the hash file. It is 0 for an image of
	// one block without a superblock: its root is the hash of that block.
	TreeSize int64
}

// TreeSize returns the size in bytes of the hash file that Build writes for an
// image of the given size in bytes. It fails as Build would for that size.
func TreeSize(imageSize int64, opts Options) (int64, error) {
	l, err := newLayout(imageSize, opts)
	if err != nil {
		return 0, err
	}
	return l.size, nil
}

// Build reads image once, from start to end, and writes its hash tree to tree:
// exactly Result.TreeSize bytes from offset 0 on, each byte once, in no
// particular order and from several goroutines at once. Truncating, syncing and
// naming the hash file is up to the caller, and so is throwing it away when
// Build fails. The superblock is written last.
//
// The plain SHA-256 of the image can only be computed in order, so it takes one
// core from start to end; the blocks are hashed beside it on the other cores.
// Memory use is below 16 MiB plus 64 KiB per GiB of image.
//
// If progress is not nil, it is called with the number of bytes done since its
// last call, always from the same goroutine.
//
// Build fails on an image that is shorter than one block, that is not a multiple of
// BlockSize (see Options.IgnoreTail), that is above MaxImageSize or that turns out
// shorter than its Size; on a salt that is too long; when reading or writing
// fails; and with the cause of ctx when that is done.
func Build(ctx context.Context, image Source, tree io.WriterAt, opts Options, progress func(n int64)) (*Result, error) {
	// 1. The size alone says where everything goes.
	l, err := newLayout(image.Size(), opts)
	if err != nil {
		return nil, err
	}

	// 2. One pass over the image: its SHA-256, the leaf level on disk, and the
	// digests of the leaf level's blocks in memory.
	p := pass{layout: l, image: image, tree: tree, salt: opts.Salt, progress: progress}
	imageSum, digests, err := p.run(ctx)
	if err != nil {
		return nil, err
	}

	// 3. The upper levels, each 128 times smaller than the one below.
	root, err := writeUpperLevels(l, tree, opts.Salt, digests)
	if err != nil {
		return nil, err
	}

	// 4. The superblock, so that a tree cut short does not look like one.
	if !opts.NoSuperblock {
		sb := Superblock{UUID: opts.UUID, Blocks: l.blocks, Salt: opts.Salt}
		block := make([]byte, BlockSize)
		copy(block, sb.marshal())
		if _, err := tree.WriteAt(block, 0); err != nil {
			return nil, fmt.Errorf("writing the verity superblock: %w", err)
		}
	}

	return &Result{Root: root, ImageSHA256: imageSum, Blocks: l.blocks, TreeSize: l.size}, nil
}

// writeUpperLevels writes all levels above the leaves and returns the root hash.
// digests holds the hashes of the leaf level's blocks one after the other, or
// of the only data block where there are no levels.
func writeUpperLevels(l layout, tree io.WriterAt, salt, digests []byte) (Digest, error) {
	h := newBlockHash(salt)
	for level := 1; level < len(l.levels); level++ {
		var above []byte
		for i := int64(0); i < l.levels[level].blocks; i++ {
			block := make([]byte, BlockSize) // the last one is padded with zeros
			n := copy(block, digests)
			digests = digests[n:]
			if _, err := tree.WriteAt(block, l.levels[level].offset+i*BlockSize); err != nil {
				return Digest{}, fmt.Errorf("writing hash block %d of level %d: %w", i, level, err)
			}
			above = h.appendSum(above, block)
		}
		digests = above
	}
	return Digest(digests), nil
}
