package spki_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"tmpki/spki"
)

// needSeeds fails if the committed corpus of a fuzzer is gone: without it, the
// fuzzer passes and tests nothing. TestWriteSeeds makes it.
func needSeeds(f *testing.F) {
	f.Helper()
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name()))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seed corpus for %s (%v); make it with: WRITE_SEEDS=1 go test -run TestWriteSeeds ./spki", f.Name(), err)
	}
}

// FuzzParsePublicKey: what is read can be written, and reads the same again. The
// octets are the same as well, except that PSS hash parameters may be absent,
// and the trailer field present, when read.
func FuzzParsePublicKey(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		pub, err := spki.ParsePublicKey(der)
		if err != nil {
			return
		}
		again, err := spki.MarshalPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := pub.(*spki.PSSPublicKey); !ok && !bytes.Equal(again, der) {
			t.Fatalf("written as %x", again)
		}
		same, err := spki.ParsePublicKey(again)
		if err != nil || !spki.Equal(same, pub) {
			t.Fatalf("%x comes back as %v, %v", again, same, err)
		}
		if third, err := spki.MarshalPublicKey(same); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%x, then %x, %v", again, third, err)
		}
	})
}

// FuzzParseSignatureAlgorithm is FuzzParsePublicKey for signature algorithms.
func FuzzParseSignatureAlgorithm(f *testing.F) {
	needSeeds(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		a, err := spki.ParseSignatureAlgorithm(der)
		if err != nil {
			return
		}
		again, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if a.Scheme != spki.PSS && !bytes.Equal(again, der) {
			t.Fatalf("written as %x", again)
		}
		if same, err := spki.ParseSignatureAlgorithm(again); err != nil || same != a {
			t.Fatalf("%x comes back as %v, %v", again, same, err)
		}
	})
}
