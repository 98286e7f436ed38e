package enroll

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"tmpki/ca"
	"tmpki/store"
)

// Request is one request of a batch.
type Request struct {
	Source string // a file, for the one who reads of its fate
	Data   []byte // DER or PEM
	Err    error  // why it could not be read; then Data doesn't count
}

// Totals count the results of a batch.
type Totals struct {
	Issued, Known, Rejected int
}

const (
	// groupSize is how many requests share two transactions of the store.
	groupSize = 2048
	// partSize is how many of them a worker takes at a time.
	partSize = 16
	// groupWait is how long a group waits for more requests: somebody may be
	// waiting for its answer.
	groupWait = 20 * time.Millisecond
)

// group is some requests that go the road together.
type group struct {
	items []*item
	done  chan struct{}
}

// batch is one SignAll on its way.
type batch struct {
	*Registrar
	ctx    context.Context
	cancel context.CancelFunc
	err    atomic.Pointer[error] // what ends the batch, if it was not the caller's ctx

	// inFlight has the items whose intents are recorded and whose certificates are
	// not, by name and by key. Only the recorder uses it; finished tells it what to
	// forget.
	inFlight map[string]*item
	finished chan *group
}

// SignAll issues the certificates for requests, and tells the result of each in
// their order, one at a time. What it has told is durable. A request that is
// rejected stops nothing; an error that is ours, or of done, or of ctx, ends the
// batch. What was under way then is not lost: the same batch begun again answers
// what was issued before from the record, and goes on where it stopped.
func (r *Registrar) SignAll(ctx context.Context, in iter.Seq[Request], done func(Result) error) (totals Totals, err error) {
	err = errors.Join(r.db.Bulk(ctx, func() error {
		totals, err = r.signAll(ctx, in, done)
		return nil // Bulk would say what it did
	}), err)
	return totals, err
}

func (r *Registrar) signAll(ctx context.Context, in iter.Seq[Request], done func(Result) error) (totals Totals, _ error) {
	b := &batch{Registrar: r, inFlight: map[string]*item{}}
	b.ctx, b.cancel = context.WithCancel(ctx)
	defer b.cancel()
	workers := runtime.GOMAXPROCS(0)
	b.finished = make(chan *group, 4*workers+8) // more than can be under way

	read := b.read(in)
	vetted := inOrder(read, workers, func(part []*item) {
		for _, i := range part {
			if i.result.Err == nil && b.ctx.Err() == nil {
				b.reject(i, b.vet(i))
			}
		}
	})
	recorded := make(chan *group)
	go func() {
		defer close(recorded)
		for g := range vetted {
			if b.ctx.Err() == nil {
				b.fail(b.record(g))
			}
			if b.ctx.Err() == nil {
				recorded <- g
			}
		}
	}()
	signed := inOrder(recorded, workers, func(part []*item) {
		for _, i := range part {
			if i.prepared == nil || !i.recorded || b.failed() {
				continue
			}
			c, err := b.issuer.Sign(i.prepared)
			if err != nil {
				b.fail(err)
				return
			}
			i.result.Certificate = c
		}
	})
	for g := range signed {
		if b.failed() {
			continue // let the others end
		}
		if err := b.complete(g); err != nil {
			b.fail(err)
			continue
		}
		b.finished <- g
		for _, i := range g.items {
			b.follow(i)
			switch {
			case i.result.Err != nil:
				totals.Rejected++
			case i.result.Known:
				totals.Known++
			default:
				totals.Issued++
			}
			if err := done(i.result); err != nil {
				b.fail(err)
				break
			}
		}
	}
	if err := b.err.Load(); err != nil {
		return totals, *err
	}
	return totals, ctx.Err()
}

// fail ends the batch. That it was interrupted is no failure: what is recorded as
// intended then is still signed and handed out.
func (b *batch) fail(err error) {
	if err == nil || b.ctx.Err() != nil && errors.Is(err, b.ctx.Err()) {
		return
	}
	b.err.CompareAndSwap(nil, &err)
	b.cancel()
}

func (b *batch) failed() bool { return b.err.Load() != nil }

// reject notes that a request gets no certificate. Only a RejectedError is its
// own fault.
func (b *batch) reject(i *item, err error) {
	var rejected *ca.RejectedError
	switch {
	case err == nil:
	case errors.As(err, &rejected):
		i.result.Err, i.prepared = &ca.RejectedError{Reason: strings.TrimPrefix(rejected.Reason, fmt.Sprintf("%q: ", i.name))}, nil
	default:
		b.fail(err)
	}
}

// read gathers requests into groups.
func (b *batch) read(in iter.Seq[Request]) <-chan *group {
	requests := make(chan Request, groupSize)
	go func() {
		defer close(requests)
		for q := range in {
			select {
			case requests <- q:
			case <-b.ctx.Done():
				return
			}
		}
	}()
	out := make(chan *group)
	go func() {
		defer close(out)
		index := 0
		for {
			g := &group{}
			var wait <-chan time.Time
			for len(g.items) < groupSize {
				var q Request
				ok := false
				select {
				case q, ok = <-requests:
				case <-wait:
				case <-b.ctx.Done():
					return
				}
				if !ok {
					break
				}
				if wait == nil {
					wait = time.After(groupWait)
				}
				i := &item{data: q.Data, result: Result{Index: index, Source: q.Source}}
				if q.Err != nil {
					i.result.Err = rejectf("%v", q.Err)
				}
				index++
				g.items = append(g.items, i)
			}
			if len(g.items) == 0 {
				return // nothing came, and without a group nobody waits: the end
			}
			select {
			case out <- g:
			case <-b.ctx.Done():
				return
			}
		}
	}()
	return out
}

// inOrder lets workers do something with the items of groups, some items at a time,
// and passes the groups on in the order in which they came. All work on one group
// before the next: so the last one keeps none waiting for another.
func inOrder(in <-chan *group, workers int, do func([]*item)) <-chan *group {
	queue, out := make(chan *group, workers), make(chan *group)
	parts := make(chan func())
	for range workers {
		go func() {
			for part := range parts {
				part()
			}
		}()
	}
	go func() {
		defer close(queue)
		defer close(parts)
		for g := range in {
			done, left := make(chan struct{}), new(atomic.Int64)
			g.done = done
			left.Store(int64(len(g.items)))
			queue <- g
			for part := range slices.Chunk(g.items, partSize) {
				parts <- func() {
					do(part)
					if left.Add(-int64(len(part))) == 0 {
						close(done)
					}
				}
			}
		}
	}()
	go func() {
		defer close(out)
		for g := range queue {
			<-g.done
			out <- g
		}
	}()
	return out
}

// record puts the intents of a group into the store, and finds out about those
// that need none.
func (b *batch) record(g *group) error {
	b.forget()
	// 1. Requests of this batch for the same.
	var open []*item
	for _, i := range g.items {
		if i.prepared == nil || b.leads(i) {
			continue
		}
		b.inFlight[i.name], b.inFlight[i.key()] = i, i
		open = append(open, i)
	}
	// 2. What the store knows. Mostly nothing, and it says so in one answer.
	for len(open) > 0 {
		claims := make([]store.Claim, len(open))
		for n, i := range open {
			claims[n] = store.Claim{Record: i.prepared.Record(b.o.Actor), Known: i.known}
		}
		err := b.db.Claim(b.ctx, claims...)
		var taken *store.TakenError
		if err == nil {
			for _, i := range open {
				i.recorded = true
			}
			return nil
		}
		if !errors.As(err, &taken) {
			return err
		}
		var still []*item
		for n, i := range open {
			if others, ok := taken.Taken[n]; ok {
				revoke, err := b.judge(b.ctx, i, others)
				if err != nil {
					b.reject(i, err)
					if b.ctx.Err() != nil {
						return nil
					}
				}
				if err := b.revoke(revoke); err != nil {
					return err
				}
			}
			if i.result.Err == nil && !i.result.Known && !i.recorded {
				still = append(still, i)
			}
		}
		open = still
	}
	return nil
}

// revoke takes certificates back that are replaced. Another process may have done so.
func (b *batch) revoke(list []store.Revocation) error {
	for _, r := range list {
		err := b.db.Revoke(b.ctx, r)
		var already *store.AlreadyRevokedError
		if err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

func (i *item) key() string { return "key " + string(i.vetted.KeyID) }

// leads reports whether an item has its answer from an earlier one of the batch.
func (b *batch) leads(i *item) bool {
	first := b.inFlight[i.name]
	if first == nil {
		first = b.inFlight[i.key()]
	}
	switch {
	case first == nil:
		return false
	case first.name == i.name && first.key() == i.key():
		i.leader = first
	case first.name == i.name:
		b.reject(i, rejectf("UUID: request %d of this batch has it for another key", first.result.Index+1))
	default:
		b.reject(i, rejectf("publicKey: request %d of this batch has it for another UUID", first.result.Index+1))
	}
	i.prepared = nil
	return true
}

// forget takes finished groups out of inFlight.
func (b *batch) forget() {
	for {
		select {
		case g := <-b.finished:
			for _, i := range g.items {
				if i.vetted != nil && b.inFlight[i.name] == i {
					delete(b.inFlight, i.name)
				}
				if i.vetted != nil && b.inFlight[i.key()] == i {
					delete(b.inFlight, i.key())
				}
			}
		default:
			return
		}
	}
}

// follow gives an item the answer of its leader, which stands before it and so is
// complete.
func (b *batch) follow(i *item) {
	if i.leader == nil {
		return
	}
	first := i.leader.result
	i.result.Certificate, i.result.Known, i.result.Err = first.Certificate, first.Err == nil, first.Err
	i.leader = nil
}

// complete records the certificates of a group.
func (b *batch) complete(g *group) error {
	ctx := context.WithoutCancel(b.ctx)
	var open []*item
	for _, i := range g.items {
		if i.prepared != nil && i.recorded {
			open = append(open, i)
		}
	}
	for len(open) > 0 {
		done := make([]store.Completed, len(open))
		for n, i := range open {
			done[n] = store.Completed{Serial: i.prepared.Serial(), DER: i.result.Certificate.Raw}
		}
		err := b.db.Complete(ctx, done...)
		var revoked *store.AlreadyRevokedError
		if err == nil || !errors.Is(err, store.ErrIssued) && !errors.As(err, &revoked) {
			return err
		}
		// Another process took up one of these intents, or gave one up for dead.
		var still []*item
		for _, i := range open {
			o, err := b.db.ByIssuerSerial(ctx, b.issuance.Issuer.Name, i.prepared.Serial())
			switch {
			case err != nil:
				return err
			case o.State == store.Intended:
				still = append(still, i)
			case o.State == store.Issued || o.State == store.Held:
				if i.result.Certificate, err = ca.ParseCertificate(o.DER); err != nil {
					return fmt.Errorf("the store's certificate %x: %w", o.Serial, err)
				}
				i.result.Known = true
			default:
				i.result.Certificate, i.prepared = nil, nil
				i.result.Err = rejectf("was taken back while it was being signed: try again")
			}
		}
		if len(still) == len(open) {
			return err
		}
		open = still
	}
	return nil
}
