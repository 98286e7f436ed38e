package store

import (
	"context"
	"database/sql"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// groupJobs limits the calls that share a transaction.
const groupJobs = 256

// writing is a transaction that excludes other writers.
type writing struct {
	*sql.Tx
	backend backend
	now     time.Time // of all that it records: read within, so that the ledger's times go the way the clock goes

	classes    map[class]int64
	actors     map[string]int64
	ledger     *packer // of the entries that are not written yet; nil: no entry so far
	intents    []batch // open ones
	haveBatch  bool    // intents is read
	statements map[string]*sql.Stmt
}

// group lets calls that write share transactions: while one is being made durable,
// those that come meanwhile queue, and the next transaction is for all of them. So
// a crowd of callers with one certificate each pays for few syncs.
type group struct {
	mu      sync.Mutex
	queue   []*job
	running bool
}

// job is one call of write.
type job struct {
	ctx   context.Context
	do    func(context.Context, *writing) error
	state atomic.Int32 // jobWaiting, jobTaken or jobGone
	err   error        // what came of it, once done is closed
	done  chan struct{}
}

const (
	jobWaiting = iota
	jobTaken   // runs, or ran
	jobGone    // its caller has stopped waiting
)

// write runs do in a transaction that excludes other writers, perhaps with what
// others write. When it returns nil, what do wrote is durable; else nothing of it
// is there. Once do has begun, the end of ctx does not stop it: the context that do
// gets has no end. Do must not use the store but by its transaction.
func (db *DB) write(ctx context.Context, do func(context.Context, *writing) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, do: do, done: make(chan struct{})}
	g := &db.group
	g.mu.Lock()
	g.queue = append(g.queue, j)
	if !g.running {
		g.running = true
		go db.runGroups()
	}
	g.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobWaiting, jobGone) {
			return ctx.Err()
		}
		<-j.done
		return j.err
	}
}

// runGroups makes transactions until nobody waits.
func (db *DB) runGroups() {
	g := &db.group
	for {
		g.mu.Lock()
		n := min(len(g.queue), groupJobs)
		jobs := g.queue[:n:n]
		g.queue = g.queue[n:]
		if n == 0 {
			g.queue, g.running = nil, false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		err := db.runGroup(jobs)
		for _, j := range jobs {
			if j.err == nil {
				j.err = err
			}
			close(j.done)
		}
	}
}

// runGroup makes one transaction of jobs. The error is for all jobs that have none.
func (db *DB) runGroup(jobs []*job) error {
	// 1. Wait for the turn, as long as one of the callers does.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var waiting atomic.Int32
	waiting.Store(int32(len(jobs)))
	for _, j := range jobs {
		defer context.AfterFunc(j.ctx, func() {
			if j.state.Load() != jobTaken && waiting.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	tx, now, err := db.backend.begin(ctx, db.sql)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ctx = context.WithoutCancel(ctx)
	w := &writing{Tx: tx, backend: db.backend, now: now, statements: map[string]*sql.Stmt{}}
	if db.Now != nil {
		w.now = db.Now()
	}
	db.known.begin(w)
	// 2. Each for itself: what fails leaves nothing.
	did := 0
	for _, j := range jobs {
		if !j.state.CompareAndSwap(jobWaiting, jobTaken) {
			continue
		}
		if len(jobs) == 1 {
			if err := j.do(ctx, w); err != nil {
				return db.backend.failure(err)
			}
			did++
			continue
		}
		before := w.save()
		if _, err := tx.ExecContext(ctx, "SAVEPOINT job"); err != nil {
			return db.backend.failure(err)
		}
		if j.err = db.backend.failure(j.do(ctx, w)); j.err == nil {
			did++
		} else {
			w.restore(before)
			if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT job"); err != nil {
				return db.backend.failure(err)
			}
		}
		if _, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT job"); err != nil {
			return db.backend.failure(err)
		}
	}
	if did == 0 {
		return nil
	}
	// 3. All together.
	if w.ledger != nil {
		if err := w.ledger.write(ctx, w); err != nil {
			return db.backend.failure(err)
		}
	}
	if err := tx.Commit(); err != nil {
		return db.backend.failure(err)
	}
	db.known.commit(w)
	return nil
}

// saved is what a transaction knows at a savepoint.
type saved struct {
	classes map[class]int64
	actors  map[string]int64
	ledger  *packer
}

func (tx *writing) save() saved {
	s := saved{classes: maps.Clone(tx.classes), actors: maps.Clone(tx.actors)}
	if tx.ledger != nil {
		s.ledger = tx.ledger.clone()
	}
	return s
}

func (tx *writing) restore(s saved) {
	tx.classes, tx.actors, tx.ledger = s.classes, s.actors, s.ledger
	tx.intents, tx.haveBatch = nil, false
}

// prepared returns the statement, which is prepared once in a transaction and
// closed with it.
func (tx *writing) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := tx.statements[query]; ok {
		return stmt, nil
	}
	stmt, err := tx.PrepareContext(ctx, query)
	if err == nil {
		tx.statements[query] = stmt
	}
	return stmt, err
}
