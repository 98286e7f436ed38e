package efi

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

const checksumSize = 4

// CheckChecksum reads the whole image and returns an error if its CheckSum is
// neither 0 nor right. Firmware does not look at it, and no signature covers
// it, so it proves nothing; but somebody hides octets there, or has changed the
// image with a careless tool. Sign corrects it.
func (img *Image) CheckChecksum() error {
	at := img.layout
	var field [checksumSize]byte
	if err := readAt(img.file, field[:], at.checksum); err != nil {
		return fmt.Errorf("EFI image: %w", err)
	}
	var sum wordSum
	if err := img.copySpans(&sum, span{0, at.checksum}, span{at.checksum + checksumSize, at.size}); err != nil {
		return err
	}
	got, want := binary.LittleEndian.Uint32(field[:]), sum.checksum(at.size)
	if got != 0 && got != want {
		return fmt.Errorf("EFI image: CheckSum is %#x, neither 0 nor %#x", got, want)
	}
	return nil
}

// wordSum is a sum of little-endian 16-bit words with end-around carry, of which
// CheckSum is made. It adds 64 bits at a time, which comes to the same once the
// sum is folded.
type wordSum struct {
	sum uint64
	odd bool // an odd number of octets was written so far
}

// Write adds octets; it never fails.
func (s *wordSum) Write(p []byte) (int, error) {
	n := len(p)
	if s.odd && n > 0 {
		s.add(uint64(p[0]) << 8)
		s.odd = false
		p = p[1:]
	}
	for ; len(p) >= 32; p = p[32:] { // four at once, each with the carry of the one before
		sum, carry := bits.Add64(s.sum, binary.LittleEndian.Uint64(p), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
		s.sum, carry = bits.Add64(sum, 0, carry)
		s.sum += carry
	}
	for ; len(p) >= 8; p = p[8:] {
		s.add(binary.LittleEndian.Uint64(p))
	}
	if len(p) > 0 {
		var last [8]byte
		copy(last[:], p)
		s.add(binary.LittleEndian.Uint64(last[:]))
		s.odd = len(p)%2 == 1
	}
	return n, nil
}

func (s *wordSum) add(word uint64) {
	sum, carry := bits.Add64(s.sum, word, 0)
	s.sum = sum + carry
}

// checksum returns CheckSum of a file of so many octets, all of which but
// CheckSum itself were written.
func (s *wordSum) checksum(size int64) uint32 {
	sum := s.sum
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum) + uint32(size)
}
