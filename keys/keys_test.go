package keys

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync/atomic"
	"testing"

	"tmpki/spki"
)

func TestGenerate(t *testing.T) {
	for _, s := range []string{"rsa:2048", "rsa-pss:2048", "ec:P-256", "ec:P-384", "ec:P-521", "ed25519"} {
		want, err := spki.ParseKeyType(s)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := Generate(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := spki.KeyTypeOf(signer.Public()); err != nil || got != want {
			t.Errorf("%s: made a key of type %v, %v", s, got, err)
		}
		a, err := spki.DefaultAlgorithm(want, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Sign(signer, []byte("m")); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, bad := range []spki.KeyType{
		{}, {Kind: spki.RSA}, {Kind: spki.RSA, Bits: 1024}, {Kind: spki.RSAPSS, Bits: 1 << 20}, {Kind: spki.RSA, Bits: 2048, Curve: "P-256"},
		{Kind: spki.EC}, {Kind: spki.EC, Curve: "P-224"}, {Kind: spki.EC, Curve: "prime256v1"}, {Kind: 99},
	} {
		if signer, err := Generate(bad); err == nil || signer != nil {
			t.Errorf("%+v: made %v, %v", bad, signer, err)
		}
	}
}

func TestGenerateAll(t *testing.T) {
	rsa, ec, ed := spki.KeyType{Kind: spki.RSA, Bits: 2048}, spki.KeyType{Kind: spki.EC, Curve: "P-256"}, spki.KeyType{Kind: spki.Ed25519}

	t.Run("all", func(t *testing.T) {
		types := []spki.KeyType{ed, rsa, ec, ed, {Kind: spki.RSAPSS, Bits: 2048}, ec}
		calls := make([]int, len(types)) // the race detector sees calls that overlap
		signers, err := GenerateAll(context.Background(), types, func(i int) { calls[i]++ })
		if err != nil || len(signers) != len(types) {
			t.Fatal(signers, err)
		}
		for i, signer := range signers {
			if got, err := spki.KeyTypeOf(signer.Public()); err != nil || got != types[i] || calls[i] != 1 {
				t.Errorf("key %d: type %v, want %v; done called %d times (%v)", i, got, types[i], calls[i], err)
			}
		}
		if signers[0].Public().(ed25519.PublicKey).Equal(signers[3].Public()) {
			t.Error("two keys are one")
		}
	})
	t.Run("none", func(t *testing.T) {
		if signers, err := GenerateAll(context.Background(), nil, nil); err != nil || len(signers) != 0 {
			t.Error(signers, err)
		}
	})
	t.Run("one fails", func(t *testing.T) {
		signers, err := GenerateAll(context.Background(), []spki.KeyType{ed, {}, ed}, nil)
		checkError(t, err, "no key of type none")
		if signers != nil {
			t.Error("keys beside an error")
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := GenerateAll(ctx, []spki.KeyType{rsa, rsa}, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("cancelled within", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		types := make([]spki.KeyType, 1000)
		for i := range types {
			types[i] = ed
		}
		var count atomic.Int64
		_, err := GenerateAll(ctx, types, func(int) { count.Add(1); cancel() })
		if !errors.Is(err, context.Canceled) || count.Load() == 1000 {
			t.Errorf("%v after %d keys", err, count.Load())
		}
	})
}
