package guestos

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"tmpki/artifact/verity"
	"tmpki/internal/durable"
)

// CheckImages compares the images of a GuestOS in dir with what cfg says. For
// each mount whose type needs an image (GuestOSMount_MountType.NeedsImage), cfg
// must say image_size and image_sha2_256, and IMAGE.img must have them. Where
// cfg says image_verity_sha256, IMAGE.hash.img must be the hash tree with that
// root. Each image is read once, several of them at a time.
//
// cfg must be valid. lines, which may be nil, gives the places for the error,
// which joins an *Error per mount; it is the cause of ctx when that is done.
// If progress is not nil, it is called with the bytes done and the bytes of all
// images together, one call at a time.
func CheckImages(ctx context.Context, cfg *GuestOSConfig, lines Lines, dir string, progress func(done, total int64)) error {
	c := checker{lines: lines}

	// 1. What needs no reading: fields, files, sizes.
	var present []*image
	for _, im := range imagesOf(cfg) {
		first := im.mounts[0]
		if first.ImageSize == nil || first.ImageSha2_256 == nil {
			c.add(first.path, "image %q: image_size or image_sha2_256 is missing", im.name)
			continue
		}
		if err := im.stat(dir); err != nil {
			c.add(first.path, "image %q: %v", im.name, err)
			continue
		}
		if uint64(im.info.Size()) != first.GetImageSize() {
			c.add(first.path+".image_size", "image %q: %s has %d bytes, want %d", im.name, im.path, im.info.Size(), first.GetImageSize())
			continue
		}
		present = append(present, im)
	}

	// 2. One pass over each image.
	meter := newMeter(present, progress)
	errs := forEach(present, func(i int) error {
		return present[i].check(ctx, meter.add)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, err := range errs {
		var fault *Error
		switch {
		case err == nil:
		case errors.As(err, &fault):
			c.add(fault.Path, "image %q: %s", present[i].name, fault.Reason)
		default:
			c.add(present[i].mounts[0].path, "image %q: %v", present[i].name, err)
		}
	}
	return errors.Join(c.errs...)
}

// image is a file IMAGE.img with the mounts that need it.
type image struct {
	name   string
	mounts []placedMount // at least one

	// Set by stat:
	path string
	info fs.FileInfo

	tree *durable.File // being written by Build; nil if there is none
}

// imagesOf returns the images that the mounts of cfg need, each once.
func imagesOf(cfg *GuestOSConfig) []*image {
	var all []*image
	byName := make(map[string]*image)
	for _, m := range cfg.placedMounts() {
		if !m.GetMountType().NeedsImage() {
			continue
		}
		im := byName[m.GetImageFile()]
		if im == nil {
			im = &image{name: m.GetImageFile()}
			byName[im.name] = im
			all = append(all, im)
		}
		im.mounts = append(im.mounts, m)
	}
	return all
}

// stat finds the image in dir. It must be a regular file that is not empty.
func (im *image) stat(dir string) error {
	im.path = filepath.Join(dir, im.name+".img")
	info, err := os.Stat(im.path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", im.path)
	case info.Size() == 0:
		return fmt.Errorf("%s is empty", im.path)
	}
	im.info = info
	return nil
}

// read calls f with the bytes of the image. It fails if the image was changed
// since stat or during f, because then f may have seen half of each.
func (im *image) read(f func(verity.Source) error) error {
	file, err := os.Open(im.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f(io.NewSectionReader(file, 0, im.info.Size())); err != nil {
		return err
	}
	now, err := file.Stat()
	if err != nil {
		return err
	}
	if now.Size() != im.info.Size() || !now.ModTime().Equal(im.info.ModTime()) || !os.SameFile(now, im.info) {
		return errors.New("changed while it was read")
	}
	return nil
}

// check compares the image with what its mounts say. A difference is an *Error
// with the path of the field.
func (im *image) check(ctx context.Context, progress func(n int64)) error {
	var got verity.Digest
	err := im.read(func(source verity.Source) (err error) {
		got, err = im.verify(ctx, source, progress)
		return err
	})
	if err != nil {
		return err
	}
	if want := im.mounts[0].GetImageSha2_256(); fmt.Sprintf("%x", got) != want {
		return &Error{Path: im.mounts[0].path + ".image_sha2_256", Reason: fmt.Sprintf("%s has SHA-256 %x, want %s", im.path, got, want)}
	}
	return nil
}

// verify returns the SHA-256 of the image, after checking it against its
// hash tree if a mount asks for that.
func (im *image) verify(ctx context.Context, source verity.Source, progress func(n int64)) (verity.Digest, error) {
	i := slices.IndexFunc(im.mounts, func(m placedMount) bool { return m.ImageVeritySha256 != nil })
	if i < 0 {
		return hashAll(ctx, source, progress)
	}
	fault := func(format string, args ...any) error {
		return &Error{Path: im.mounts[i].path + ".image_verity_sha256", Reason: fmt.Sprintf(format, args...)}
	}
	var root verity.Digest
	if n, err := hex.Decode(root[:], []byte(im.mounts[i].GetImageVeritySha256())); err != nil || n != len(root) {
		return root, fault("%q is not a root hash", im.mounts[i].GetImageVeritySha256())
	}
	treeImage := image{name: im.name + ".hash"}
	if err := treeImage.stat(filepath.Dir(im.path)); err != nil {
		return root, fault("hash tree: %v", err)
	}
	var result *verity.Result
	err := treeImage.read(func(treeSource verity.Source) (err error) {
		result, err = verity.Verify(ctx, source, treeSource, root, progress)
		return err
	})
	if err != nil {
		return root, fault("%s with %s: %v", im.path, treeImage.path, err)
	}
	return result.ImageSHA256, nil
}

// hashAll returns the SHA-256 of source.
func hashAll(ctx context.Context, source verity.Source, progress func(n int64)) (verity.Digest, error) {
	h := sha256.New()
	buf := make([]byte, min(1<<20, source.Size()))
	for off := int64(0); off < source.Size(); {
		if ctx.Err() != nil {
			return verity.Digest{}, context.Cause(ctx)
		}
		n, err := source.ReadAt(buf[:min(int64(len(buf)), source.Size()-off)], off)
		if n == 0 {
			return verity.Digest{}, fmt.Errorf("reading at %d of %d bytes: %w", off, source.Size(), err)
		}
		h.Write(buf[:n])
		off += int64(n)
		progress(int64(n))
	}
	return verity.Digest(h.Sum(nil)), nil
}

// forEach calls f with the index of each image, for as many at a time as there are cores, the
// largest first because it takes longest. It returns the error of each.
func forEach(images []*image, f func(i int) error) []error {
	order := make([]int, len(images))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(images[b].info.Size(), images[a].info.Size())
	})
	errs := make([]error, len(images))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var running sync.WaitGroup
	for _, i := range order {
		slots <- struct{}{}
		running.Go(func() {
			errs[i] = f(i)
			<-slots
		})
	}
	running.Wait()
	return errs
}

// meter adds up the progress of several images.
type meter struct {
	mu          sync.Mutex
	done, total int64
	report      func(done, total int64) // may be nil
}

func newMeter(images []*image, report func(done, total int64)) *meter {
	m := &meter{report: report}
	for _, im := range images {
		m.total += im.info.Size()
	}
	return m
}

// add counts n more bytes.
func (m *meter) add(n int64) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
	m.report(m.done, m.total)
}
