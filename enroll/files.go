package enroll

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tmpki/ca"
	"tmpki/internal/durable"
)

// writers is how many files are written at once: each waits for its sync.
const writers = 16

// RequestFiles lists the requests in a directory, by the ends of their names, in
// the order of the names.
func RequestFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".csr", ".pem", ".der", ".p10", ".req":
			if !e.IsDir() && !durable.IsStray(e) {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no request: a file whose name ends in .csr, .pem, .der, .p10 or .req", dir)
	}
	return files, nil
}

// CertificatePath is where the certificate for a request file goes: NAME.cert beside
// it, or in dir.
func CertificatePath(request, dir string) string {
	name := strings.TrimSuffix(filepath.Base(request), filepath.Ext(request)) + ".cert"
	if dir == "" {
		dir = filepath.Dir(request)
	}
	return filepath.Join(dir, name)
}

// SignFiles is SignAll for files with one request each, whose certificates go to
// the files that place says. A file that is there already is replaced only if it
// is a certificate; it stays as it is if its request is rejected.
func (r *Registrar) SignFiles(ctx context.Context, files []string, place func(file string) string, chain Chain, told func(Result) error) (Totals, error) {
	taken := map[string]string{}
	requests := func(yield func(Request) bool) {
		for _, file := range files {
			q := Request{Source: file}
			out := place(file)
			if other := taken[out]; other != "" {
				q.Err = fmt.Errorf("its certificate would go to %s, like that of %s", out, other)
			} else if q.Err = r.CheckPlace(out); q.Err == nil {
				taken[out] = file
				q.Data, _, q.Err = durable.ReadFile(file, maxRequest)
			}
			if !yield(q) {
				return
			}
		}
	}
	// Written side by side, told in order.
	type writing struct {
		result Result
		err    chan error
	}
	queue, slots := make(chan writing, 4*writers), make(chan struct{}, writers)
	end := make(chan error, 1)
	go func() {
		var failed error
		for w := range queue {
			if err := <-w.err; failed == nil && err != nil {
				failed = fmt.Errorf("certificate for %s: %w", w.result.Source, err)
			}
			if failed == nil {
				failed = told(w.result)
			}
			if failed != nil {
				select {
				case end <- failed:
				default:
				}
			}
		}
		close(end)
	}()
	totals, err := r.SignAll(ctx, requests, func(one Result) error {
		select {
		case failed := <-end:
			return failed
		default:
		}
		w := writing{one, make(chan error, 1)}
		if one.Err != nil {
			w.err <- nil
		} else {
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				w.err <- r.write(place(one.Source), one.Certificate, chain)
			}()
		}
		queue <- w
		return nil
	})
	close(queue)
	for failed := range end {
		err = errors.Join(err, failed)
	}
	// The files are on the disk; so that their names are, too:
	var dirs []string
	for out := range taken {
		if dir := filepath.Dir(out); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		err = errors.Join(err, durable.SyncDir(dir))
	}
	return totals, err
}

// CheckPlace refuses, as an error, to have a certificate written to a file of the
// PKI, or over something else than a certificate.
func (r *Registrar) CheckPlace(path string) error {
	if err := r.reserved.Check(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // a directory that isn't there: writing will say so
		return fmt.Errorf("the place of its certificate: %w", err)
	}
	return replaceable(path, "certificate", "-----BEGIN CERTIFICATE-----\n")
}

// replaceable refuses, as an error, a place that holds something else than what
// begins with one of some texts. An empty file is replaceable.
func replaceable(path, what string, begins ...string) error {
	f, info, err := durable.OpenRegular(path, 1<<50) // of which only the beginning is read
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the place of the %s: %w", what, err)
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("the place of the %s: %w", what, err)
	}
	if info.Size() > 0 && !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(string(head[:n]), b) }) {
		return fmt.Errorf("%s is there and is no %s: it stays as it is", path, what)
	}
	return nil
}

// write puts a certificate in place, unless it is there.
func (r *Registrar) write(path string, c *ca.Certificate, chain Chain) error {
	text, err := r.PEM(c, chain)
	if err != nil {
		return err
	}
	if is, _, err := durable.ReadFile(path, int64(len(text))); err == nil && bytes.Equal(is, text) {
		return nil
	}
	return durable.PlaceFile(path, text, 0o644)
}

// SignStream is SignAll for the requests of a stream, whose certificates go to
// another one in the same order. What told has seen is written, if not flushed.
func (r *Registrar) SignStream(ctx context.Context, source string, in io.Reader, out io.Writer, chain Chain, told func(Result) error) (Totals, error) {
	w := bufio.NewWriterSize(out, 256<<10)
	totals, err := r.SignAll(ctx, Requests(source, in), func(one Result) error {
		if one.Err == nil {
			text, err := r.PEM(one.Certificate, chain)
			if err != nil {
				return err
			}
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
		return told(one)
	})
	return totals, errors.Join(err, w.Flush())
}
