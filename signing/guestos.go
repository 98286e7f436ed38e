package signing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tmpki/artifact/guestos"
	"tmpki/internal/durable"
)

// BuildOptions say what BuildGuestOS makes.
type BuildOptions struct {
	Template string // path of the config to fill in
	Images   string // directory with an IMAGE.img for each mount that needs one
	Out      string // directory that gets NAME-N.conf and its like, and NAME-N/
	As       string // signer; "" for the plan's default

	// Build is passed on; its directories and lines are set here.
	Build guestos.BuildOptions
}

// BuildGuestOS makes a GuestOS as a device or an update server takes it. The
// images go to OUT/NAME-N first, linked where that is possible, else copied; the
// config that names them comes last, signed. An existing OUT/NAME-N is never
// touched: a released version does not change.
func (s *Session) BuildGuestOS(ctx context.Context, o BuildOptions) (*guestos.Built, *Signer, error) {
	text, err := readLimited(o.Template, guestos.MaxSize)
	if err != nil {
		return nil, nil, err
	}
	template, lines, err := guestos.ParseGuestOS(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Template, err)
	}
	// Whoever can't sign learns it before hours of hashing.
	if _, err := s.Signer("guestos", o.As, template.GetName()); err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("%s-%d", template.GetName(), o.Build.Version)
	final := filepath.Join(o.Out, name)
	if _, err := os.Lstat(final); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s exists already: take another version, or remove it", final)
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, nil, err
	}
	staging, err := os.MkdirTemp(o.Out, "."+name+".tmpki-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(staging)
	if err := os.Chmod(staging, 0o755); err != nil {
		return nil, nil, err
	}
	before, err := lookAtImages(o.Images)
	if err != nil {
		return nil, nil, err
	}
	o.Build.ImageDir, o.Build.HashDir, o.Build.Lines = o.Images, staging, lines
	built, err := guestos.Build(ctx, template, o.Build)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range built.Images {
		file := i.Name + ".img"
		if err := place(ctx, filepath.Join(o.Images, file), filepath.Join(staging, file), before[file]); err != nil {
			return nil, nil, fmt.Errorf("image %q: %w", i.Name, err)
		}
	}
	if err := durable.Rename(staging, final); err != nil {
		return nil, nil, err
	}
	conf := filepath.Join(o.Out, built.BaseName+".conf")
	if err := durable.WriteFile(conf, built.Text, 0o644); err != nil {
		return nil, nil, err
	}
	signer, err := s.SignConfig(ctx, conf, ConfigOptions{Artifact: "guestos", As: o.As})
	return built, signer, err
}

// lookAtImages tells what is in the directory of images, through links, by name.
func lookAtImages(dir string) (map[string]fs.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	infos := map[string]fs.FileInfo{}
	for _, e := range entries {
		// What can't be looked at is no image, or guestos.Build will say so.
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil {
			infos[e.Name()] = info
		}
	}
	return infos, nil
}

// place links or copies an image, which must still be what it was before it was
// hashed. Builds often have a symbolic link under its name: the file behind it
// is what goes into a release.
func place(ctx context.Context, from, to string, before fs.FileInfo) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	if err := os.Link(from, to); err == nil {
		now, err := os.Lstat(to)
		if err == nil && (before == nil || !durable.Unchanged(before, now)) {
			err = durable.ErrChanged
		}
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := durable.NewFile(to, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, contextReader{ctx, in}); err != nil {
		return err
	}
	now, err := in.Stat()
	if err != nil {
		return err
	}
	if before == nil || !durable.Unchanged(before, now) {
		return durable.ErrChanged
	}
	return out.Commit()
}

// contextReader ends a long copy with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
