package guestos_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tmpki/artifact/guestos"
	"tmpki/artifact/verity"
	"tmpki/internal/tooltest"
)

// images adds to the template a second image without a tree, mounted twice, and
// a third one that is only stored.
const images = template + `
mounts { image_file: "modules" mount_point: "/lib/modules" fs_type: "ext4" mount_type: SHARED }
mounts_setup { image_file: "modules" mount_point: "/lib/modules" fs_type: "ext4" mount_type: OVERLAY_RO }
mounts { image_file: "boot" mount_point: "" fs_type: "" mount_type: STORE_ONLY }
`

// buildTime is a time in another zone than UTC.
var buildTime = time.Date(2026, 1, 1, 1, 30, 0, 999, time.FixedZone("CET", 3600))

// imageDir returns a directory with the images of the template.
func imageDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	writeImage(t, dir, "root", 300*4096)
	writeImage(t, dir, "modules", 5<<20+1)
	writeImage(t, dir, "boot", 17)
	return dir
}

func writeImage(t testing.TB, dir, name string, size int) {
	t.Helper()
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(b)
	if err := os.WriteFile(filepath.Join(dir, name+".img"), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func parseGuestOS(t testing.TB, text string) *guestos.GuestOSConfig {
	t.Helper()
	cfg, _, err := guestos.ParseGuestOS([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// build builds the template reproducibly into dir.
func build(t testing.TB, dir string) *guestos.Built {
	t.Helper()
	built, err := guestos.Build(context.Background(), parseGuestOS(t, images), guestos.BuildOptions{
		Version: 7, BuildDate: buildTime, ImageDir: dir, Reproducible: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func fileNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBuild(t *testing.T) {
	dir, hashDir := imageDir(t), t.TempDir()
	tmpl := parseGuestOS(t, images)
	before := proto.CloneOf(tmpl)
	var done, total int64
	built, err := guestos.Build(context.Background(), tmpl, guestos.BuildOptions{
		Name: "other", Version: 7, UpstreamVersion: "7.1-rc", BuildDate: buildTime,
		ImageDir: dir, HashDir: hashDir, Reproducible: true,
		Progress: func(d, t int64) {
			if d <= done {
				panic("progress goes backwards")
			}
			done, total = d, t
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(tmpl, before) {
		t.Error("the template was altered")
	}
	if want := int64(300*4096 + 5<<20 + 1 + 17); done != want || total != want {
		t.Errorf("progress %d of %d, want %d", done, total, want)
	}

	// The config says what is there.
	cfg := built.Config
	if built.BaseName != "other-7" || cfg.GetName() != "other" || cfg.GetVersion() != 7 || cfg.GetUpstreamVersion() != "7.1-rc" {
		t.Errorf("%s: %v", built.BaseName, cfg)
	}
	if got, want := cfg.GetBuildDate(), "2026-01-01T00:30:00UTC"; got != want {
		t.Errorf("build_date %q, want %q", got, want)
	}
	for _, m := range []*guestos.GuestOSMount{cfg.MountsSetup[0], cfg.MountsSetup[1], cfg.Mounts[2], cfg.Mounts[3]} {
		image, err := os.ReadFile(filepath.Join(dir, m.GetImageFile()+".img"))
		if err != nil {
			t.Fatal(err)
		}
		if m.GetImageSize() != uint64(len(image)) || m.GetImageSha2_256() != fmt.Sprintf("%x", sha256.Sum256(image)) {
			t.Errorf("image %q: %v", m.GetImageFile(), m)
		}
		if (m.ImageVeritySha256 != nil) != (m.GetImageFile() == "root") {
			t.Errorf("image %q: verity root hash %q", m.GetImageFile(), m.GetImageVeritySha256())
		}
	}
	if m := cfg.Mounts[0]; m.ImageSize != nil || m.ImageSha2_256 != nil {
		t.Errorf("mount without an image got one: %v", m)
	}
	if _, _, err := guestos.ParseGuestOS(built.Text); err != nil {
		t.Errorf("%s\n%v", built.Text, err)
	}
	if strings.Contains(string(built.Text), "sha1") {
		t.Errorf("SHA-1 in\n%s", built.Text)
	}

	// The tree is where it should be, and the real tool accepts it.
	if names := fileNames(t, hashDir); !slices.Equal(names, []string{"root.hash.img"}) {
		t.Errorf("hash directory holds %q", names)
	}
	tree := filepath.Join(hashDir, "root.hash.img")
	info, err := os.Stat(tree)
	if err != nil {
		t.Fatal(err)
	}
	root := built.Images[2] // mounts come before mounts_setup
	if root.Name != "root" || root.Verity == nil {
		t.Fatalf("images are %v", built.Images)
	}
	if info.Mode() != 0o644 || info.Size() != root.Verity.TreeSize {
		t.Errorf("hash tree has mode %v and %d bytes, want %d", info.Mode(), info.Size(), root.Verity.TreeSize)
	}
	tooltest.Run(t, "veritysetup", "verify", filepath.Join(dir, "root.img"), tree, cfg.MountsSetup[0].GetImageVeritySha256())
	dump := string(tooltest.Run(t, "veritysetup", "dump", tree))
	for _, want := range []string{"Hash algorithm:  \tsha256\n", "Data blocks:     \t300\n"} {
		if !strings.Contains(dump, want) {
			t.Errorf("veritysetup dump has no %q:\n%s", want, dump)
		}
	}
}

func TestBuildIsReproducible(t *testing.T) {
	read := func(dir string) []byte {
		tree, err := os.ReadFile(filepath.Join(dir, "root.hash.img"))
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	dir := imageDir(t)
	first := build(t, dir)
	firstTree := read(dir)
	second := build(t, dir) // over the first one
	if !bytes.Equal(first.Text, second.Text) || !bytes.Equal(firstTree, read(dir)) {
		t.Error("two reproducible builds differ")
	}

	opts := guestos.BuildOptions{Version: 8, BuildDate: buildTime, ImageDir: dir, Reproducible: true}
	if _, err := guestos.Build(context.Background(), parseGuestOS(t, images), opts); err != nil {
		t.Fatal(err)
	}
	other, err := verity.ParseSuperblock(read(dir)[:verity.SuperblockSize])
	if err != nil {
		t.Fatal(err)
	}
	same, err := verity.ParseSuperblock(firstTree[:verity.SuperblockSize])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.Salt, same.Salt) || other.UUID == same.UUID {
		t.Error("another version has the same salt or UUID")
	}

	opts.Reproducible = false
	var roots []verity.Digest
	for range 2 {
		built, err := guestos.Build(context.Background(), parseGuestOS(t, images), opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, im := range built.Images {
			if im.Verity != nil {
				roots = append(roots, im.Verity.Root)
			}
		}
	}
	if len(roots) != 2 || roots[0] == roots[1] {
		t.Errorf("two builds with random salts have the roots %x", roots)
	}
}

// Whatever fails, no tree and no temporary file is left behind.
func TestBuildRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		alter func(dir string, cfg *guestos.GuestOSConfig, opts *guestos.BuildOptions)
		want  string
	}{
		{"no version", func(_ string, _ *guestos.GuestOSConfig, opts *guestos.BuildOptions) { opts.Version = 0 }, "version of a GuestOS must be 1 or more"},
		{"no date", func(_ string, _ *guestos.GuestOSConfig, opts *guestos.BuildOptions) { opts.BuildDate = time.Time{} }, "build date of a GuestOS is not set"},
		{"unsafe name", func(_ string, _ *guestos.GuestOSConfig, opts *guestos.BuildOptions) { opts.Name = "../x" }, `name: "../x" holds a slash`},
		{"backslash", func(_ string, _ *guestos.GuestOSConfig, opts *guestos.BuildOptions) { opts.UpstreamVersion = `1\` }, `upstream_version: "1\\" holds a backslash`},
		{"missing image", func(dir string, _ *guestos.GuestOSConfig, _ *guestos.BuildOptions) {
			os.Remove(filepath.Join(dir, "modules.img"))
		}, `mounts[2]: image "modules": stat`},
		{"directory as image", func(dir string, _ *guestos.GuestOSConfig, _ *guestos.BuildOptions) {
			os.Remove(filepath.Join(dir, "modules.img"))
			os.Mkdir(filepath.Join(dir, "modules.img"), 0o755)
		}, "is not a regular file"},
		{"empty image", func(dir string, _ *guestos.GuestOSConfig, _ *guestos.BuildOptions) {
			os.Truncate(filepath.Join(dir, "boot.img"), 0)
		}, "boot.img is empty"},
		{"root not padded", func(dir string, _ *guestos.GuestOSConfig, _ *guestos.BuildOptions) {
			os.Truncate(filepath.Join(dir, "root.img"), 299*4096+1)
		}, `mounts_setup[0]: image "root": image of 1224705 bytes is not a multiple of 4096: its last 1 bytes would not be protected`},
		{"no directory for the tree", func(dir string, _ *guestos.GuestOSConfig, opts *guestos.BuildOptions) {
			opts.HashDir = filepath.Join(dir, "missing")
		}, `image "root": creating the hash tree`},
		{"missing field", func(_ string, cfg *guestos.GuestOSConfig, _ *guestos.BuildOptions) { cfg.Hardware = nil }, "hardware: is empty"},
		{"SHA-1 in the template", func(_ string, cfg *guestos.GuestOSConfig, _ *guestos.BuildOptions) {
			cfg.MountsSetup[0].ImageSha1 = proto.String("x")
		}, "SHA-1 must not be used any more"},
	} {
		dir, cfg := imageDir(t), parseGuestOS(t, images)
		opts := guestos.BuildOptions{Version: 7, BuildDate: buildTime, ImageDir: dir}
		test.alter(dir, cfg, &opts)
		_, err := guestos.Build(context.Background(), cfg, opts)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "stopped") {
			t.Errorf("%s: error %q is about more than the cause", test.name, err)
		}
		for _, name := range fileNames(t, dir) {
			if strings.Contains(name, "hash") {
				t.Errorf("%s: %s was left behind", test.name, name)
			}
		}
	}
}

func TestBuildNamesTheLine(t *testing.T) {
	dir := imageDir(t)
	os.Remove(filepath.Join(dir, "boot.img"))
	cfg, lines, err := guestos.ParseGuestOS([]byte(images))
	if err != nil {
		t.Fatal(err)
	}
	_, err = guestos.Build(context.Background(), cfg, guestos.BuildOptions{Version: 7, BuildDate: buildTime, ImageDir: dir, Lines: lines})
	if want := `line 12, column 1: mounts[3]: image "boot"`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestBuildStopsWithContext(t *testing.T) {
	dir := imageDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := guestos.Build(ctx, parseGuestOS(t, images), guestos.BuildOptions{
		Version: 7, BuildDate: buildTime, ImageDir: dir,
		Progress: func(done, total int64) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if names := fileNames(t, dir); len(names) != 3 {
		t.Errorf("left behind: %q", names)
	}
}

// A config must not say something about a file that never was as a whole.
func TestBuildRefusesChangingImage(t *testing.T) {
	dir := imageDir(t)
	var once sync.Once
	_, err := guestos.Build(context.Background(), parseGuestOS(t, images), guestos.BuildOptions{
		Version: 7, BuildDate: buildTime, ImageDir: dir,
		Progress: func(done, total int64) {
			once.Do(func() { writeImage(t, dir, "modules", 6<<20) })
		},
	})
	if err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("error %v, want that an image changed", err)
	}
}

// A template may carry the values of an earlier build, even of one whose
// images were others.
func TestBuildReplacesStaleValues(t *testing.T) {
	dir := imageDir(t)
	first := build(t, dir)
	stale := proto.CloneOf(first.Config)
	stale.MountsSetup[1].ImageSize = proto.Uint64(1)
	stale.MountsSetup[0].ImageVeritySha256 = proto.String(strings.Repeat("0", 64))
	second, err := guestos.Build(context.Background(), stale, guestos.BuildOptions{
		Version: 7, BuildDate: buildTime, ImageDir: dir, Reproducible: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Text, second.Text) {
		t.Errorf("built anew from its own config it is\n%s\nwant\n%s", second.Text, first.Text)
	}
}

func TestCheckImages(t *testing.T) {
	flip := func(t *testing.T, dir, name string, offset int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], offset); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b[:], offset); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name  string
		alter func(t *testing.T, dir string, cfg *guestos.GuestOSConfig)
		want  []string // none if all is well
	}{
		{"untouched", func(*testing.T, string, *guestos.GuestOSConfig) {}, nil},
		{"tree not asked for", func(_ *testing.T, dir string, cfg *guestos.GuestOSConfig) {
			cfg.MountsSetup[0].ImageVeritySha256 = nil
			os.Remove(filepath.Join(dir, "root.hash.img"))
		}, nil},
		{"flipped bit", func(t *testing.T, dir string, _ *guestos.GuestOSConfig) { flip(t, dir, "modules.img", 5<<20) },
			[]string{`mounts[2].image_sha2_256: image "modules": `, "modules.img has SHA-256 "}},
		{"flipped bit with tree", func(t *testing.T, dir string, _ *guestos.GuestOSConfig) { flip(t, dir, "root.img", 4096) },
			[]string{`mounts_setup[0].image_verity_sha256: image "root": `, "data block 1 does not match its hash in the tree"}},
		{"flipped bit in the tree", func(t *testing.T, dir string, _ *guestos.GuestOSConfig) { flip(t, dir, "root.hash.img", 4096) },
			[]string{"hash block 0 of level 0 does not match its hash in level 1"}},
		{"other image, other tree", func(_ *testing.T, _ string, cfg *guestos.GuestOSConfig) {
			cfg.MountsSetup[0].ImageVeritySha256 = proto.String(strings.Repeat("0", 64))
		}, []string{"root hash is", "want 0000000000000000000000000000000000000000000000000000000000000000"}},
		{"tree fits, hash does not", func(_ *testing.T, _ string, cfg *guestos.GuestOSConfig) {
			cfg.MountsSetup[0].ImageSha2_256 = proto.String(strings.Repeat("0", 64))
		}, []string{"mounts_setup[0].image_sha2_256: ", "want 0000"}},
		{"shorter", func(_ *testing.T, dir string, _ *guestos.GuestOSConfig) {
			os.Truncate(filepath.Join(dir, "boot.img"), 16)
		}, []string{`mounts[3].image_size: image "boot": `, "boot.img has 16 bytes, want 17"}},
		{"longer", func(_ *testing.T, dir string, _ *guestos.GuestOSConfig) {
			os.Truncate(filepath.Join(dir, "boot.img"), 18)
		}, []string{"boot.img has 18 bytes, want 17"}},
		{"empty", func(_ *testing.T, dir string, _ *guestos.GuestOSConfig) {
			os.Truncate(filepath.Join(dir, "boot.img"), 0)
		}, []string{"boot.img is empty"}},
		{"missing", func(_ *testing.T, dir string, _ *guestos.GuestOSConfig) { os.Remove(filepath.Join(dir, "boot.img")) },
			[]string{`mounts[3]: image "boot": `, "no such file"}},
		{"missing tree", func(_ *testing.T, dir string, _ *guestos.GuestOSConfig) {
			os.Remove(filepath.Join(dir, "root.hash.img"))
		}, []string{`mounts_setup[0].image_verity_sha256: image "root": hash tree: `, "no such file"}},
		{"no size", func(_ *testing.T, _ string, cfg *guestos.GuestOSConfig) { cfg.Mounts[3].ImageSize = nil },
			[]string{`mounts[3]: image "boot": image_size or image_sha2_256 is missing`}},
		{"no hash", func(_ *testing.T, _ string, cfg *guestos.GuestOSConfig) { cfg.Mounts[3].ImageSha2_256 = nil },
			[]string{`image_size or image_sha2_256 is missing`}},
		{"two faults", func(t *testing.T, dir string, _ *guestos.GuestOSConfig) {
			flip(t, dir, "modules.img", 0)
			flip(t, dir, "boot.img", 0)
		}, []string{"modules.img has SHA-256", "boot.img has SHA-256"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := imageDir(t)
			cfg := build(t, dir).Config
			test.alter(t, dir, cfg)
			err := guestos.CheckImages(context.Background(), cfg, nil, dir, nil)
			if len(test.want) == 0 && err != nil {
				t.Error(err)
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
			}
		})
	}
}

func TestCheckImagesNamesTheLine(t *testing.T) {
	dir := imageDir(t)
	cfg, lines, err := guestos.ParseGuestOS(build(t, dir).Text)
	if err != nil {
		t.Fatal(err)
	}
	os.Truncate(filepath.Join(dir, "boot.img"), 18)
	err = guestos.CheckImages(context.Background(), cfg, lines, dir, nil)
	if want := "line 30, column 2: mounts[3].image_size: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := guestos.CheckImages(ctx, cfg, lines, dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

// BenchmarkBuild builds a GuestOS with a squashfs root of 256 MiB, and compares
// with the plain SHA-256 of it in the same run: x_sha256.
func BenchmarkBuild(b *testing.B) {
	const size = 256 << 20
	dir := b.TempDir()
	writeImage(b, dir, "root", size)
	syncFile(b, filepath.Join(dir, "root.img")) // or syncing the first tree would wait for it
	tmpl := parseGuestOS(b, template)
	b.SetBytes(size)
	var plain, all time.Duration
	for b.Loop() {
		start := time.Now()
		image, err := os.Open(filepath.Join(dir, "root.img"))
		if err != nil {
			b.Fatal(err)
		}
		h := sha256.New()
		buf := make([]byte, 1<<20)
		for n := 0; err == nil; n, err = image.Read(buf) {
			h.Write(buf[:n])
		}
		image.Close()
		middle := time.Now()
		if _, err := guestos.Build(context.Background(), tmpl, guestos.BuildOptions{Version: 1, BuildDate: buildTime, ImageDir: dir}); err != nil {
			b.Fatal(err)
		}
		plain += middle.Sub(start)
		all += time.Since(middle)
	}
	b.ReportMetric(all.Seconds()/plain.Seconds(), "x_sha256")
}

func syncFile(b *testing.B, path string) {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
}
