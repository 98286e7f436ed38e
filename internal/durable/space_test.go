package durable

import (
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckSpace(t *testing.T) {
	dir := t.TempDir()
	if err := CheckSpace(dir, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := CheckSpace(dir, math.MaxInt64, 1); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("all the world's octets: %v", err)
	}
	if err := CheckSpace(filepath.Join(dir, "none"), 1, 1); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no directory: %v", err)
	}
}
