package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/artifact/guestos"
	"tmpki/internal/tooltest"
)

// template is a GuestOS with an image that gets a hash tree, and one that doesn't.
const template = `name: "debos"
hardware: "x86"
version: 1
init_path: "/sbin/init"
mounts {
	image_file: "root"
	mount_point: "/"
	fs_type: "squashfs"
	mount_type: SHARED_RW
}
mounts {
	image_file: "modules"
	mount_point: "/lib/modules"
	fs_type: "squashfs"
	mount_type: SHARED
}
description {
	en: "example userland (x86)"
}
`

// buildOptions lays out template and images, and says how to build them.
func buildOptions(t testing.TB) BuildOptions {
	t.Helper()
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, images, "root.img", bytes.Repeat([]byte("root"), 50<<10))
	write(t, images, "modules.img", bytes.Repeat([]byte("m"), 4096))
	return BuildOptions{
		Template: write(t, dir, "debos.conf", []byte(template)), Images: images, Out: filepath.Join(dir, "out"),
		Build: guestos.BuildOptions{Version: 7, BuildDate: now, Reproducible: true},
	}
}

func mustBuild(t testing.TB, s *Session, o BuildOptions) *guestos.Built {
	t.Helper()
	built, _, err := s.BuildGuestOS(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func TestBuildGuestOS(t *testing.T) {
	s := newSession(t)
	o := buildOptions(t)
	o.As = "config_rsa" // whose signatures are reproducible
	built := mustBuild(t, s, o)
	made := files(t, o.Out)
	for _, name := range []string{"debos-7.conf", "debos-7.sig", "debos-7.cert", "debos-7/root.img", "debos-7/root.hash.img", "debos-7/modules.img"} {
		if made[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	entries, err := os.ReadDir(o.Out)
	if err != nil || len(entries) != 4 || len(made) != 6 {
		t.Errorf("%d files, %v, %v", len(made), entries, err)
	}
	if info, err := os.Stat(filepath.Join(o.Out, "debos-7")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	conf := filepath.Join(o.Out, "debos-7.conf")
	v := Verifier{Trust: s.Anchors("guestos"), Time: now}
	if err := v.VerifyConfig(t.Context(), "guestos", conf, false).Err; err != nil {
		t.Error(err)
	}
	if list := signatures(t, s.PKI.Dir); len(list) != 1 || list[0].Name != "debos-7.conf" {
		t.Errorf("recorded: %v", list)
	}
	t.Run("veritysetup", func(t *testing.T) {
		root := fmt.Sprintf("%x", built.Images[0].Verity.Root)
		dir := filepath.Join(o.Out, "debos-7")
		tooltest.Run(t, "veritysetup", "verify", filepath.Join(dir, "root.img"), filepath.Join(dir, "root.hash.img"), root)
	})

	// The same again gives the same octets.
	again := o
	again.Out = filepath.Join(t.TempDir(), "again")
	mustBuild(t, s, again)
	if fmt.Sprint(files(t, again.Out)) != fmt.Sprint(made) {
		t.Error("the second build differs")
	}
	// A release stays as it is, also if half of it is gone.
	for _, gone := range []string{"", "debos-7.sig", "debos-7"} {
		if err := os.RemoveAll(filepath.Join(o.Out, gone)); gone != "" && err != nil {
			t.Fatal(err)
		}
		if gone == "" {
			mustRestore(t, o.Out, made)
		}
		unchanged(t, o.Out, func() {
			_, _, err := s.BuildGuestOS(t.Context(), o)
			refused(t, err, "exists already: take another version, or remove it")
		})
	}
	o.Build.Version = 8
	mustBuild(t, s, o)
}

// mustRestore writes files again.
func mustRestore(t testing.TB, dir string, made map[string]string) {
	t.Helper()
	for name, content := range made {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVerifyImages holds that a config is refused beside images that are others.
func TestVerifyImages(t *testing.T) {
	s := newSession(t)
	o := buildOptions(t)
	mustBuild(t, s, o)
	dir := filepath.Join(o.Out, "debos-7")
	made := files(t, dir)
	v := Verifier{Trust: s.Anchors("guestos"), Time: now}
	for _, row := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"as it is", func() error { return nil }, ""},
		{"flipped bit", func() error { return os.WriteFile(dir+"/modules.img", flip([]byte(made["modules.img"]), 9), 0o644) }, "mounts[1].image_sha2_256"},
		{"flipped bit under a tree", func() error { return os.WriteFile(dir+"/root.img", flip([]byte(made["root.img"]), 9), 0o644) }, "mounts[0].image_verity_sha256"},
		{"flipped bit in the tree", func() error {
			return os.WriteFile(dir+"/root.hash.img", flip([]byte(made["root.hash.img"]), 4100), 0o644)
		}, "mounts[0].image_verity_sha256"},
		{"longer", func() error { return os.WriteFile(dir+"/modules.img", []byte(made["modules.img"]+"x"), 0o644) }, "mounts[1].image_size"},
		{"image missing", func() error { return os.Remove(dir + "/modules.img") }, "no such file"},
		{"tree missing", func() error { return os.Remove(dir + "/root.hash.img") }, "mounts[0].image_verity_sha256"},
		{"empty directory", func() error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)) }, "no such file"},
		{"no directory", func() error { return os.RemoveAll(dir) }, ""},
		{"a file of that name", func() error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) }, ""},
		{"a link that leads nowhere", func() error { return errors.Join(os.RemoveAll(dir), os.Symlink("nowhere", dir)) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			mustRestore(t, dir, made)
			if err := row.change(); err != nil {
				t.Fatal(err)
			}
			checkVerdict(t, v.VerifyConfig(t.Context(), "guestos", dir+".conf", false), row.want)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustRestore(t, dir, made)
	if err := v.VerifyConfig(ctx, "guestos", dir+".conf", false).Err; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBuildFails holds that a build that fails leaves nothing, not even its own
// directory's hidden beginnings.
func TestBuildFails(t *testing.T) {
	s := newSession(t)
	for _, row := range []struct {
		name   string
		change func(o *BuildOptions, cancel func())
		want   string
	}{
		{"no template", func(o *BuildOptions, _ func()) { o.Template += ".none" }, "no such file"},
		{"template that is no config", func(o *BuildOptions, _ func()) { o.Template = write(t, t.TempDir(), "t.conf", []byte("mounts: {")) }, "line 1"},
		{"name upwards", func(o *BuildOptions, _ func()) {
			o.Template = write(t, t.TempDir(), "t.conf", []byte(strings.Replace(template, `"debos"`, `"../debos"`, 1)))
		}, "name"},
		{"image missing", func(o *BuildOptions, _ func()) { os.Remove(o.Images + "/modules.img") }, `image "modules"`},
		{"image empty", func(o *BuildOptions, _ func()) { os.Truncate(o.Images+"/modules.img", 0) }, "is empty"},
		{"signer unknown", func(o *BuildOptions, _ func()) { o.As = "nobody" }, "not an entry of the plan"},
		{"signer of something else", func(o *BuildOptions, _ func()) { o.As = "ssig" }, "ssig signs efi, module, ima, not guestos"},
		{"no version", func(o *BuildOptions, _ func()) { o.Build.Version = 0 }, "version of a GuestOS must be 1 or more"},
		{"no date", func(o *BuildOptions, _ func()) { o.Build.BuildDate = time.Time{} }, "build date"},
		{"cancelled", func(o *BuildOptions, cancel func()) { cancel() }, "canceled"},
		{"cancelled half-way", func(o *BuildOptions, cancel func()) { o.Build.Progress = func(int64, int64) { cancel() } }, "canceled"},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := buildOptions(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			row.change(&o, cancel)
			_, _, err := s.BuildGuestOS(ctx, o)
			refused(t, err, row.want)
			if left, err := os.ReadDir(o.Out); err == nil && len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	if list := signatures(t, s.PKI.Dir); len(list) > 0 {
		t.Errorf("recorded: %v", list)
	}
}

// TestPlaceImages holds that what is placed is an image, and no link to a build's
// directory.
func TestPlaceImages(t *testing.T) {
	s := newSession(t)
	o := buildOptions(t)
	root := filepath.Join(o.Images, "root.img")
	if err := errors.Join(os.Rename(root, filepath.Join(o.Images, "root-1.squashfs")), os.Symlink("root-1.squashfs", root)); err != nil {
		t.Fatal(err)
	}
	want := read(t, root)
	mustBuild(t, s, o)
	placed := filepath.Join(o.Out, "debos-7", "root.img")
	if info, err := os.Lstat(placed); err != nil || !info.Mode().IsRegular() {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if err := os.RemoveAll(o.Images); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(read(t, placed), want) {
		t.Error("the image is another one")
	}
	// Another file system has no hard links to this one.
	elsewhere, err := os.MkdirTemp("/dev/shm", "tmpki-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(elsewhere)
	o = buildOptions(t)
	o.Out = filepath.Join(elsewhere, "out")
	mustBuild(t, s, o)
	v := Verifier{Trust: s.Anchors("guestos"), Time: now}
	if err := v.VerifyConfig(t.Context(), "guestos", filepath.Join(o.Out, "debos-7.conf"), false).Err; err != nil {
		t.Error(err)
	}
}

// TestBuildRenamed gives the GuestOS another name than its template has.
func TestBuildRenamed(t *testing.T) {
	s := newSession(t)
	o := buildOptions(t)
	o.Build.Name = "other"
	mustBuild(t, s, o)
	v := Verifier{Trust: s.Anchors("guestos"), Time: now}
	if err := v.VerifyConfig(t.Context(), "guestos", filepath.Join(o.Out, "other-7.conf"), false).Err; err != nil {
		t.Error(err)
	}
	if len(files(t, filepath.Join(o.Out, "other-7"))) != 3 {
		t.Error("no images beside the config")
	}
}
