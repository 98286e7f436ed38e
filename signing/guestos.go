package signing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

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
	guestOS := cmp.Or(o.Build.Name, template.GetName())
	if _, err := s.Signer("guestos", o.As, guestOS); err != nil {
		return nil, nil, err
	}
	name := fmt.Sprintf("%s-%d", guestOS, o.Build.Version)
	final := filepath.Join(o.Out, name)
	conf := final + ".conf"
	for _, path := range []string{final, conf} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%s exists already: take another version, or remove it", path)
		}
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
	o.Build.ImageDir, o.Build.HashDir, o.Build.Lines = o.Images, staging, lines
	start := time.Now()
	built, err := guestos.Build(ctx, template, o.Build)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range built.Images {
		image := filepath.Join(o.Images, i.Name+".img")
		if err := place(ctx, image, filepath.Join(staging, i.Name+".img")); err != nil {
			return nil, nil, err
		}
		// What was hashed must be what was placed.
		if info, err := os.Stat(image); err != nil {
			return nil, nil, err
		} else if info.ModTime().After(start) {
			return nil, nil, fmt.Errorf("%s changed while it was built: build again when it is finished", image)
		}
	}
	// Signed and recorded first: whatever fails up to here leaves nothing in OUT.
	signer, files, err := s.signText(built.Text, ConfigOptions{Artifact: "guestos", As: o.As})
	if err != nil {
		return nil, nil, err
	}
	if err := s.record(ctx, signer, signedConfig("guestos", conf, built.Text)); err != nil {
		return nil, nil, err
	}
	if err := durable.Rename(staging, final); err != nil {
		return nil, nil, err
	}
	files = append(signedFiles{{".conf", built.Text}}, files...)
	return built, signer, files.write(final)
}

// place puts a file into a release without reading it again, where that can be: by
// a clone that shares its blocks, else by a hard link, else by a copy. A hard link
// is the same file: whoever writes into the image in place, and not by a new file
// under its name, changes the release, which verify guestos then tells. Of a
// symbolic link, as a build's deploy directory is full of, it is the file that the
// link leads to.
func place(ctx context.Context, from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
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
	if err := out.Clone(in); err == nil {
		return out.Commit()
	}
	if err := os.Link(from, to); err == nil {
		return nil
	}
	if _, err := io.Copy(out, contextReader{ctx, in}); err != nil {
		return err
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
