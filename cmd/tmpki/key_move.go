package main

import (
	"os"

	"github.com/spf13/cobra"

	"tmpki/plan"
)

func (a *app) keyMoveCmd() *cobra.Command {
	var m plan.Move
	var accepted bool
	cmd := &cobra.Command{
		Use:   "move --accept-exposed-key [--wrapped] [--remove-file] NAME URI",
		Short: "Put a key that is in a file into a token",
		Long: `move imports the key of an entry into a token, where it is from then on like one
that was made there: sensitive, not extractable, for signatures only. It signs and
verifies with it, and only then changes the place of the entry in pki.yaml.

A key that was in a file may have been copied, and no token changes that: a key
for the field is made in the token. So --accept-exposed-key has to be given.

The file stays where it is, unless --remove-file: then it is overwritten and
removed. On flash memory, in file systems that copy on write and in backups, it can
still be found. With --wrapped the key goes into the token encrypted (AES-256 key
wrap, under a key of the token's own), which tokens that allow no plain import, or
that are reached over a network, may want.`,
		Example: `  tmpki key move --accept-exposed-key ssig 'pkcs11:token=prod'`,
		Args:    between(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			if _, err := tokenURI(args[1]); err != nil {
				return err
			}
			if !accepted {
				return usagef("move: the key of %s was in a file, and whoever has a copy keeps it: say --accept-exposed-key if that is as you want it", args[0])
			}
			m.Name, m.URI = args[0], args[1]
			moved, err := plan.MoveKey(cmd.Context(), dir, a.options(os.Stderr), m)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"name": m.Name, "from": moved.From.String(), "to": moved.Entry.Key.String(), "wrapped": m.Wrapped, "file_left": moved.Left})
			}
			a.printf("%s: its key is at %s now\n", m.Name, moved.Entry.Key)
			if moved.Left != "" {
				a.printf("%s is still there: put it where it is safe, or take it away\n", visible(moved.Left))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&accepted, "accept-exposed-key", false, "the key was in a file, and may be known elsewhere")
	f.BoolVar(&m.Wrapped, "wrapped", false, "encrypt the key on its way into the token")
	f.BoolVar(&m.RemoveFile, "remove-file", false, "overwrite and remove the file afterwards")
	return cmd
}
