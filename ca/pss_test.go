package ca

import (
	"crypto"
	"crypto/rsa"
	"encoding/binary"
	"math/big"
)

// pssWithoutSalt makes what crypto/rsa can't: RSASSA-PSS with an empty salt (RFC
// 8017, Section 9.1.1).
func pssWithoutSalt(key *rsa.PrivateKey, hash crypto.Hash, digest []byte) []byte {
	return pssSign(key, hash, hash, digest, nil)
}

// pssSign makes a PSS signature whose mask may have another hash.
func pssSign(key *rsa.PrivateKey, hash, mgf crypto.Hash, digest, salt []byte) []byte {
	emBits := key.N.BitLen() - 1
	emLen := (emBits + 7) / 8
	h := hash.New()
	h.Write(make([]byte, 8))
	h.Write(digest)
	h.Write(salt)
	sum := h.Sum(nil)
	db := make([]byte, emLen-len(sum)-1)
	copy(db[len(db)-len(salt):], salt)
	db[len(db)-len(salt)-1] = 1
	for i, offset := 0, 0; offset < len(db); i++ {
		m := mgf.New()
		m.Write(sum)
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
		for _, c := range m.Sum(nil) {
			if offset < len(db) {
				db[offset] ^= c
				offset++
			}
		}
	}
	db[0] &= 0xff >> (8*emLen - emBits)
	em := append(append(db, sum...), 0xbc)
	s := new(big.Int).Exp(new(big.Int).SetBytes(em), key.D, key.N)
	return s.FillBytes(make([]byte, key.Size()))
}
