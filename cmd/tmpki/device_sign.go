package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"tmpki/ca"
	"tmpki/enroll"
	"tmpki/internal/durable"
	"tmpki/plan"
)

type deviceSignFlags struct {
	profile, out, allowList, chain, rejects, renew string
	replace                                        bool
}

func (a *app) deviceSignCmd() *cobra.Command {
	var f deviceSignFlags
	cmd := &cobra.Command{
		Use:   "sign [flags] CSR...|DIR|-",
		Short: "Issue certificates for requests of devices",
		Long: `sign issues a certificate for each request: one file, some files, all that is in a
directory (*.csr, *.pem, *.der), or a stream of PEM requests in a file or on
standard input, of any length. The profile in pki.yaml says what the certificates
hold; from a request come its key, the device's UUID and what the profile names.

A certificate goes to NAME.cert beside its request NAME.csr, or to -o: a file for
one request, a directory for one or several, a file or - for a stream, whose
certificates stand in the order of the requests. NAME.cert has the sub CA behind
the device's own certificate, as the device takes it; those of a stream stand
alone. --chain says otherwise: leaf, issuers, root.

A request that is rejected is told with its reason, and the rest goes on; the exit
code is 1 then. The same request again has the same certificate for an answer.
So a batch that was interrupted, or killed, is simply begun again. With --renew 90d a
device whose certificate ends within 90 days gets another one for the same key; the
old one stays good until it ends.`,
		Example: `  tmpki device sign device.csr
  tmpki device sign -o certs --rejects rejects.csv --allow-list line7.csv csrs
  tmpki device sign --profile sensor - <requests.pem >certificates.pem
  tmpki device sign --renew 90d -o certs csrs`,
		Args: between(1, 100000),
		RunE: func(cmd *cobra.Command, args []string) error { return a.deviceSign(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "device", "the `profile` of the certificates")
	flags.StringVarP(&f.out, "output", "o", "", "where the certificates go: a `file`, a directory, or -")
	flags.StringVar(&f.chain, "chain", "", "what follows a certificate: leaf, issuers or root")
	flags.StringVar(&f.rejects, "rejects", "", "list the rejected requests in this `file` (CSV; JSON if it ends in .json)")
	flags.StringVar(&f.allowList, "allow-list", "", "CSV `file` with the UUIDs or serial numbers that may have a certificate")
	flags.BoolVar(&f.replace, "replace", false, "a device that has a certificate may have another one; the old one is revoked")
	flags.StringVar(&f.renew, "renew", "", "issue anew what ends within so many `days`, such as 90d, for the same key")
	return cmd
}

// requestInput is what the arguments of device sign mean.
type requestInput struct {
	files  []string // with one request each
	stream string   // or a stream: a file, or -
	many   bool     // files: a directory or more than one file
}

// requestInputs finds out whether a file holds one request or a stream of them.
func requestInputs(args []string) (in requestInput, err error) {
	if slices.Contains(args, "-") {
		if len(args) > 1 {
			return in, usagef("- is standard input, and stands alone")
		}
		return requestInput{stream: "-"}, nil
	}
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return in, err
		}
		if info.IsDir() {
			files, err := enroll.RequestFiles(arg)
			if err != nil {
				return in, err
			}
			in.files, in.many = append(in.files, files...), true
			continue
		}
		in.files = append(in.files, arg)
	}
	in.many = in.many || len(in.files) > 1
	if in.many {
		return in, nil
	}
	f, _, err := durable.OpenRegular(args[0], 1<<50)
	if err != nil {
		return in, err
	}
	defer f.Close()
	count := 0
	for range enroll.Requests(args[0], f) {
		if count++; count == 2 {
			return requestInput{stream: args[0]}, nil
		}
	}
	return in, nil
}

func (a *app) deviceSign(ctx context.Context, f deviceSignFlags, args []string) (err error) {
	// 1. What is asked for?
	in, err := requestInputs(args)
	if err != nil {
		return err
	}
	chain := enroll.Chain(f.chain)
	switch chain {
	case "":
		if chain = enroll.WithIssuers; in.stream != "" {
			chain = enroll.Leaf
		}
	case enroll.Leaf, enroll.WithIssuers, enroll.WithRoot:
	default:
		return usagef("--chain %q is unknown: use leaf, issuers or root", f.chain)
	}
	var renew time.Duration
	if f.renew != "" {
		if renew, err = parseDays(f.renew); err != nil {
			return usagef("--renew %v", err)
		}
	}
	dir, err := a.existing(nil)
	if err != nil {
		return err
	}
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return err
	}
	r, err := enroll.Open(ctx, p, f.profile, enroll.Options{Actor: actor(), Now: time.Now, Replace: f.replace, Renew: renew, AllowList: f.allowList})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	// 2. Where do the answers go?
	batch := &deviceBatch{app: a, begun: time.Now(), progress: a.newProgress()}
	defer batch.progress.close()
	if f.rejects != "" {
		if err := r.CheckRejects(f.rejects); err != nil {
			return err
		}
		if batch.file, err = durable.NewFile(f.rejects, 0o644); err != nil {
			return err
		}
		defer batch.file.Close()
		if batch.rejects, err = enroll.NewRejects(batch.file, strings.HasSuffix(f.rejects, ".json")); err != nil {
			return err
		}
	}
	// 3. Sign.
	switch {
	case in.stream != "":
		err = a.deviceSignStream(ctx, r, in.stream, f.out, chain, batch)
	case in.many:
		err = a.deviceSignFiles(ctx, r, in.files, f.out, chain, batch)
	default:
		return errors.Join(a.deviceSignOne(ctx, r, in.files[0], f.out, chain, batch), batch.close())
	}
	batch.progress.close()
	return errors.Join(err, a.reportBatch(batch, err == nil))
}

// deviceSignOne issues one certificate.
func (a *app) deviceSignOne(ctx context.Context, r *enroll.Registrar, file, out string, chain enroll.Chain, batch *deviceBatch) error {
	switch {
	case out == "":
		out = enroll.CertificatePath(file, "")
	case out == "-":
	default:
		if info, err := os.Stat(out); err == nil && info.IsDir() {
			out = enroll.CertificatePath(file, out)
		} else if filepath.Ext(out) == "" {
			out += ".cert"
		}
	}
	if out != "-" {
		if err := r.CheckPlace(out); err != nil {
			return err
		}
	}
	data, _, err := durable.ReadFile(file, 2*ca.MaxCertificate)
	if err != nil {
		return err
	}
	one, err := r.Sign(ctx, data)
	if err != nil {
		if one.Err != nil {
			one.Source = file
			err = errors.Join(fmt.Errorf("%s: %w", file, err), batch.told(one))
		}
		return err
	}
	text, err := r.PEM(one.Certificate, chain)
	if err != nil {
		return err
	}
	if out == "-" {
		_, err := a.cmd.OutOrStdout().Write(text)
		return err
	}
	if err := durable.WriteFile(out, text, 0o644); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(signedDeviceJSON{file, out, one.UUID, ca.Printable(one.CommonName), serialHex(one.Certificate.SerialNumber), one.Known})
	}
	known := ""
	if one.Known {
		known = ", as before"
	}
	a.printf("%s: certificate of %s (%s)%s\n", visible(out), deviceID(one), ca.Printable(one.CommonName), known)
	return nil
}

// signedDeviceJSON is one certificate for programs.
type signedDeviceJSON struct {
	Request     string `json:"request"`
	Certificate string `json:"certificate"`
	UUID        string `json:"uuid,omitempty"`
	Name        string `json:"name"`
	Serial      string `json:"serial"`
	Known       bool   `json:"known"` // it was issued before
}

func deviceID(one enroll.Result) string {
	if one.UUID != "" {
		return "device " + one.UUID
	}
	return fmt.Sprintf("key %x", one.Certificate.SubjectKeyId)
}

// deviceSignFiles issues the certificates for many files.
func (a *app) deviceSignFiles(ctx context.Context, r *enroll.Registrar, files []string, out string, chain enroll.Chain, batch *deviceBatch) error {
	if out == "-" {
		return usagef("-o - is for one request or a stream: name a directory")
	}
	if out != "" {
		if err := os.MkdirAll(out, 0o755); err != nil {
			return err
		}
	}
	collectLess()
	batch.total = int64(len(files))
	var err error
	batch.totals, err = r.SignFiles(ctx, files, func(file string) string { return enroll.CertificatePath(file, out) }, chain, batch.told)
	return err
}

// deviceSignStream issues the certificates for a stream of requests.
func (a *app) deviceSignStream(ctx context.Context, r *enroll.Registrar, stream, out string, chain enroll.Chain, batch *deviceBatch) (err error) {
	in := a.cmd.InOrStdin()
	if stream != "-" {
		f, info, err := durable.OpenRegular(stream, 1<<50)
		if err != nil {
			return err
		}
		defer f.Close()
		in, batch.size = f, info.Size()
		if out == "" {
			out = enroll.CertificatePath(stream, "")
		}
	}
	counted := &countingReader{in: in, n: &batch.read}
	collectLess()
	if out == "" || out == "-" {
		batch.toStdout = true
		batch.totals, err = r.SignStream(ctx, stream, counted, a.cmd.OutOrStdout(), chain, batch.told)
		return err
	}
	if err := r.CheckPlace(out); err != nil {
		return err
	}
	file, err := durable.NewFile(out, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	if batch.totals, err = r.SignStream(ctx, stream, counted, file, chain, batch.told); err != nil {
		return fmt.Errorf("%w; the certificates so far are recorded, run the same command again", err)
	}
	if batch.totals.Issued+batch.totals.Known == 0 {
		return nil // what was there stays
	}
	return file.Commit()
}

// collectLess lets garbage lie: it is what a batch makes most of, since it keeps
// nothing. The limit bounds the memory, as long as what is kept stays well below.
func collectLess() {
	debug.SetGCPercent(1000)
	debug.SetMemoryLimit(256 << 20)
}

type countingReader struct {
	in io.Reader
	n  *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// shownRejects is how many rejections are printed; the rest is for --rejects.
const shownRejects = 20

// deviceBatch tells of a batch while it goes on, and at its end.
type deviceBatch struct {
	app      *app
	begun    time.Time
	progress *progress
	toStdout bool

	total int64        // requests, 0 if not known
	size  int64        // octets of the stream, 0 if not known
	read  atomic.Int64 // of them
	done  int64

	rejects *enroll.Rejects
	file    *durable.File
	shown   []enroll.Reject
	totals  enroll.Totals
}

// told takes the results, in order.
func (b *deviceBatch) told(one enroll.Result) error {
	b.done++
	b.progress.requests(b.done, b.total, b.read.Load(), b.size)
	if one.Err == nil {
		return nil
	}
	reject := enroll.NewReject(one)
	if len(b.shown) < shownRejects {
		b.shown = append(b.shown, reject)
	}
	if b.rejects != nil {
		return b.rejects.Add(reject)
	}
	return nil
}

// close puts the list of rejections in place.
func (b *deviceBatch) close() error {
	if b.rejects == nil {
		return nil
	}
	return errors.Join(b.rejects.Flush(), b.file.Commit())
}

// batchJSON is a batch for programs.
type batchJSON struct {
	Issued   int             `json:"issued"`
	Known    int             `json:"known"` // issued before
	Rejected int             `json:"rejected"`
	Rejects  []enroll.Reject `json:"rejects"` // the first ones
}

// reportBatch says what became of a batch.
func (a *app) reportBatch(b *deviceBatch, whole bool) error {
	t := b.totals
	if a.json && !b.toStdout {
		if err := a.printJSON(batchJSON{t.Issued, t.Known, t.Rejected, append([]enroll.Reject{}, b.shown...)}); err != nil {
			return err
		}
	}
	for _, r := range b.shown {
		place := r.File
		if b.total == 0 {
			place = fmt.Sprintf("%s: request %d", r.File, r.Index)
		}
		fmt.Fprintf(os.Stderr, "tmpki: rejected: %s: %s\n", visible(place), visible(r.Reason))
	}
	if more := t.Rejected - len(b.shown); more > 0 {
		fmt.Fprintf(os.Stderr, "tmpki: rejected: %d more; --rejects lists all\n", more)
	}
	elapsed := time.Since(b.begun)
	line := fmt.Sprintf("%d issued, %d as before, %d rejected, in %s (%.0f/s)\n", t.Issued, t.Known, t.Rejected,
		elapsed.Round(10*time.Millisecond), float64(b.done)/elapsed.Seconds())
	if b.toStdout {
		if !a.quiet {
			fmt.Fprint(os.Stderr, "tmpki: "+line)
		}
	} else {
		a.printf("%s", line)
	}
	if !whole {
		return nil // the error is told elsewhere, and the list of rejections would lack some
	}
	if err := b.close(); err != nil {
		return err
	}
	if t.Rejected > 0 {
		return fmt.Errorf("%d of %d requests were rejected", t.Rejected, t.Issued+t.Known+t.Rejected)
	}
	return nil
}
