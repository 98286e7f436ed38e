// Package ledger signs what the store's ledger is, and proves it to others: signed
// checkpoints (C2SP tlog-checkpoint, a signed note) and proofs that an entry is in
// the ledger (C2SP tlog-proof), which anybody can check who has the log's public
// key and neither the PKI nor this program.
//
// An auditor who keeps a checkpoint finds out later whether the ledger still
// begins with what it was then. That is all that a checkpoint says: not that its
// entries are true.
package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxNote limits a signed checkpoint, in octets: room for the cosignatures of
// witnesses.
const maxNote = 64 << 10

// Checkpoint is the head of a ledger's tree at one size.
type Checkpoint struct {
	Origin string    // which ledger; also the name of its key
	Size   int64     // entries
	Root   tlog.Hash // RFC 6962, Section 2.1
}

// The ways in which a checkpoint is not to be trusted. Errors wrap one of them.
var (
	ErrMalformed = errors.New("not a signed checkpoint")
	ErrOtherKey  = errors.New("it was not signed with this log's key")
	ErrForged    = errors.New("its signature is wrong: it was changed, or forged")
	ErrOtherLog  = errors.New("it is of another log")
)

// text is what is signed (C2SP tlog-checkpoint).
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// Sign returns the checkpoint as a signed note.
func (c Checkpoint) Sign(s note.Signer) ([]byte, error) {
	if s.Name() != c.Origin {
		return nil, fmt.Errorf("the key of %q can't sign a checkpoint of %q", s.Name(), c.Origin)
	}
	signed, err := note.Sign(&note.Note{Text: c.text()}, s)
	if err != nil {
		return nil, fmt.Errorf("signing the checkpoint: %w", err)
	}
	return signed, nil
}

// OpenCheckpoint returns the checkpoint that a signed note holds, if the log's key
// has signed it. Other signatures, such as those of witnesses, don't matter.
func OpenCheckpoint(signed []byte, v note.Verifier) (Checkpoint, error) {
	if len(signed) > maxNote {
		return Checkpoint{}, fmt.Errorf("%w: %d octets are more than %d", ErrMalformed, len(signed), maxNote)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	var unknown *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unknown):
		if origin, _, _ := strings.Cut(unknown.Note.Text, "\n"); origin != v.Name() {
			return Checkpoint{}, fmt.Errorf("%w: %.200q, not %q", ErrOtherLog, origin, v.Name())
		}
		return Checkpoint{}, fmt.Errorf("%w: %s+%08x", ErrOtherKey, v.Name(), v.KeyHash())
	case errors.As(err, &invalid):
		return Checkpoint{}, ErrForged
	case err != nil:
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	c, err := parseText(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("%w: %.200q, not %q", ErrOtherLog, c.Origin, v.Name())
	}
	return c, nil
}

// parseText reads what text writes, and nothing else: we sign no extension lines.
func parseText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errors.New("not three lines: origin, size, root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 {
		return Checkpoint{}, fmt.Errorf("size %.40q", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("root hash %.80q", lines[2])
	}
	c := Checkpoint{lines[0], size, tlog.Hash(root)}
	if c.Origin == "" || c.text() != text {
		return Checkpoint{}, errors.New("not in its one form")
	}
	return c, nil
}
