// Package tree signs many files at once: it prepares the signatures on all
// cores, has them recorded in batches, and only then puts them into place. What
// a signature is, and where its place is, its callers know.
//
// The order is record, then act (one bad file stops none of the others):
//
//	find → prepare (read, sign, verify; the file stays as it is)
//	     → record (the caller's ledger, durable when it returns)
//	     → commit (replace the file, or set its attribute)
//
// So a crash can leave a recorded signature that never came into place, and
// never a signature in place that nobody recorded.
package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"

	"tmpki/internal/durable"
)

// A batch goes to the record when it has so many files, or holds so many octets:
// enough that the ledger's sync does not count, and so few that committing one
// batch overlaps with preparing the next.
const (
	batchFiles  = 32
	batchOctets = 64 << 20
)

// Result says of one signature what a ledger wants to know.
type Result struct {
	Path   string
	SHA256 [32]byte // of the content that was signed, without signatures or compression
	Size   int64    // of that content, in octets
}

// Change is a signature that is made and verified, but not in place.
type Change struct {
	Result

	// Held is how many octets Commit keeps in memory.
	Held int

	// Commit puts the signature into its place, in one step, or returns why it
	// is not there. It is called at most once.
	Commit func() error

	// Dir, if not empty, is the directory to sync before what Commit did is
	// durable.
	Dir string
}

// Options are what Run needs beside the files.
type Options struct {
	// Record writes signatures to the ledger before they are put into place,
	// and returns when that is durable. An error stops the run. It is required,
	// and never called twice at the same time.
	Record func([]Result) error

	// Progress, if not nil, is told after each file how many of all are done,
	// well or not. It is never called twice at the same time.
	Progress func(done, total int)

	// Workers is how many files are prepared at the same time; 0 takes one for
	// each core.
	Workers int
}

// FileError is why one file is not signed.
type FileError struct {
	Path string
	Err  error
}

// Error returns the path and the reason.
func (e *FileError) Error() string {
	var named *fs.PathError
	if errors.As(e.Err, &named) && named.Path == e.Path {
		return e.Err.Error()
	}
	return e.Path + ": " + e.Err.Error()
}

// Unwrap returns the reason alone.
func (e *FileError) Unwrap() error { return e.Err }

// Run signs files. It returns what is signed and durably in place, in the order of
// files, also when it returns an error: that joins a *FileError for each file
// that could not be signed, and the reason why the run stopped early, be it
// that of Record or that of ctx. What is recorded when ctx ends is still put
// into place.
func Run(ctx context.Context, files []string, prepare func(path string) (*Change, error), opts Options) ([]Result, error) {
	if opts.Record == nil {
		return nil, errors.New("signing files: no ledger to record them in")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := tally{total: len(files), progress: opts.Progress, errs: make([]error, len(files)), signed: make([]*Result, len(files))}

	// 1. Prepare on all cores.
	n := opts.Workers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	todo, prepared := make(chan int), make(chan job)
	go func() {
		defer close(todo)
		for i := range files {
			select {
			case todo <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	var workers, recorder, commits sync.WaitGroup
	for range n {
		workers.Go(func() {
			for i := range todo {
				change, err := prepare(files[i])
				if err != nil {
					t.done(job{i, &Change{Result: Result{Path: files[i]}}}, err)
					continue
				}
				prepared <- job{i, change}
			}
		})
	}
	go func() {
		workers.Wait()
		close(prepared)
	}()

	// 2. Record a batch while the next one fills, and let it be committed while that
	// is recorded.
	batches := make(chan []job)
	recorder.Go(func() {
		for batch := range batches {
			if ctx.Err() != nil {
				continue
			}
			results := make([]Result, len(batch))
			for k, j := range batch {
				results[k] = j.change.Result
			}
			if err := opts.Record(results); err != nil {
				cancel(fmt.Errorf("recording %d signatures, from %s: %w", len(batch), batch[0].change.Path, err))
				continue
			}
			commits.Wait() // three batches at most are in memory
			commits.Go(func() {
				for k, err := range commit(batch) {
					t.done(batch[k], err)
				}
			})
		}
	})
	var batch []job
	held := 0
	for j := range prepared {
		batch = append(batch, j)
		held += j.change.Held
		if len(batch) == batchFiles || held >= batchOctets {
			batches <- batch
			batch, held = nil, 0
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	close(batches)
	recorder.Wait()
	commits.Wait()

	// 3. Sum up.
	return t.sum(context.Cause(ctx))
}

// job is a change with the place of its file among all.
type job struct {
	i      int
	change *Change
}

// commit puts the signatures of a batch into place, all at once: that is waiting
// for the disk, and file systems sync many files for the price of few. It
// returns what became of each.
func commit(batch []job) []error {
	errs := make([]error, len(batch))
	var files sync.WaitGroup
	for k, j := range batch {
		files.Go(func() { errs[k] = j.change.Commit() })
	}
	files.Wait()
	synced := map[string]error{"": nil}
	for k, j := range batch {
		if errs[k] != nil {
			continue
		}
		if _, known := synced[j.change.Dir]; !known {
			synced[j.change.Dir] = durable.SyncDir(j.change.Dir)
		}
		errs[k] = synced[j.change.Dir]
	}
	return errs
}

// tally counts what has become of the files, by their place among all.
type tally struct {
	mu       sync.Mutex
	count    int
	total    int
	progress func(done, total int)
	errs     []error
	signed   []*Result
}

// done says that a file is signed, or why not.
func (t *tally) done(j job, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errs[j.i] = &FileError{Path: j.change.Path, Err: err}
	} else {
		t.signed[j.i] = &j.change.Result
	}
	t.count++
	if t.progress != nil {
		t.progress(t.count, t.total)
	}
}

// sum returns the signed files and one error for all others.
func (t *tally) sum(stopped error) ([]Result, error) {
	var results []Result
	for _, r := range t.signed {
		if r != nil {
			results = append(results, *r)
		}
	}
	errs := t.errs
	if t.count < t.total {
		errs = append(errs, fmt.Errorf("stopped with %d of %d files untouched: %w", t.total-t.count, t.total, stopped))
	}
	return results, errors.Join(errs...)
}
