package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/enroll"
	"tmpki/internal/durable"
	"tmpki/plan"
	"tmpki/store"
)

// filterFlags adds the flags of a filter to a command.
func filterFlags(cmd *cobra.Command, f *enroll.Filter) {
	flags := cmd.Flags()
	flags.StringVar(&f.Profile, "profile", "", "only certificates of this `profile`")
	flags.StringVar(&f.State, "state", "", "only those `issued`, expired, revoked, held or intended")
	flags.StringVar(&f.UUID, "uuid", "", "only UUIDs that begin with this `text`")
	flags.StringVar(&f.Name, "name", "", "only devices with this `text` in their name or serial number")
}

// inventory opens the PKI, and its store for reading.
func (a *app) inventory(ctx context.Context) (*plan.PKI, *store.DB, error) {
	dir, err := a.existing(nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	db, err := p.OpenStoreReadOnly(ctx)
	return p, db, err
}

func (a *app) deviceListCmd() *cobra.Command {
	var f enroll.Filter
	var limit int
	var after string
	var asCSV bool
	cmd := &cobra.Command{
		Use:   "list [flags]",
		Short: "The devices that have certificates",
		Long: `list shows certificates of devices in the order of their UUIDs, a page at a time,
each at the same cost: the last line tells where the next one begins. A device has a line for each certificate that it ever had.`,
		Example: "  tmpki device list --state issued --name SN12",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.Check(); err != nil {
				return &usageError{err}
			}
			if limit < 1 || limit > 100000 {
				return usagef("--limit goes from 1 to 100000")
			}
			_, db, err := a.inventory(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			list := []enroll.Device{}
			more := false
			for d, err := range enroll.Devices(cmd.Context(), db, f, store.Cursor(after), time.Now()) {
				if err != nil {
					return err
				}
				if more = len(list) == limit; more {
					break
				}
				list = append(list, d)
			}
			switch {
			case a.json:
				return a.printJSON(list)
			case asCSV:
				w := newDeviceCSV(a.cmd.OutOrStdout())
				for _, d := range list {
					if err := w.add(d); err != nil {
						return err
					}
				}
				return w.close()
			case a.quiet:
				return nil
			case len(list) == 0:
				a.printf("no devices\n")
				return nil
			}
			w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "UUID\tNAME\tSTATE\tPROFILE\tUNTIL\tSERIAL")
			for _, d := range list {
				name := d.Name
				if d.SerialNumber != "" {
					name += " (" + d.SerialNumber + ")"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", visible(d.UUID), clip(name, 48), d.State, visible(d.Profile), d.NotAfter.Local().Format(time.DateOnly), d.Serial)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if more {
				a.printf("more: %s\n", nextPage(list[len(list)-1], limit))
			}
			return nil
		},
	}
	filterFlags(cmd, &f)
	cmd.Flags().IntVar(&limit, "limit", 50, "devices on a page")
	cmd.Flags().StringVar(&after, "after", "", "go on at the `place` that the page before ended with")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print comma-separated values")
	return cmd
}

// nextPage tells how to see what comes behind the last one of a page.
func nextPage(last enroll.Device, limit int) string {
	if last.Place == "" { // intents have no places
		return fmt.Sprintf("--limit N shows more than %d", limit)
	}
	return "--after " + string(last.Place)
}

func (a *app) deviceShowCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "show UUID|SERIAL|FILE",
		Short: "A device and all its certificates",
		Long: `show finds a device by its UUID, by the serial number of a certificate (hexadecimal),
or by a certificate in a file, and shows each certificate that it ever had, the
newest first.`,
		Example: "  tmpki device show 701b8942-b485-48f3-b7a1-165ab66597a0",
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			_, db, err := a.inventory(ctx)
			if err != nil {
				return err
			}
			defer db.Close()
			uuid, err := findDevice(ctx, db, args[0])
			if err != nil {
				return err
			}
			now := time.Now()
			list, err := enroll.History(ctx, db, uuid, now)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			if a.quiet {
				return nil
			}
			t := &table{colour: colour(a.cmd.OutOrStdout())}
			for _, d := range list {
				t.heading("device %s: %s", visible(d.UUID), d.State)
				t.add("profile", visible(d.Profile))
				t.add("issued", d.Issued.Local().Format(time.DateTime)+" by "+visible(d.Actor))
				if d.State == enroll.Revoked || d.State == enroll.Held {
					revocation, err := db.Revocation(ctx, d.Issuer, d.Certificate.SerialNumber.Bytes())
					if err != nil {
						return err
					}
					t.add(d.State, fmt.Sprintf("%s: %v, by %s", revocation.Time.Local().Format(time.DateTime), revocation.Reason, visible(revocation.Actor)))
				}
				newCertificateFacts(d.Certificate).describe(t, now)
			}
			return t.flush(a.cmd.OutOrStdout())
		},
	}
}

// findDevice returns the UUID that an argument means.
func findDevice(ctx context.Context, db *store.DB, arg string) (string, error) {
	if ca.CheckUUID(arg) == nil {
		return arg, nil
	}
	serial, err := hex.DecodeString(strings.ReplaceAll(arg, ":", ""))
	if err != nil || len(serial) == 0 {
		data, err := readInput(arg)
		if err != nil {
			return "", fmt.Errorf("%q is neither a UUID nor a serial number in hexadecimal, and as a file: %w", arg, err)
		}
		certs, err := ca.ParsePEM(data)
		if err != nil {
			c, derErr := ca.ParseCertificate(data)
			if derErr != nil {
				return "", fmt.Errorf("%s: %w", arg, err)
			}
			certs = []*ca.Certificate{c}
		}
		serial = certs[0].SerialNumber.Bytes()
	}
	record, err := db.BySerial(ctx, serial)
	if err != nil {
		return "", err
	}
	uuid, ok := strings.CutPrefix(record.Name, enroll.NamePrefix)
	if !ok {
		return "", fmt.Errorf("serial %x is that of %q, which is no device: tmpki show tells about it", serial, record.Name)
	}
	return uuid, nil
}

func (a *app) deviceExportCmd() *cobra.Command {
	var f enroll.Filter
	var out string
	var asCSV, asPEM bool
	cmd := &cobra.Command{
		Use:   "export [--csv|--json|--pem] -o FILE",
		Short: "The whole inventory in a file",
		Long: `export writes every certificate of a device, in the order of the UUIDs: as
comma-separated values, as JSON (one object in each line), or as PEM.`,
		Example: "  tmpki device export --csv --state issued -o devices.csv",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := f.Check(); err != nil {
				return &usageError{err}
			}
			if out == "" {
				return usagef("-o is missing: a file, or - for standard output")
			}
			if asCSV && asPEM || a.json && (asCSV || asPEM) {
				return usagef("one of --csv, --json and --pem")
			}
			p, db, err := a.inventory(cmd.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			var to io.Writer = a.cmd.OutOrStdout()
			finish := func() error { return nil }
			if out != "-" {
				if err := p.CheckOutput(out); err != nil {
					return err
				}
				// Whoever may read the inventory is not for us to say: the owner, at first.
				file, err := durable.NewFile(out, 0o600)
				if err != nil {
					return err
				}
				defer file.Close()
				to, finish = file, file.Commit
			}
			w := bufio.NewWriterSize(to, 256<<10)
			count, err := exportDevices(enroll.Devices(cmd.Context(), db, f, "", time.Now()), w, a.json, asPEM)
			if err := errors.Join(err, w.Flush()); err != nil {
				return err
			}
			if err := finish(); err != nil {
				return err
			}
			if out != "-" && !a.quiet {
				fmt.Fprintf(os.Stderr, "tmpki: %d certificates in %s\n", count, visible(out))
			}
			return nil
		},
	}
	filterFlags(cmd, &f)
	cmd.Flags().StringVarP(&out, "output", "o", "", "the `file`, or -")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "comma-separated values (the default)")
	cmd.Flags().BoolVar(&asPEM, "pem", false, "PEM certificates")
	return cmd
}

func exportDevices(devices func(func(enroll.Device, error) bool), w io.Writer, asJSON, asPEM bool) (count int, err error) {
	var add func(enroll.Device) error
	finish := func() error { return nil }
	switch {
	case asJSON:
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		add = func(d enroll.Device) error { return e.Encode(d) }
	case asPEM:
		add = func(d enroll.Device) error {
			if d.Certificate == nil {
				return nil
			}
			_, err := w.Write(ca.MarshalPEM(d.Certificate))
			return err
		}
	default:
		c := newDeviceCSV(w)
		add, finish = c.add, c.close
	}
	for d, err := range devices {
		if err == nil {
			d.Place = "" // it is for lists
			err = add(d)
		}
		if err != nil {
			return count, err
		}
		count++
	}
	return count, finish()
}

// deviceCSV writes devices as comma-separated values.
type deviceCSV struct {
	w     *csv.Writer
	begun bool
}

func newDeviceCSV(out io.Writer) *deviceCSV { return &deviceCSV{w: csv.NewWriter(out)} }

func (c *deviceCSV) begin() error {
	if c.begun {
		return nil
	}
	c.begun = true
	return c.w.Write([]string{"uuid", "name", "serial_number", "state", "profile", "issuer", "serial", "not_before", "not_after", "issued", "actor"})
}

func (c *deviceCSV) add(d enroll.Device) error {
	if err := c.begin(); err != nil {
		return err
	}
	issued := ""
	if !d.Issued.IsZero() {
		issued = d.Issued.Format(time.RFC3339)
	}
	return c.w.Write([]string{d.UUID, enroll.Cell(d.Name), enroll.Cell(d.SerialNumber), d.State, enroll.Cell(d.Profile), d.Issuer, d.Serial,
		d.NotBefore.Format(time.RFC3339), d.NotAfter.Format(time.RFC3339), issued, enroll.Cell(d.Actor)})
}

func (c *deviceCSV) close() error {
	if err := c.begin(); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}
