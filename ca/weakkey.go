package ca

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"math/bits"

	"tmpki/spki"
)

// CheckKey reports, as a *RejectedError, why a public key must not be certified:
// it is too short, or its private part can be computed from it. It finds RSA keys
// with a small factor, with primes too close to each other (Fermat's method), and
// those of the library with the ROCA flaw (CVE-2017-15361). Keys that are weak
// because somebody else has them too are found by lists only: see CompromisedKeys.
func CheckKey(pub crypto.PublicKey) error {
	t, err := spki.KeyTypeOf(pub)
	if err != nil {
		return rejectf("publicKey: %v", err)
	}
	if key, ok := spki.RSAKey(pub); ok {
		return checkRSA(t, key)
	}
	if key, ok := pub.(ed25519.PublicKey); ok && smallOrder(key) {
		return rejectf("publicKey: a point of small order, under which signatures can be forged")
	}
	return nil // the points of other curves were checked when they were parsed
}

// minExponent is the least public exponent that is certified: the one below this
// is 3, 17 or the like, with which a sloppy padding gives messages away (NIST SP
// 800-56B, Section 6.2 asks for more than 2^16 too).
const minExponent = 65537

func checkRSA(t spki.KeyType, key *rsa.PublicKey) error {
	if t.Bits < minRSABits {
		return rejectf("publicKey: RSA %d is too short, %d bits are the least", t.Bits, minRSABits)
	}
	if key.N.Bit(0) == 0 {
		return rejectf("publicKey: the modulus is even")
	}
	if key.E < minExponent || key.E%2 == 0 {
		return rejectf("publicKey: exponent %d: an odd number of at least %d is asked for", key.E, minExponent)
	}
	roca := true
	for _, group := range smallPrimes {
		rest := modWord(key.N, group.product)
		for _, p := range group.primes {
			r := rest % p.prime
			if r == 0 {
				return rejectf("publicKey: the modulus is divisible by %d", p.prime)
			}
			roca = roca && (p.powers == nil || p.powers[r])
		}
	}
	if roca {
		return rejectf("publicKey: made by a library with the ROCA flaw (CVE-2017-15361), its private key can be computed")
	}
	if fermat(key.N) {
		return rejectf("publicKey: the two primes are so close to each other that the private key can be computed (CVE-2022-26320)")
	}
	return nil
}

// smallPrimes holds the odd primes below 752, as NIST SP 800-89, Section 5.3.3 has
// them, in groups whose product fits a word: one pass over the modulus for each.
var smallPrimes = makeSmallPrimes()

type primeGroup struct {
	product uint64
	primes  []smallPrime
}

type smallPrime struct {
	prime uint64
	// powers says which residues are powers of 65537, for the primes up to 167.
	// Primes of the ROCA library are k·M + (65537^a mod M), with M a product of
	// the first primes. So both primes, and the modulus, are powers of 65537
	// modulo each of them. For a random modulus that is so once in 2^28.
	powers []bool
}

func makeSmallPrimes() []primeGroup {
	groups := []primeGroup{{product: 1}}
	for p := uint64(3); p < 752; p += 2 {
		if !big.NewInt(int64(p)).ProbablyPrime(0) { // sure below 2^64
			continue
		}
		small := smallPrime{prime: p}
		if p <= 167 {
			small.powers = make([]bool, p)
			for x := uint64(1); !small.powers[x]; x = x * 65537 % p {
				small.powers[x] = true
			}
		}
		last := &groups[len(groups)-1]
		if hi, _ := bits.Mul64(last.product, p); hi != 0 {
			groups = append(groups, primeGroup{product: 1})
			last = &groups[len(groups)-1]
		}
		last.product *= p
		last.primes = append(last.primes, small)
	}
	return groups
}

// modWord returns n modulo m.
func modWord(n *big.Int, m uint64) uint64 {
	if bits.UintSize != 64 {
		return new(big.Int).Mod(n, new(big.Int).SetUint64(m)).Uint64()
	}
	words := n.Bits()
	var r uint64
	for i := len(words) - 1; i >= 0; i-- {
		_, r = bits.Div64(r, uint64(words[i]), m)
	}
	return r
}

// fermatRounds is what the CA/Browser Forum asks of its members (Baseline
// Requirements, Section 6.1.1.3). Keys of the flawed generator fall in one.
const fermatRounds = 100

// fermat reports whether n = a² - b² is found with an a close to the root of n.
func fermat(n *big.Int) bool {
	one := big.NewInt(1)
	a := new(big.Int).Sqrt(n)
	if a2 := new(big.Int).Mul(a, a); a2.Cmp(n) == 0 {
		return true // the square of a number
	}
	a.Add(a, one)
	b2 := new(big.Int).Mul(a, a)
	b2.Sub(b2, n)
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, one) // (a+1)² - a²
	root, square := new(big.Int), new(big.Int)
	for range fermatRounds {
		// Of 64 residues 12 are those of squares, of 3·5·7·11·13·17·19·23·29·31
		// few: the root is needed for one in some ten thousand.
		if squares64>>(uint64(b2.Bits()[0])&63)&1 == 1 && maybeSquare(b2) {
			root.Sqrt(b2)
			if square.Mul(root, root).Cmp(b2) == 0 {
				return true
			}
		}
		b2.Add(b2, step)
		step.Add(step, big.NewInt(2))
	}
	return false
}

// squares64 has a bit for each residue of a square modulo 64.
var squares64 = func() (set uint64) {
	for i := range uint64(64) {
		set |= 1 << (i * i % 64)
	}
	return set
}()

// squares has the residues of squares modulo some primes.
var squares = func() map[uint64][]bool {
	sets := map[uint64][]bool{}
	for _, p := range []uint64{3, 5, 7, 11, 13, 17, 19, 23, 29, 31} {
		sets[p] = make([]bool, p)
		for i := range p {
			sets[p][i*i%p] = true
		}
	}
	return sets
}()

const squaresProduct = 3 * 5 * 7 * 11 * 13 * 17 * 19 * 23 * 29 * 31

func maybeSquare(n *big.Int) bool {
	r := modWord(n, squaresProduct)
	for p, set := range squares {
		if !set[r%p] {
			return false
		}
	}
	return true
}

// smallOrders are the y coordinates of the points of Ed25519 whose order divides
// 8, in each encoding that decoders take, without the bit of the sign of x.
var smallOrders = []string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func smallOrder(key ed25519.PublicKey) bool {
	y := append([]byte(nil), key...)
	y[len(y)-1] &= 0x7f
	for _, s := range smallOrders {
		if hex.EncodeToString(y) == s {
			return true
		}
	}
	return false
}
