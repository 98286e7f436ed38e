package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tmpki/store"
)

// The ways in which a ledger is not the one of a checkpoint, and a proof proves
// nothing. Errors wrap one of them.
var (
	ErrCut       = errors.New("the ledger is shorter than the checkpoint: it was cut, or an old copy was put back")
	ErrRewritten = errors.New("the ledger is not the one of the checkpoint: what was written before was changed")
	ErrNotProof  = errors.New("not a proof")
	ErrUnproved  = errors.New("the proof does not lead from the entry to the checkpoint")
)

// Head returns the checkpoint of the whole ledger.
func Head(ctx context.Context, db *store.DB, origin string) (Checkpoint, error) {
	size, root, err := db.Root(ctx)
	return Checkpoint{origin, size, root}, err
}

// Continues proves that the ledger begins with what it was at the checkpoint: that
// since then it only grew. It fails with ErrCut or ErrRewritten.
func Continues(ctx context.Context, db *store.DB, c Checkpoint) error {
	size, root, err := db.Root(ctx)
	if err != nil {
		return err
	}
	if c.Size > size {
		return fmt.Errorf("%w: %d entries, the checkpoint has %d", ErrCut, size, c.Size)
	}
	rewritten := fmt.Errorf("%w: its first %d entries have another root hash", ErrRewritten, c.Size)
	if c.Size == 0 {
		// There is nothing to be a part of; tlog proves no such thing.
		empty, err := tlog.TreeHash(0, nil)
		if err == nil && c.Root != empty {
			err = rewritten
		}
		return err
	}
	proof, err := db.ConsistencyProof(ctx, c.Size, size)
	if err != nil {
		return err
	}
	if tlog.CheckTree(proof, size, root, c.Size, c.Root) != nil {
		return rewritten
	}
	return nil
}

// Proof proves that an entry is in a ledger. It holds all that is needed for that
// but the log's key.
type Proof struct {
	Index      int64
	Entry      []byte // in its one encoding: see store.Entry
	Hashes     tlog.RecordProof
	Checkpoint []byte // a signed note
}

// Prove returns the proof that entry seq is in the ledger of a checkpoint, which
// signed holds and must be of this ledger: see Continues.
func Prove(ctx context.Context, db *store.DB, c Checkpoint, signed []byte, seq int64) (*Proof, error) {
	if seq < 0 || seq >= c.Size {
		return nil, fmt.Errorf("entry %d is not in the checkpoint, which has %d: %w", seq, c.Size, store.ErrNotFound)
	}
	entries, err := db.Entries(ctx, seq, 1)
	if err != nil {
		return nil, err
	}
	if len(entries) != 1 {
		return nil, fmt.Errorf("ledger entry %d: %w", seq, store.ErrNotFound)
	}
	p := &Proof{Index: seq, Checkpoint: signed}
	if p.Entry, err = entries[0].Marshal(); err != nil {
		return nil, err
	}
	if p.Hashes, err = db.InclusionProof(ctx, c.Size, seq); err != nil {
		return nil, err
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, seq, tlog.RecordHash(p.Entry)); err != nil {
		return nil, fmt.Errorf("entry %d: %w", seq, ErrRewritten)
	}
	return p, nil
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// Limits of a proof: octets, and hashes (a tree has at most 63 levels).
const (
	maxProof  = 256 << 10
	maxHashes = 63
)

// Marshal returns the proof's text (C2SP tlog-proof). The entry is its extra data:
// what the hash is of.
func (p *Proof) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nextra %s\nindex %d\n", proofHeader, base64.StdEncoding.EncodeToString(p.Entry), p.Index)
	for _, h := range p.Hashes {
		fmt.Fprintf(&b, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads what Marshal writes. Its errors wrap ErrNotProof.
func ParseProof(data []byte) (*Proof, error) {
	p, err := parseProof(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotProof, err)
	}
	return p, nil
}

func parseProof(data []byte) (*Proof, error) {
	if len(data) > maxProof {
		return nil, fmt.Errorf("%d octets, more than %d", len(data), maxProof)
	}
	head, checkpoint, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		return nil, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	if len(lines) < 3 || len(lines) > 3+maxHashes || lines[0] != proofHeader {
		return nil, fmt.Errorf("it does not begin with %q, the entry and the index", proofHeader)
	}
	p := &Proof{Checkpoint: checkpoint}
	extra, ok := strings.CutPrefix(lines[1], "extra ")
	if !ok {
		return nil, errors.New("it does not hold the entry")
	}
	var err error
	if p.Entry, err = base64.StdEncoding.DecodeString(extra); err != nil {
		return nil, fmt.Errorf("entry: %v", err)
	}
	index, ok := strings.CutPrefix(lines[2], "index ")
	if !ok {
		return nil, errors.New("it has no index")
	}
	if p.Index, err = strconv.ParseInt(index, 10, 64); err != nil || p.Index < 0 {
		return nil, fmt.Errorf("index %.40q", index)
	}
	for _, line := range lines[3:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != tlog.HashSize {
			return nil, fmt.Errorf("hash %.80q", line)
		}
		p.Hashes = append(p.Hashes, tlog.Hash(hash))
	}
	if !bytes.Equal(p.Marshal(), data) {
		return nil, errors.New("not in its one form")
	}
	return p, nil
}

// Check proves that the entry is in the ledger whose key is v, and returns it and
// the checkpoint. It needs neither the PKI nor its store.
func (p *Proof) Check(v note.Verifier) (store.Entry, Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, v)
	if err != nil {
		return store.Entry{}, Checkpoint{}, fmt.Errorf("the proof's checkpoint: %w", err)
	}
	if p.Index >= c.Size || tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(p.Entry)) != nil {
		return store.Entry{}, Checkpoint{}, ErrUnproved
	}
	e, err := store.ParseEntry(p.Entry)
	if err != nil {
		return store.Entry{}, Checkpoint{}, fmt.Errorf("what was proved is no ledger entry: %w", err)
	}
	if e.Seq != p.Index {
		return store.Entry{}, Checkpoint{}, fmt.Errorf("what was proved says that it is entry %d, and is entry %d", e.Seq, p.Index)
	}
	return e, c, nil
}
