package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tmpki/artifact/verity"
	"tmpki/internal/durable"
)

func (a *app) verityCmd() *cobra.Command {
	var out, salt, id string
	var bare bool
	cmd := &cobra.Command{
		Use:   "verity IMAGE [-o HASHFILE] [--salt HEX] [--uuid UUID]",
		Short: "Build a dm-verity hash tree and print its root hash",
		Long: `verity writes what "veritysetup format" writes for the same salt and UUID. Without
-o it only prints the root hash. Salt and UUID are random unless given.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := verity.Options{NoSuperblock: bare, Salt: make([]byte, 32)}
			if _, err := rand.Read(o.Salt); err != nil {
				return err
			}
			if _, err := rand.Read(o.UUID[:]); err != nil {
				return err
			}
			o.UUID[6], o.UUID[8] = o.UUID[6]&0x0f|0x40, o.UUID[8]&0x3f|0x80 // RFC 9562, version 4
			if cmd.Flags().Changed("salt") {
				s, err := hex.DecodeString(strings.TrimSpace(salt))
				if err != nil || len(s) > verity.MaxSaltSize {
					return usagef("--salt %q is not hexadecimal of at most %d octets", salt, verity.MaxSaltSize)
				}
				o.Salt = s
			}
			if id != "" {
				u, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
				if err != nil || len(u) != len(o.UUID) || len(id) != 36 {
					return usagef("--uuid %q is not a UUID", id)
				}
				copy(o.UUID[:], u)
			}
			p := a.newProgress()
			r, err := buildTree(cmd.Context(), args[0], out, o, p)
			p.close()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{
					"root": fmt.Sprintf("%x", r.Root), "salt": fmt.Sprintf("%x", o.Salt), "uuid": formatUUID(o.UUID),
					"blocks": r.Blocks, "sha256": fmt.Sprintf("%x", r.ImageSHA256),
				})
			}
			a.printf("root   %x\nsalt   %x\nuuid   %s\nblocks %d\n", r.Root, o.Salt, formatUUID(o.UUID), r.Blocks)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "hash `file` to write; an existing one is replaced")
	f.StringVar(&salt, "salt", "", "salt in hexadecimal; \"\" for none")
	f.StringVar(&id, "uuid", "", "UUID in the superblock")
	f.BoolVar(&bare, "no-superblock", false, "write the tree alone")
	return cmd
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// discard takes a tree that nobody wants to keep.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// checkTreeOutput lets a tree replace a file, but not the image, a key or a store:
// a slip of the hand must not cost these.
func checkTreeOutput(out string, image fs.FileInfo) error {
	info, err := os.Stat(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q exists and is no file", out)
	}
	if os.SameFile(info, image) {
		return fmt.Errorf("%q is the image itself", out)
	}
	f, err := os.Open(out)
	if err != nil {
		return err
	}
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if bytes.Contains(head, []byte("-----BEGIN ")) || bytes.HasPrefix(head, []byte("SQLite format 3")) {
		return fmt.Errorf("%q exists and is a key, a certificate or a store: it stays as it is", out)
	}
	return nil
}

// buildTree writes the tree of an image, which appears under its name when all of
// it is on the disk.
func buildTree(ctx context.Context, image, out string, o verity.Options, p *progress) (*verity.Result, error) {
	in, info, err := durable.OpenRegular(image, verity.MaxImageSize)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var done int64
	progress := func(n int64) { done += n; p.bytes(done, info.Size()) }
	src := io.NewSectionReader(in, 0, info.Size())
	if there, err := os.Stat(out); err == nil && os.SameFile(there, info) {
		return nil, fmt.Errorf("%s is the image itself: name another output", out)
	}
	if out == "" {
		return verity.Build(ctx, src, discard{}, o, progress)
	}
	if err := checkTreeOutput(out, info); err != nil {
		return nil, err
	}
	tree, err := durable.NewFile(out, 0o644)
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	r, err := verity.Build(ctx, src, tree, o, progress)
	if err != nil {
		return nil, err
	}
	return r, tree.Commit()
}
