package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tmpki/internal/durable"
	"tmpki/plan"
)

// noRelease refuses a directory with a PKI in it that was made elsewhere: with a
// plan beside it, apply would be asked to make another in its place.
func noRelease(dir string, p *plan.Plan) error {
	if _, err := os.Lstat(filepath.Join(dir, plan.FileName)); err == nil {
		return nil // told below
	}
	for _, f := range p.Published {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.File))); err == nil {
			return fmt.Errorf("%s holds %s: a plan doesn't fit into a release PKI that was made elsewhere; name a new directory", dir, f.File)
		}
	}
	return nil
}

func (a *app) initCmd() *cobra.Command {
	var name, place string
	cmd := &cobra.Command{
		Use:   "init [--plan development|production] [--keys URI] DIR",
		Short: "Write a commented pki.yaml into a new PKI directory",
		Long: `init writes DIR/pki.yaml, which says what the PKI should be. Read it, change it,
and let "tmpki apply DIR" make it so. An existing plan is never overwritten.`,
		Example: `  tmpki init --plan production vendor-pki
  tmpki init --keys file:/media/keys vendor-pki`,
		Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := a.directory(args)
			if err != nil {
				return err
			}
			text, err := plan.Template(name, plan.DefaultKeyType(), place)
			if err != nil {
				return &usageError{err}
			}
			path := filepath.Join(dir, plan.FileName)
			p, err := plan.Load(path, text)
			if err != nil {
				return err
			}
			if err := noRelease(dir, p); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			if err := durable.CreateFile(path, text, 0o644); errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists already: it stays as it is", path)
			} else if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"plan": name, "file": path})
			}
			a.printf("%s: the %s plan. Next: read it, then tmpki apply %s\n", path, name, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "plan", plan.Development, "built-in plan to begin with: development or production")
	cmd.Flags().StringVar(&place, "keys", "", "default place of the keys, a key `URI` in which {name} stands for an entry's name (default file:{name}.key)")
	return cmd
}
