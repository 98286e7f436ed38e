package ca

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"tmpki/spki"
)

// CompromisedKeys is a set of public keys whose private keys others have, such as
// those of Debian's OpenSSL of 2006 to 2008 (CVE-2008-0166), of which there were
// some hundred thousand in the world. Its zero value, and nil, is empty.
type CompromisedKeys struct {
	moduli [][10]byte // sorted
	spkis  [][32]byte // sorted
}

// Add reads a list, one key in a line: the last 20 hexadecimal digits of the SHA-1
// of "Modulus=", the modulus in capital hexadecimal digits and a newline, as the
// files of openssl-blacklist have it; or the SHA-256 of the SubjectPublicKeyInfo in
// 64. Lines that begin with # and empty ones are passed over.
func (c *CompromisedKeys) Add(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		switch {
		case err == nil && len(b) == 10:
			c.moduli = append(c.moduli, [10]byte(b))
		case err == nil && len(b) == 32:
			c.spkis = append(c.spkis, [32]byte(b))
		default:
			return fmt.Errorf("line %d: %.80q is neither 20 nor 64 hexadecimal digits", n, line)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	slices.SortFunc(c.moduli, func(a, b [10]byte) int { return bytes.Compare(a[:], b[:]) })
	slices.SortFunc(c.spkis, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return nil
}

// Len returns the number of keys.
func (c *CompromisedKeys) Len() int {
	if c == nil {
		return 0
	}
	return len(c.moduli) + len(c.spkis)
}

// Contains reports whether a key is in the set.
func (c *CompromisedKeys) Contains(pub crypto.PublicKey) bool {
	if c.Len() == 0 {
		return false
	}
	if key, ok := spki.RSAKey(pub); ok && len(c.moduli) > 0 {
		sum := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", key.N))
		last := [10]byte(sum[10:])
		if _, ok := slices.BinarySearchFunc(c.moduli, last, func(a, b [10]byte) int { return bytes.Compare(a[:], b[:]) }); ok {
			return true
		}
	}
	if len(c.spkis) == 0 {
		return false
	}
	der, err := spki.MarshalPublicKey(pub)
	if err != nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(c.spkis, sha256.Sum256(der), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return ok
}
