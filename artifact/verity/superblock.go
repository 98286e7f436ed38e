package verity

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// SuperblockSize is the size in bytes of a superblock. Zeros fill the rest of
// its block.
const SuperblockSize = 512

// Offsets of the fields in a superblock, version 1, all little endian
// (cryptsetup, lib/verity/verity.c, struct verity_sb).
const (
	offSignature     = 0   // 8 bytes
	offVersion       = 8   // uint32
	offHashType      = 12  // uint32
	offUUID          = 16  // 16 bytes
	offAlgorithm     = 32  // 32 bytes, padded with zeros
	offDataBlockSize = 64  // uint32
	offHashBlockSize = 68  // uint32
	offDataBlocks    = 72  // uint64
	offSaltSize      = 80  // uint16
	offPad1          = 82  // 6 bytes
	offSalt          = 88  // 256 bytes, padded with zeros
	offPad2          = 344 // 168 bytes
)

const (
	signature = "verity\x00\x00"
	algorithm = "sha256"
)

// Superblock is the head of a hash file. What it does not hold is fixed:
// version 1, hash type 1, SHA-256, blocks of 4096 bytes.
type Superblock struct {
	// UUID names the hash file.
	UUID [16]byte
	// Blocks is the number of data blocks, 1 to MaxImageSize/BlockSize.
	Blocks int64
	// Salt is hashed before each block: 0 to MaxSaltSize bytes.
	Salt []byte
}

// marshal returns the SuperblockSize bytes of s, whose fields must be in range.
func (s *Superblock) marshal() []byte {
	b := make([]byte, SuperblockSize)
	copy(b[offSignature:], signature)
	binary.LittleEndian.PutUint32(b[offVersion:], 1)
	binary.LittleEndian.PutUint32(b[offHashType:], 1)
	copy(b[offUUID:], s.UUID[:])
	copy(b[offAlgorithm:], algorithm)
	binary.LittleEndian.PutUint32(b[offDataBlockSize:], BlockSize)
	binary.LittleEndian.PutUint32(b[offHashBlockSize:], BlockSize)
	binary.LittleEndian.PutUint64(b[offDataBlocks:], uint64(s.Blocks))
	binary.LittleEndian.PutUint16(b[offSaltSize:], uint16(len(s.Salt)))
	copy(b[offSalt:], s.Salt)
	return b
}

// ParseSuperblock reads a superblock from b, which must hold exactly its
// SuperblockSize bytes. It refuses every other format than the one of this
// package, and padding that is not zero: what it accepts has one encoding.
func ParseSuperblock(b []byte) (*Superblock, error) {
	if len(b) != SuperblockSize {
		return nil, fmt.Errorf("verity superblock has %d bytes, want %d", len(b), SuperblockSize)
	}
	if got := b[offSignature:offVersion]; string(got) != signature {
		return nil, fmt.Errorf("verity superblock: signature %q, want %q", got, signature)
	}
	if v := binary.LittleEndian.Uint32(b[offVersion:]); v != 1 {
		return nil, fmt.Errorf("verity superblock: version %d, want 1", v)
	}
	if v := binary.LittleEndian.Uint32(b[offHashType:]); v != 1 {
		return nil, fmt.Errorf("verity superblock: hash type %d, want 1", v)
	}
	if got := b[offAlgorithm:offDataBlockSize]; !bytes.Equal(got, append([]byte(algorithm), make([]byte, 32-len(algorithm))...)) {
		return nil, fmt.Errorf("verity superblock: hash algorithm %q, want %q", bytes.TrimRight(got, "\x00"), algorithm)
	}
	if v := binary.LittleEndian.Uint32(b[offDataBlockSize:]); v != BlockSize {
		return nil, fmt.Errorf("verity superblock: data block size %d, want %d", v, BlockSize)
	}
	if v := binary.LittleEndian.Uint32(b[offHashBlockSize:]); v != BlockSize {
		return nil, fmt.Errorf("verity superblock: hash block size %d, want %d", v, BlockSize)
	}
	blocks := binary.LittleEndian.Uint64(b[offDataBlocks:])
	if blocks < 1 || blocks > MaxImageSize/BlockSize {
		return nil, fmt.Errorf("verity superblock: %d data blocks, want 1 to %d", blocks, int64(MaxImageSize/BlockSize))
	}
	saltSize := int(binary.LittleEndian.Uint16(b[offSaltSize:]))
	if saltSize > MaxSaltSize {
		return nil, fmt.Errorf("verity superblock: salt of %d bytes, want at most %d", saltSize, MaxSaltSize)
	}
	if !allZero(b[offPad1:offSalt]) || !allZero(b[offPad2:]) {
		return nil, fmt.Errorf("verity superblock: padding is not zero")
	}
	if !allZero(b[offSalt+saltSize : offPad2]) {
		return nil, fmt.Errorf("verity superblock: bytes after the salt of %d bytes are not zero", saltSize)
	}
	return &Superblock{
		UUID:   [16]byte(b[offUUID:offAlgorithm]),
		Blocks: int64(blocks),
		Salt:   bytes.Clone(b[offSalt : offSalt+saltSize]),
	}, nil
}

func allZero(b []byte) bool {
	return len(bytes.Trim(b, "\x00")) == 0
}
