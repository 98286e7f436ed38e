package ceremony_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// redigest puts the digest right in the third line of a bundle, or returns nil.
func redigest(data []byte) []byte {
	lines := bytes.SplitAfterN(data, []byte("\n"), 4)
	if len(lines) != 4 {
		return nil
	}
	message := append(bytes.Clone(lines[0]), lines[1]...)
	return append(fmt.Appendf(bytes.Clone(message), "sha256 %x\n", sha256.Sum256(message)), lines[3]...)
}

// TestWriteSeeds makes testdata/fuzz anew, on demand only.
func TestWriteSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	save := func(fuzzer, name string, data []byte) {
		dir := filepath.Join("testdata", "fuzz", fuzzer)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	k := key(t)
	q, a := request(), response()
	if err := errors.Join(q.Seal(), a.Seal()); err != nil {
		t.Fatal(err)
	}
	save("FuzzParseRequest", "unsigned", q.Marshal())
	if err := errors.Join(q.Sign("sub", k, algorithm), q.Sign("other", k, algorithm), a.Sign("root", k, algorithm)); err != nil {
		t.Fatal(err)
	}
	save("FuzzParseRequest", "signed", q.Marshal())
	save("FuzzParseRequest", "response", a.Marshal())
	save("FuzzParseResponse", "signed", a.Marshal())
	save("FuzzParseResponse", "request", q.Marshal())
}
