package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tmpki/artifact/guestos"
	"tmpki/plan"
	"tmpki/signing"
)

func (a *app) guestosCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guestos",
		Short: "Add a GuestOS to the PKI, build one",
		Args:  a.noSubcommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.guestosAddCmd(), a.guestosBuildCmd())
	return cmd
}

func (a *app) guestosAddCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME",
		Short: "A certificate of its own for one GuestOS",
		Long: `add puts an entry guestos_NAME into pki.yaml, below the GuestOS Signing Sub CA, and
applies the plan. NAME is the name in the GuestOS's config. The rest of pki.yaml
stays as it is, comments included.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(nil)
			if err != nil {
				return err
			}
			p := a.newProgress()
			o := a.options(os.Stderr)
			o.Progress = p.step
			steps, err := plan.Edit(cmd.Context(), dir, o, plan.AddGuestOS(args[0]))
			p.close()
			if err != nil {
				return err
			}
			return a.printSteps(steps, false)
		},
	}
}

func (a *app) guestosBuildCmd() *cobra.Command {
	var template, out, as, upstream string
	var version uint64
	cmd := &cobra.Command{
		Use:   "build --template T.conf --version N [--as NAME] IMAGES -o OUT",
		Short: "Hash images, build the dm-verity tree, write and sign NAME-N.conf",
		Long: `build fills in a template and makes a directory that is ready for a device or an
update server: OUT/NAME-N.conf with its signature, and OUT/NAME-N/ with the images
and their hash trees. IMAGES holds an IMAGE.img for each mount that needs one;
each is read once.

With SOURCE_DATE_EPOCH set, the same input gives the same config.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if template == "" || out == "" || version == 0 {
				return usagef("guestos build needs --template, --version of 1 or more, and -o")
			}
			date, reproducible, err := buildDate()
			if err != nil {
				return err
			}
			s, err := a.session(cmd)
			if err != nil {
				return err
			}
			p := a.newProgress()
			built, signer, err := s.BuildGuestOS(cmd.Context(), signing.BuildOptions{
				Template: template, Images: args[0], Out: out, As: as,
				Build: guestos.BuildOptions{
					Version: version, UpstreamVersion: upstream, BuildDate: date, Reproducible: reproducible,
					Progress: p.bytes,
				},
			})
			p.close()
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"config": built.BaseName + ".conf", "signer": signer.Entry.Name, "images": imagesJSON(built)})
			}
			for _, i := range built.Images {
				a.printf("%s.img: %d octets, SHA-256 %x\n", i.Name, i.Size, i.SHA256)
				if i.Verity != nil {
					a.printf("%s.hash.img: dm-verity root %x\n", i.Name, i.Verity.Root)
				}
			}
			a.printf("%s/%s.conf: signed by %s\n", out, built.BaseName, signer.Entry.Name)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&template, "template", "", "config to fill in")
	f.Uint64Var(&version, "version", 0, "version of the GuestOS, 1 or more")
	f.StringVar(&upstream, "upstream-version", "", "version that users see")
	f.StringVarP(&out, "output", "o", "", "directory to make or add to")
	f.StringVar(&as, "as", "", "sign with this entry of the plan")
	return cmd
}

// imageJSON is an image for programs.
type imageJSON struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Root   string `json:"verity_root,omitempty"`
}

func imagesJSON(b *guestos.Built) []imageJSON {
	list := []imageJSON{}
	for _, i := range b.Images {
		j := imageJSON{Name: i.Name, Size: i.Size, SHA256: fmt.Sprintf("%x", i.SHA256)}
		if i.Verity != nil {
			j.Root = fmt.Sprintf("%x", i.Verity.Root)
		}
		list = append(list, j)
	}
	return list
}

// buildDate is now, or what SOURCE_DATE_EPOCH says.
func buildDate() (date time.Time, reproducible bool, err error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now(), false, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, false, fmt.Errorf("SOURCE_DATE_EPOCH=%q is not a number of seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0), true, nil
}
