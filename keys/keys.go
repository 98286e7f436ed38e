// Package keys makes private keys, reads and writes them, and opens them where
// a key URI says they live. It follows PKCS#8 (RFC 5958), its encryption PBES2
// (RFC 8018, RFC 7914 for scrypt), and the pkcs11: URI scheme (RFC 7512).
//
// Every key is a crypto.Signer: *rsa.PrivateKey, *ecdsa.PrivateKey,
// ed25519.PrivateKey, a *TokenKey in a PKCS#11 token, or *spki.PSSSigner over an
// RSA key. The package returns bytes and never writes a file: who writes them
// knows whether one may be replaced. In tokens it does write, and replaces no key.
//
// PKCS#11 (version 2.40) needs cgo, which stands in cryptoki_cgo.go alone. What
// it asks of a token is kept in the interface cryptoki, and no token is known by
// its name.
//
// It leaves out DER files, and keys encrypted in the traditional PEM form
// (Proc-Type: 4,ENCRYPTED).
package keys

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"tmpki/spki"
)

// Generate makes a new key: *rsa.PrivateKey, *spki.PSSSigner over one,
// *ecdsa.PrivateKey or ed25519.PrivateKey. It makes those types that
// spki.ParseKeyType reads, and refuses all others.
func Generate(t spki.KeyType) (crypto.Signer, error) {
	// A KeyType can also be put together by hand; ParseKeyType knows which ones exist.
	if known, err := spki.ParseKeyType(t.String()); err != nil || known != t {
		return nil, fmt.Errorf("generating a key: no key of type %v can be made", t)
	}
	switch t.Kind {
	case spki.RSA:
		return asSigner(rsa.GenerateKey(rand.Reader, t.Bits))
	case spki.RSAPSS:
		key, err := rsa.GenerateKey(rand.Reader, t.Bits)
		if err != nil {
			return nil, fmt.Errorf("generating a key: %w", err)
		}
		return &spki.PSSSigner{Signer: key}, nil
	case spki.EC:
		curve, err := curveByName(t.Curve)
		if err != nil {
			return nil, fmt.Errorf("generating a key: %w", err)
		}
		return asSigner(ecdsa.GenerateKey(curve, rand.Reader))
	case spki.Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return asSigner(key, err)
	default:
		return nil, fmt.Errorf("generating a key: unknown kind of key type %v", t)
	}
}

// asSigner keeps a failed generation from becoming a signer that is not nil.
func asSigner[K crypto.Signer](key K, err error) (crypto.Signer, error) {
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	return key, nil
}

func curveByName(name string) (elliptic.Curve, error) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if curve.Params().Name == name {
			return curve, nil
		}
	}
	return nil, fmt.Errorf("curve %q is not supported", name)
}

// GenerateAll makes one key per type, in the order of types, on all cores. The
// keys that take longest start first, so that none of them runs alone at the
// end. After each key it calls done, if not nil, with the index of the key;
// these calls never overlap.
//
// When ctx ends, or one key fails, no further key starts; GenerateAll returns
// the error once the keys under way are finished, which takes seconds for
// RSA-4096. It returns either all keys or none.
func GenerateAll(ctx context.Context, types []spki.KeyType, done func(i int)) ([]crypto.Signer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// 1. Hand out the indices, the costliest key first.
	order := make([]int, len(types))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(cost(types[b]), cost(types[a])) })
	todo := make(chan int)
	go func() {
		defer close(todo)
		for _, i := range order {
			select {
			case todo <- i:
			case <-ctx.Done():
				return
			}
		}
	}()

	// 2. Work them off. Each worker owns the slots of the indices that it took.
	signers := make([]crypto.Signer, len(types))
	finished := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(types)) {
		workers.Go(func() {
			for i := range todo {
				if ctx.Err() != nil {
					return
				}
				signer, err := Generate(types[i])
				if err != nil {
					cancel(err)
					return
				}
				signers[i] = signer
				finished <- i
			}
		})
	}
	go func() { workers.Wait(); close(finished) }()

	// 3. Report from this goroutine alone.
	count := 0
	for i := range finished {
		count++
		if done != nil {
			done(i)
		}
	}
	if count < len(types) {
		return nil, context.Cause(ctx)
	}
	return signers, nil
}

// cost ranks how long a key of type t takes to make: only RSA takes long.
func cost(t spki.KeyType) int {
	return t.Bits
}
