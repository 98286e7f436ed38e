package backup

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestWriteSeeds makes testdata/fuzz anew, on demand only.
func TestWriteSeeds(t *testing.T) {
	if os.Getenv("WRITE_SEEDS") == "" {
		t.Skip("WRITE_SEEDS is not set")
	}
	good := archived(t, sample())
	for name, data := range map[string][]byte{
		"good":     good,
		"manifest": good[:len(good)/2],
		"name":     bytes.Replace(good, []byte("pki/certs/a.cert"), []byte("pki/../../a.cert"), 1),
	} {
		dir := filepath.Join("testdata", "fuzz", "FuzzArchive")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
