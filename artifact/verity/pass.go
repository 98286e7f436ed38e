package verity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
)

// chunkSize is the number of bytes whose hashes fill one hash block, so that
// whoever hashes a chunk can write its hash block alone.
const chunkSize = hashesPerBlock * BlockSize

// pass is one reading of an image. A reader hands each chunk to two consumers
// at once: the goroutine that hashes the file, in order, and one of those that
// hash blocks, in any order.
type pass struct {
	layout
	image    Source
	tree     io.WriterAt
	salt     []byte
	progress func(n int64)
}

// chunk is a piece of the image, chunkSize bytes long except for the last.
type chunk struct {
	index int64
	data  []byte
	users atomic.Int32 // consumers that still read data
}

// run returns the SHA-256 of the image and, one after the other, the hashes of
// the leaf level's blocks, or of the only data block if there are no levels.
func (p *pass) run(ctx context.Context) (Digest, []byte, error) {
	// Hashing blocks is little more work than hashing the file, so two
	// goroutines keep up with the one that hashes the file; a third gives
	// slack. More would only wait.
	hashers := min(runtime.GOMAXPROCS(0), 3)
	buffers := 4 + 4*hashers

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	free := make(chan *chunk, buffers)
	toFile := make(chan *chunk, buffers)
	toBlocks := make(chan *chunk, buffers)
	release := func(c *chunk) {
		if c.users.Add(-1) == 0 {
			free <- c
		}
	}
	for range buffers {
		free <- &chunk{data: make([]byte, chunkSize)}
	}

	var consumers sync.WaitGroup
	fileHash := sha256.New()
	consumers.Go(func() {
		for c := range toFile {
			fileHash.Write(c.data)
			n := int64(len(c.data))
			release(c)
			if p.progress != nil {
				p.progress(n)
			}
		}
	})

	// Each chunk has its own place in digests, so no lock is needed.
	chunks := (p.blocks + hashesPerBlock - 1) / hashesPerBlock
	digests := make([]byte, chunks*sha256.Size)
	for range hashers {
		consumers.Go(func() {
			h := newBlockHash(p.salt)
			for c := range toBlocks {
				if err := p.hashChunk(h, c, digests); err != nil {
					cancel(err) // and go on releasing chunks
				}
				release(c)
			}
		})
	}

	p.read(ctx, cancel, free, toFile, toBlocks)
	close(toFile)
	close(toBlocks)
	consumers.Wait()
	if ctx.Err() != nil {
		return Digest{}, nil, context.Cause(ctx)
	}
	return Digest(fileHash.Sum(nil)), digests, nil
}

// read fills free chunks with the image from start to end, and stops early
// when ctx is done. It cancels ctx if reading fails.
func (p *pass) read(ctx context.Context, cancel context.CancelCauseFunc, free <-chan *chunk, toFile, toBlocks chan<- *chunk) {
	for off := int64(0); off < p.imageSize; off += chunkSize {
		var c *chunk
		select {
		case <-ctx.Done():
			return
		case c = <-free:
		}
		c.index = off / chunkSize
		c.data = c.data[:min(chunkSize, p.imageSize-off)]
		// ReadAt may return io.EOF along with the last byte.
		if n, err := p.image.ReadAt(c.data, off); n < len(c.data) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			cancel(fmt.Errorf("reading the image at %d of %d bytes: %w", off+int64(n), p.imageSize, err))
			return
		}
		c.users.Store(2)
		toFile <- c
		toBlocks <- c
	}
}

// hashChunk hashes the blocks of c, writes their hash block, and puts the hash
// of that into digests.
func (p *pass) hashChunk(h *blockHash, c *chunk, digests []byte) error {
	// A tail behind the last whole block is not hashed (Options.IgnoreTail),
	// and a chunk can consist of nothing else.
	blocks := len(c.data) / BlockSize
	if blocks == 0 {
		return nil
	}
	hashBlock := make([]byte, BlockSize) // padded with zeros
	leaves := hashBlock[:0]
	for i := range blocks {
		leaves = h.appendSum(leaves, c.data[i*BlockSize:(i+1)*BlockSize])
	}
	place := digests[c.index*sha256.Size : (c.index+1)*sha256.Size]
	if len(p.levels) == 0 {
		copy(place, leaves)
		return nil
	}
	if _, err := p.tree.WriteAt(hashBlock, p.levels[0].offset+c.index*BlockSize); err != nil {
		return fmt.Errorf("writing hash block %d of level 0: %w", c.index, err)
	}
	h.appendSum(place[:0], hashBlock)
	return nil
}

// blockHash computes the salted hash of one block after the other. Hash type 1
// puts the salt before the block.
type blockHash struct {
	sha256 hash.Hash
	salt   []byte
}

func newBlockHash(salt []byte) *blockHash {
	return &blockHash{sha256: sha256.New(), salt: salt}
}

// appendSum appends the hash of block to dst.
func (b *blockHash) appendSum(dst, block []byte) []byte {
	b.sha256.Reset()
	b.sha256.Write(b.salt)
	b.sha256.Write(block)
	return b.sha256.Sum(dst)
}
