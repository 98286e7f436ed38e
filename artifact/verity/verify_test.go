package verity_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/artifact/verity"
)

// Where things lie in the sample of TestVerifyRefuses: 300 data blocks, so
// the leaves fill 3 hash blocks, the last of them with 44 hashes.
const (
	rootBlock = 1 * verity.BlockSize
	leafBlock = 2 * verity.BlockSize
)

func TestVerifyRefuses(t *testing.T) {
	// m is what a row may alter before it is verified.
	type m struct {
		image, tree []byte
		root        verity.Digest
	}
	flip := func(b []byte, i int) { b[i] ^= 1 }
	other, otherTree, _ := sample(t, 300, verity.Options{Salt: []byte("other"), UUID: testUUID})
	for _, test := range []struct {
		name  string
		alter func(*m)
		want  string
	}{
		{"first bit of the image", func(m *m) { flip(m.image, 0) }, "data block 0 does not match its hash"},
		{"last byte of the image", func(m *m) { flip(m.image, len(m.image)-1) }, "data block 299 does not match its hash"},
		{"byte in the middle", func(m *m) { flip(m.image, 128*4096) }, "data block 128 does not match its hash"},
		{"two blocks swapped", func(m *m) {
			tmp := bytes.Clone(m.image[:4096])
			copy(m.image, m.image[4096:8192])
			copy(m.image[4096:], tmp)
		}, "data block 0 does not match its hash"},
		{"image a block short", func(m *m) { m.image = m.image[:299*4096] }, "image has 1224704 bytes, but the superblock says 300 blocks"},
		{"image a block long", func(m *m) { m.image = append(m.image, make([]byte, 4096)...) }, "image has 1232896 bytes, but the superblock says 300 blocks"},
		{"a byte behind the image", func(m *m) { m.image = append(m.image, 0) }, "image has 1228801 bytes, but the superblock says 300 blocks"},
		{"empty image", func(m *m) { m.image = nil }, "image has 0 bytes"},

		{"root hash", func(m *m) { flip(m.root[:], 31) }, "root hash is"},
		{"root hash of zeros", func(m *m) { m.root = verity.Digest{} }, "want 00000000"},
		{"hash in the root block", func(m *m) { flip(m.tree, rootBlock+32) }, "hash block 1 of level 0 does not match its hash in level 1"},
		{"padding of the root block", func(m *m) { flip(m.tree, rootBlock+3*32) }, "padding of hash block 0 of level 1 is not zero"},
		{"first leaf", func(m *m) { flip(m.tree, leafBlock) }, "data block 0 does not match its hash"},
		{"last leaf", func(m *m) { flip(m.tree, leafBlock+300*32-1) }, "data block 299 does not match its hash"},
		{"padding of the leaves", func(m *m) { flip(m.tree, len(m.tree)-1) }, "padding of hash block 2 of level 0 is not zero"},
		{"hash file a byte long", func(m *m) { m.tree = append(m.tree, 0) }, "hash file has 20481 bytes, but the tree of 300 data blocks has 20480"},
		{"hash file a byte short", func(m *m) { m.tree = m.tree[:len(m.tree)-1] }, "hash file has 20479 bytes"},
		{"hash file with the superblock alone", func(m *m) { m.tree = m.tree[:4096] }, "hash file has 4096 bytes"},
		{"superblock cut short", func(m *m) { m.tree = m.tree[:512] }, "hash file of 512 bytes is too short"},
		{"empty hash file", func(m *m) { m.tree = nil }, "hash file of 0 bytes is too short"},
		{"hash file of another salt", func(m *m) { m.tree = otherTree }, "root hash is"},
		{"leaves of another salt", func(m *m) { copy(m.tree[leafBlock:], otherTree[leafBlock:]) }, "does not match its hash"},

		{"signature", func(m *m) { flip(m.tree, 0) }, `signature "werity`},
		{"version", func(m *m) { m.tree[8] = 2 }, "version 2, want 1"},
		{"hash type", func(m *m) { m.tree[12] = 0 }, "hash type 0, want 1"},
		{"algorithm", func(m *m) { copy(m.tree[32:], "sha512") }, `algorithm "sha512", want "sha256"`},
		{"bytes behind the algorithm", func(m *m) { m.tree[32+31] = 'x' }, "hash algorithm"},
		{"data block size", func(m *m) { m.tree[65] = 8 }, "data block size 2048, want 4096"},
		{"hash block size", func(m *m) { m.tree[69] = 2 }, "hash block size 512, want 4096"},
		{"number of blocks", func(m *m) { flip(m.tree, 72) }, "the superblock says 301 blocks"},
		{"no blocks", func(m *m) { m.tree[72], m.tree[73] = 0, 0 }, "0 data blocks"},
		{"too many blocks", func(m *m) { m.tree[76] = 2 }, "data blocks, want 1 to 4294967296"},
		{"salt size above the limit", func(m *m) { m.tree[81] = 2 }, "salt of 516 bytes"},
		{"salt size smaller", func(m *m) { m.tree[80]-- }, "bytes after the salt of 3 bytes are not zero"},
		{"salt size larger", func(m *m) { m.tree[80]++ }, "does not match its hash"},
		{"salt", func(m *m) { flip(m.tree, 88) }, "does not match its hash"},
		{"bytes behind the salt", func(m *m) { m.tree[343] = 1 }, "bytes after the salt of 4 bytes are not zero"},
		{"first padding", func(m *m) { m.tree[82] = 1 }, "padding is not zero"},
		{"second padding", func(m *m) { m.tree[511] = 1 }, "padding is not zero"},
		{"bytes behind the superblock", func(m *m) { m.tree[4095] = 1 }, "bytes behind the superblock are not zero"},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, tree, result := sample(t, 300, verity.Options{Salt: []byte("salt"), UUID: testUUID})
			m := m{image, tree, result.Root}
			test.alter(&m)
			_, err := verity.Verify(context.Background(), bytes.NewReader(m.image), bytes.NewReader(m.tree), m.root, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "writing") {
				t.Errorf("error %q speaks of writing", err)
			}
		})
	}
	// What belongs together is accepted, and so nothing above was refused for
	// the sample's own sake.
	result, err := verity.Verify(context.Background(), bytes.NewReader(other), bytes.NewReader(otherTree), rootOf(t, other, "other"), nil)
	if err != nil || result.Blocks != 300 {
		t.Errorf("the untouched sample: %v, %v", result, err)
	}
}

func rootOf(t *testing.T, image []byte, salt string) verity.Digest {
	t.Helper()
	result, err := verity.Build(context.Background(), bytes.NewReader(image), new(memory), verity.Options{Salt: []byte(salt)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result.Root
}

func TestVerifyBareRefuses(t *testing.T) {
	image, tree, result := sample(t, 300, verity.Options{Salt: []byte("salt"), NoSuperblock: true})
	one, empty, oneResult := sample(t, 1, verity.Options{Salt: []byte("salt"), NoSuperblock: true})
	if len(empty) != 0 {
		t.Errorf("tree of one block has %d bytes, want 0", len(empty))
	}
	for _, test := range []struct {
		name        string
		image, tree []byte
		salt        string
		root        verity.Digest
		want        string // "" if it is fine
	}{
		{"untouched", image, tree, "salt", result.Root, ""},
		{"untouched, one block", one, empty, "salt", oneResult.Root, ""},
		{"wrong salt", image, tree, "pepper", result.Root, "does not match its hash"},
		{"no salt", image, tree, "", result.Root, "does not match its hash"},
		{"long salt", image, tree, strings.Repeat("x", 257), result.Root, "salt of 257 bytes"},
		{"tail", append(bytes.Clone(image), 1), tree, "salt", result.Root, "its last 1 bytes would not be protected"},
		{"shorter image", image[:299*4096], tree, "salt", result.Root, "padding of hash block 2 of level 0"},
		{"much shorter image", image[:4096], tree, "salt", result.Root, "hash file has 16384 bytes, but the tree of 1 data blocks has 0"},
		{"wrong salt, one block", one, empty, "pepper", oneResult.Root, "root hash is"},
		{"root of the other image", one, empty, "salt", result.Root, "root hash is"},
	} {
		_, err := verity.VerifyBare(context.Background(), bytes.NewReader(test.image), bytes.NewReader(test.tree), []byte(test.salt), test.root, nil)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// Callers tell "altered" from "could not read".
func TestMismatchError(t *testing.T) {
	image, tree, result := sample(t, 300, verity.Options{})
	image[5] ^= 1
	_, err := verity.Verify(context.Background(), bytes.NewReader(image), bytes.NewReader(tree), result.Root, nil)
	if differs := new(verity.MismatchError); !errors.As(err, &differs) {
		t.Errorf("altered image: %T %v, want a *MismatchError", err, err)
	}
	_, err = verity.Verify(context.Background(), failing{size: int64(len(image)), err: os.ErrPermission}, bytes.NewReader(tree), result.Root, nil)
	if differs := new(verity.MismatchError); errors.As(err, &differs) || !errors.Is(err, os.ErrPermission) {
		t.Errorf("unreadable image: %T %v, want %v", err, err, os.ErrPermission)
	}
}

// What ParseSuperblock accepts has one encoding: Build writes the same bytes
// for the same values. The seeds are superblocks of real trees, and near misses.
func FuzzParseSuperblock(f *testing.F) {
	seeds := 0
	add := func(b []byte) { seeds++; f.Add(b) }
	for _, opts := range []verity.Options{{}, {Salt: []byte("salt"), UUID: testUUID}, {Salt: bytes.Repeat([]byte{1}, 256)}} {
		_, tree, _ := sample(f, 2, opts)
		add(tree[:verity.SuperblockSize])
		for _, off := range []int{0, 8, 12, 32, 63, 64, 68, 79, 81, 82, 343, 511} {
			altered := bytes.Clone(tree[:verity.SuperblockSize])
			altered[off] ^= 0x10
			add(altered)
		}
	}
	stored, err := filepath.Glob("testdata/*.superblock")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range stored {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		add(b)
	}
	if len(stored) == 0 || seeds < 40 {
		f.Fatalf("the seed corpus is empty: %d stored superblocks, %d seeds", len(stored), seeds)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sb, err := verity.ParseSuperblock(b)
		if err != nil {
			if sb != nil {
				t.Errorf("both %v and %v", sb, err)
			}
			return
		}
		if sb.Blocks > 1000 {
			sb.Blocks = 2 // too large to build: compare the rest
			b = bytes.Clone(b)
			clear(b[72:80])
			b[72] = 2
		}
		_, tree, _ := sample(t, int(sb.Blocks), verity.Options{Salt: sb.Salt, UUID: sb.UUID})
		if !bytes.Equal(tree[:verity.SuperblockSize], b) {
			t.Errorf("parsed\n%x\nwhich Build writes as\n%x", b, tree[:verity.SuperblockSize])
		}
	})
}
