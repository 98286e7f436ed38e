package ima

import (
	"bytes"
	"path/filepath"
	"testing"
)

// FuzzParse: what Parse takes, Marshal writes back.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.sig")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds in testdata (%v)", err)
	}
	for _, path := range seeds {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Marshal(), b) {
			t.Errorf("parsed %x, wrote %x", b, s.Marshal())
		}
	})
}
