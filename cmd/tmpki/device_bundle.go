package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/store"
)

func (a *app) deviceBundleCmd() *cobra.Command {
	var generic, root bool
	var out string
	cmd := &cobra.Command{
		Use:   "bundle UUID|--generic -o DIR|FILE.tar|-",
		Short: "Everything that goes onto a device, in its directory layout",
		Long: `bundle writes what belongs into a device's directory /data/cml/tokens, with
SHA256SUMS: its certificate with the sub CA (device.cert), the root of the base
system (ssig_rootca.cert), and the anchors of GuestOSes (ca/SHA1, as ca_register
would put them there). With --generic it is the same without a certificate, for all
devices. A device whose certificate is revoked or over is refused. No key is in it.

DIR appears, or takes the place of an older bundle, in one step. What ends in .tar
is an archive, a dash is one on standard output; the same content gives the same
archive.`,
		Example: `  tmpki device bundle 1b4e28ba-2fa1-11d2-883f-0016d3cca427 -o device-7
  tmpki device bundle --generic -o - | ssh device tar -x -C /data/cml/tokens`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if generic == (len(args) > 0) {
				return usagef("bundle: name a device by its UUID, or use --generic")
			}
			if !generic {
				if err := ca.CheckUUID(args[0]); err != nil {
					return &usageError{err}
				}
			}
			p, err := a.openPKI(cmd)
			if err != nil {
				return err
			}
			var chain []*ca.Certificate
			if !generic {
				chain, err = p.IssuedChain(cmd.Context(), plan.DeviceName(args[0]), time.Now())
				if errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("there is no certificate of device %s: tmpki device list shows those that there are", args[0])
				}
				if err != nil {
					return err
				}
				if !root {
					chain = chain[:len(chain)-1]
				}
			}
			set, anchors, err := p.DeviceFiles(chain)
			if err != nil {
				return err
			}
			certs := chain
			for _, t := range anchors {
				certs = append(certs, t.Certificate)
			}
			if err := a.writeSet(p, set, out, newest(certs)); err != nil {
				return err
			}
			for _, t := range anchors {
				for _, w := range t.Warnings {
					a.warn(fmt.Sprintf("%s: %s", t.Name, w))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&generic, "generic", false, "without a certificate, for all devices")
	cmd.Flags().BoolVar(&root, "with-root", false, "put the root into device.cert, too")
	addOutput(cmd, &out, "DIR")
	return cmd
}
