package verity

import (
	"crypto/sha256"
	"fmt"
)

// hashesPerBlock is the number of SHA-256 hashes in one hash block.
const hashesPerBlock = BlockSize / sha256.Size

// layout says where the levels of a tree lie in the hash file.
type layout struct {
	imageSize int64
	blocks    int64   // data blocks
	levels    []level // the leaves, whose hashes are those of the data, come first
	size      int64   // of the hash file, in bytes
}

// level is one level of a tree: blocks of 4096 bytes from offset on.
type level struct {
	offset int64
	blocks int64
}

// newLayout checks the size of an image and the options, and lays out the tree.
//
// In the file the level with the single root block comes first and the leaves
// come last, so that reading ahead goes the way that lookups go. An image of
// one data block has no levels at all.
func newLayout(imageSize int64, opts Options) (layout, error) {
	if len(opts.Salt) > MaxSaltSize {
		return layout{}, fmt.Errorf("verity salt of %d bytes: at most %d are possible", len(opts.Salt), MaxSaltSize)
	}
	if imageSize < BlockSize {
		return layout{}, fmt.Errorf("image of %d bytes is smaller than one block of %d", imageSize, BlockSize)
	}
	if imageSize > MaxImageSize {
		return layout{}, fmt.Errorf("image of %d bytes: at most %d are possible", imageSize, int64(MaxImageSize))
	}
	if tail := imageSize % BlockSize; tail != 0 && !opts.IgnoreTail {
		return layout{}, fmt.Errorf("image of %d bytes is not a multiple of %d: its last %d bytes would not be protected", imageSize, BlockSize, tail)
	}

	l := layout{imageSize: imageSize, blocks: imageSize / BlockSize}
	for n := l.blocks; n > 1; {
		n = (n + hashesPerBlock - 1) / hashesPerBlock
		l.levels = append(l.levels, level{blocks: n})
	}
	if !opts.NoSuperblock {
		l.size = BlockSize
	}
	for i := len(l.levels) - 1; i >= 0; i-- {
		l.levels[i].offset = l.size
		l.size += l.levels[i].blocks * BlockSize
	}
	return l, nil
}

// at returns the level and the number within it of the hash block at offset.
func (l layout) at(offset int64) (lvl int, block int64) {
	for i, v := range l.levels {
		if offset >= v.offset {
			return i, (offset - v.offset) / BlockSize
		}
	}
	return len(l.levels), 0
}
