package guestos

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"tmpki/artifact/verity"
	"tmpki/internal/durable"
)

// BuildOptions says what Build makes of a template.
type BuildOptions struct {
	// Name is the name of the GuestOS; if empty the template's is kept.
	Name string
	// Version is the version of the GuestOS, 1 or more.
	Version uint64
	// UpstreamVersion is what users see; if empty the template's is kept.
	UpstreamVersion string
	// BuildDate is the time of the build: of SOURCE_DATE_EPOCH for a
	// reproducible one. It is written in UTC, in full seconds.
	BuildDate time.Time

	// ImageDir holds an IMAGE.img for each mount that needs one.
	ImageDir string
	// HashDir is where each IMAGE.hash.img is written, replacing what is
	// there; if empty it is ImageDir.
	HashDir string

	// Reproducible derives the salts and UUIDs of hash trees instead of drawing
	// them at random, so that the same inputs give the same bytes.
	//
	// A salt must be known before the image is read, so it can't depend on
	// the image, which is read once only. It is the hash of name, version and
	// image_file. That is safe: a salt is public, and forging a block would
	// need a second preimage of SHA-256 with any salt; a salt only keeps work
	// done against one image from being of use against another one.
	Reproducible bool

	// Lines says where the values of the template stand, for errors. May be nil.
	Lines Lines
	// Progress is called with the bytes done and the bytes of all images
	// together, one call at a time. May be nil.
	Progress func(done, total int64)
}

// Built is a GuestOS that is ready to be signed.
type Built struct {
	// Config is the template with everything filled in.
	Config *GuestOSConfig
	// Text is Config as text: the bytes to sign and to write to BaseName.conf.
	Text []byte
	// BaseName is NAME-VERSION.
	BaseName string
	// Images are the images of the GuestOS, in the order of the config.
	Images []Image
}

// Image is an image of a GuestOS.
type Image struct {
	// Name is IMAGE of IMAGE.img.
	Name string
	// Size is the size of IMAGE.img in bytes.
	Size int64
	// SHA256 is the SHA-256 of IMAGE.img.
	SHA256 verity.Digest
	// Verity describes IMAGE.hash.img; it is nil if there is none.
	Verity *verity.Result
}

// Build fills in a template: name, version, upstream_version, build_date, and for
// each mount that needs an image its image_size and image_sha2_256. For a
// squashfs that is mounted as "/", and for each image whose template has an
// image_verity_sha256 already, it makes the dm-verity tree IMAGE.hash.img and
// puts its root hash into image_verity_sha256. Each image is read once, several
// of them at a time. The template is not altered.
//
// The hash trees appear under their names, durably, when all else is done; if Build
// fails there are none, unless it is the renaming itself that failed. The caller
// writes Text, and hands Build a HashDir of its own if device or server must
// never see an unsigned state.
//
// The error is an *Error with mount and line, as far as they are known, or joins
// several; it is the cause of ctx when that is done.
func Build(ctx context.Context, template *GuestOSConfig, opts BuildOptions) (*Built, error) {
	// 1. The plain values, checked before anything is read.
	cfg := proto.CloneOf(template)
	if opts.Name != "" {
		cfg.Name = &opts.Name
	}
	if opts.Version == 0 {
		return nil, errors.New("version of a GuestOS must be 1 or more")
	}
	cfg.Version = &opts.Version
	if opts.UpstreamVersion != "" {
		cfg.UpstreamVersion = &opts.UpstreamVersion
	}
	if opts.BuildDate.IsZero() {
		return nil, errors.New("build date of a GuestOS is not set")
	}
	cfg.BuildDate = proto.String(opts.BuildDate.UTC().Format("2006-01-02T15:04:05") + "UTC")
	images := imagesOf(cfg)
	for _, im := range images {
		for _, m := range im.mounts {
			m.ImageSize, m.ImageSha2_256 = nil, nil // of another build
		}
	}
	if err := cfg.Validate(opts.Lines); err != nil {
		return nil, err
	}
	if opts.HashDir == "" {
		opts.HashDir = opts.ImageDir
	}

	// 2. The images must be there.
	c := checker{lines: opts.Lines}
	for _, im := range images {
		if err := im.stat(opts.ImageDir); err != nil {
			c.add(im.mounts[0].path, "image %q: %v", im.name, err)
		}
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}

	// 3. One pass over each, until the first one fails.
	defer func() {
		for _, im := range images {
			if im.tree != nil {
				im.tree.Close()
			}
		}
	}()
	errStopped := errors.New("stopped, because another image failed")
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	meter := newMeter(images, opts.Progress)
	found := make([]Image, len(images))
	errs := forEach(images, func(i int) (err error) {
		found[i], err = images[i].build(work, cfg, opts, meter.add)
		if err != nil {
			cancel(errStopped)
		}
		return err
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	for i, err := range errs {
		if err != nil && !errors.Is(err, errStopped) {
			c.add(images[i].mounts[0].path, "image %q: %v", images[i].name, err)
		}
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}

	// 4. What was found goes into all mounts of an image.
	for i, im := range images {
		for _, m := range im.mounts {
			m.ImageSize = proto.Uint64(uint64(found[i].Size))
			m.ImageSha2_256 = proto.String(fmt.Sprintf("%x", found[i].SHA256))
			if found[i].Verity != nil {
				m.ImageVeritySha256 = proto.String(fmt.Sprintf("%x", found[i].Verity.Root))
			}
		}
	}
	text, err := cfg.MarshalText()
	if err != nil {
		return nil, err
	}

	// 5. Only now does anything appear.
	for _, im := range images {
		if im.tree == nil {
			continue
		}
		if err := im.tree.Commit(); err != nil {
			return nil, fmt.Errorf("publishing the hash tree: %w", err)
		}
	}
	return &Built{
		Config:   cfg,
		Text:     text,
		BaseName: fmt.Sprintf("%s-%d", cfg.GetName(), cfg.GetVersion()),
		Images:   found,
	}, nil
}

// needsTree says whether the image gets a dm-verity tree.
func (im *image) needsTree() bool {
	return slices.ContainsFunc(im.mounts, func(m placedMount) bool {
		isRoot := m.GetMountPoint() == "/" && m.GetFsType() == "squashfs"
		return isRoot || m.ImageVeritySha256 != nil
	})
}

// build hashes the image, and writes its tree, if it needs one, to im.tree.
func (im *image) build(ctx context.Context, cfg *GuestOSConfig, opts BuildOptions, progress func(n int64)) (Image, error) {
	found := Image{Name: im.name, Size: im.info.Size()}
	if !im.needsTree() {
		err := im.read(func(source verity.Source) (err error) {
			found.SHA256, err = hashAll(ctx, source, progress)
			return err
		})
		return found, err
	}

	treeOptions := verity.Options{Salt: make([]byte, sha256.Size)}
	if opts.Reproducible {
		copy(treeOptions.Salt, derive("salt", cfg, im.name))
		copy(treeOptions.UUID[:], derive("uuid", cfg, im.name))
		treeOptions.UUID[6] = treeOptions.UUID[6]&0x0f | 0x80 // version 8: derived our own way (RFC 9562, Section 5.8)
	} else {
		rand.Read(treeOptions.Salt)
		rand.Read(treeOptions.UUID[:])
		treeOptions.UUID[6] = treeOptions.UUID[6]&0x0f | 0x40 // version 4: random
	}
	treeOptions.UUID[8] = treeOptions.UUID[8]&0x3f | 0x80 // the variant of RFC 9562

	// A hash tree holds nothing secret.
	tree, err := durable.NewFile(filepath.Join(opts.HashDir, im.name+".hash.img"), 0o644)
	if err != nil {
		return Image{}, fmt.Errorf("creating the hash tree: %w", err)
	}
	im.tree = tree
	err = im.read(func(source verity.Source) (err error) {
		found.Verity, err = verity.Build(ctx, source, tree, treeOptions, progress)
		return err
	})
	if err != nil {
		return Image{}, err
	}
	found.SHA256 = found.Verity.ImageSHA256
	return found, tree.Sync()
}

// derive returns 32 bytes that depend on all of its arguments. No name holds a
// zero byte, so no two of them run into each other.
func derive(use string, cfg *GuestOSConfig, imageName string) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "tmpki guestos verity %s 1\x00%s\x00%d\x00%s", use, cfg.GetName(), cfg.GetVersion(), imageName))
	return sum[:]
}
