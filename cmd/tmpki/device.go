package main

import (
	"github.com/spf13/cobra"
)

func (a *app) deviceCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Certificates of devices",
		Long: `device issues the certificates by which devices are known, from requests that
they made for keys of their own, and lists them.`,
		Args: a.noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.deviceSignCmd(), a.deviceListCmd(), a.deviceShowCmd(), a.deviceExportCmd(), a.deviceBundleCmd())
	return cmd
}
