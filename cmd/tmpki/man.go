package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Args:  between(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			// The date on the pages is $SOURCE_DATE_EPOCH, if set.
			if err := doc.GenManTree(a.cmd, &doc.GenManHeader{Section: "1", Source: "tmpki"}, args[0]); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]string{"directory": args[0]})
			}
			a.printf("%s: manual pages, to be read with man -l FILE\n", args[0])
			return nil
		},
	}
}
