package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPublishKeepsKeys publishes files in the places of keys, by names of these
// that Load can't see through.
func TestPublishKeepsKeys(t *testing.T) {
	for name, place := range map[string]func(dir string) string{
		"absolute": func(dir string) string { return filepath.Join(dir, "ssig_cml.cert") },
		"through a link": func(dir string) string {
			if err := os.Symlink(".", filepath.Join(dir, "keys")); err != nil {
				t.Fatal(err)
			}
			return "keys/ssig_cml.cert"
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			text := strings.Replace(string(allEC(t)), "\n  ssig_cml:", "\n  ssig_cml:\n    place: \"file:"+place(dir)+"\"", 1)
			if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Apply(t.Context(), dir, testOptions(nil))
			if err == nil || !strings.Contains(err.Error(), "publish.ssig_cml.cert: is the place of the key of ssig_cml") {
				t.Fatalf("error %v", err)
			}
			if made, _ := filepath.Glob(filepath.Join(dir, "*.*")); len(made) != 1 {
				t.Errorf("%q are left", made)
			}
		})
	}
}

// TestPublishOverKey stands for a file system that takes two names for one.
func TestPublishOverKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), allEC(t), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(t.Context(), dir, testOptions(nil)); err != nil {
		t.Fatal(err)
	}
	key, cert := filepath.Join(dir, "ssig_cml.key"), filepath.Join(dir, "ssig_cml.cert")
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(key, cert); err != nil {
		t.Fatal(err)
	}
	_, err := Apply(t.Context(), dir, testOptions(nil))
	if err == nil || !strings.Contains(err.Error(), "ssig_cml.cert: the key of ssig_cml is there") {
		t.Errorf("error %v", err)
	}
}
