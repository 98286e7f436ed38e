package guestos

import (
	"fmt"
	"os"
	"path/filepath"
)

// tree is a hash tree that is being written under a temporary name beside its
// final one. A nil tree is none, and publish and discard do nothing with it.
type tree struct {
	file *os.File
	path string // the final name
}

// createTree creates the temporary file for the tree at path.
func createTree(path string) (*tree, error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("creating the hash tree: %w", err)
	}
	return &tree{file, path}, nil
}

// finish brings the tree to the disk and makes it readable to all: it holds
// nothing secret.
func (t *tree) finish() error {
	if err := t.file.Chmod(0o644); err != nil {
		return err
	}
	if err := t.file.Sync(); err != nil {
		return err
	}
	return t.file.Close()
}

// publish gives the finished tree its name. The tree is the caller's then.
func (t *tree) publish() error {
	if t == nil {
		return nil
	}
	if err := os.Rename(t.file.Name(), t.path); err != nil {
		return fmt.Errorf("publishing the hash tree: %w", err)
	}
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// discard removes the temporary file. It does no harm after publish.
func (t *tree) discard() {
	if t == nil {
		return
	}
	t.file.Close()
	os.Remove(t.file.Name()) // gone already if it was published
}
