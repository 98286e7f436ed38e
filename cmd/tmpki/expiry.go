package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/internal/calendar"
	"tmpki/internal/durable"
	"tmpki/plan"
)

func (a *app) expiryCmd() *cobra.Command {
	var within, ics string
	cmd := &cobra.Command{
		Use:   "expiry [--within 90d] [--ics FILE] [DIR]",
		Short: "What ends when",
		Long: `expiry lists when certificates, trust anchors and CRLs end, the first end first. Of
what was issued outside the plan, such as device certificates, it lists what ends
within a year and has no successor: by name, or by profile if there are many.

--ics writes a calendar file (RFC 5545) with a day for each end and reminders 90, 30
and 7 days before; CRLs are not in it. Import it again after every renewal. For cron
there is "tmpki check --within 90d".`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			horizon := 365 * 24 * time.Hour
			if within != "" {
				if horizon, err = parseDays(within); err != nil {
					return usagef("--within %v", err)
				}
			}
			now := time.Now()
			all, err := plan.Expiries(cmd.Context(), dir, now, horizon)
			if err != nil {
				return err
			}
			list := []plan.Expiry{}
			for _, x := range all {
				if within == "" || x.NotAfter.Sub(now) < horizon {
					list = append(list, x)
				}
			}
			if ics != "" {
				if err := writeCalendar(ics, dir, list, now); err != nil {
					return err
				}
			}
			if a.json {
				return a.printJSON(list)
			}
			return a.printExpiries(list, now)
		},
	}
	cmd.Flags().StringVar(&within, "within", "", "only what ends within so many `days`, such as 90d")
	cmd.Flags().StringVar(&ics, "ics", "", "write a calendar `file`; an old one is replaced")
	return cmd
}

func (a *app) printExpiries(list []plan.Expiry, now time.Time) error {
	if a.quiet {
		return nil
	}
	if len(list) == 0 {
		a.printf("nothing\n")
		return nil
	}
	w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, x := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.NotAfter.Local().Format(time.DateOnly), inDays(x.NotAfter.Sub(now)), x.Kind, expiryName(x))
	}
	return w.Flush()
}

func inDays(left time.Duration) string {
	if left <= 0 {
		return "ended"
	}
	return fmt.Sprintf("%d days", int(left.Hours()/24))
}

// expiryName says what ends, escaped.
func expiryName(x plan.Expiry) string {
	switch {
	case x.Count > 1:
		return fmt.Sprintf("%d of profile %s, the first of them", x.Count, visible(x.Profile))
	case x.Kind == plan.ExpiryIssued:
		return fmt.Sprintf("%s (%s)", ca.Printable(x.Name), visible(x.Profile))
	case x.Due:
		return visible(x.Name) + ", due: tmpki crl"
	default:
		return visible(x.Name)
	}
}

func writeCalendar(file, dir string, list []plan.Expiry, now time.Time) error {
	var events []calendar.Event
	for _, x := range list {
		if x.Kind == plan.ExpiryCRL {
			continue // made anew long before a reminder would help
		}
		// A certificate has one event whoever writes the calendar, and its
		// successor another; the first of many moves.
		id := "profile " + x.Profile
		if x.Count == 1 {
			id = x.Kind + " " + x.Name + " " + x.Serial
		}
		sum := sha256.Sum256([]byte(id))
		events = append(events, calendar.Event{
			UID:         fmt.Sprintf("%x@tmpki", sum[:16]),
			Summary:     fmt.Sprintf("%s ends: %s", x.Kind, expiryName(x)),
			Description: fmt.Sprintf("%s\nserial %s\nends %s\nPKI directory %s", expiryName(x), x.Serial, x.NotAfter.Format(time.RFC3339), visible(dir)),
			Day:         x.NotAfter.UTC(),
			Alarms:      []int{90, 30, 7},
		})
	}
	var b bytes.Buffer
	if err := calendar.Write(&b, "-//tmpki//"+version+"//EN", "Ends of certificates: "+visible(dir), now, events); err != nil {
		return err
	}
	// Nothing but a calendar is replaced, above all no key.
	old, _, err := durable.ReadFile(file, maxCalendar)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--ics: %w", err)
	}
	if err == nil && !bytes.HasPrefix(old, []byte("BEGIN:VCALENDAR\r\n")) {
		return fmt.Errorf("--ics: %q exists and is no calendar: it stays as it is", file)
	}
	return durable.WriteFile(file, b.Bytes(), 0o644)
}

// maxCalendar bounds a calendar that is replaced, in octets.
const maxCalendar = 64 << 20
