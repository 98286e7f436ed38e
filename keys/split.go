package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// What is wrong with shares, for errors.Is.
var (
	// ErrShareAltered: the share or the set is not what was written.
	ErrShareAltered = errors.New("it was altered, or damaged")
	// ErrShareForeign: the share is of another split: of another PKI, or from
	// before the passphrase was split anew.
	ErrShareForeign = errors.New("it is a share of another split")
	// ErrShareTwice: one share was given twice.
	ErrShareTwice = errors.New("it is there twice")
	// ErrTooFewShares: more are needed.
	ErrTooFewShares = errors.New("too few shares")
	// ErrSplit: a passphrase is split among people, who are not asked here.
	ErrSplit = errors.New("its passphrase is split among the officers: only a ceremony puts it together")
)

// Limits of a split.
const (
	MaxShares    = 16      // of one passphrase
	MaxShareFile = 8 << 10 // octets of a share or a set
)

// shareGroup is Ristretto255, whose arithmetic takes the same time for all secrets.
var shareGroup = group.Ristretto255

// Split is what is public of a passphrase that was split among officers: any
// Threshold of them open it, fewer learn nothing. Shares are Shamir's; Feldman's
// commitments tell a good one from a bad one (circl, package secretsharing).
//
// What the officers hold is a secret under which the passphrase is sealed. So new
// shares for other officers need no change of the keys; they need the old sealed
// passphrase to be destroyed with all its copies.
type Split struct {
	PKI       string // its identifier, 32 hexadecimal digits
	Threshold int
	Officers  []string // share i belongs to the i-th, from 1

	commitments [][]byte
	sealed      []byte // the passphrase under the split secret; nil in a share
}

// Share is what one officer holds. Printed, it shows nothing of the secret.
type Share struct {
	Split Split
	Index int // from 1

	value func() group.Scalar // see Passphrase.state
}

// Officer returns whose share it is.
func (s Share) Officer() string { return s.Split.Officers[s.Index-1] }

// Format writes whose share it is for every verb.
func (s Share) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[share of %s]", s.Officer()) }

// NewSplit splits a passphrase among officers.
func NewSplit(pki string, officers []string, threshold int, p *Passphrase) (*Split, []*Share, error) {
	s := &Split{PKI: pki, Threshold: threshold, Officers: slices.Clone(officers)}
	secret := shareGroup.RandomNonZeroScalar(rand.Reader)
	scheme := secretsharing.New(rand.Reader, uint(threshold-1), secret)
	for _, c := range scheme.CommitSecret() {
		b, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil, nil, fmt.Errorf("splitting a passphrase: %w", err)
		}
		s.commitments = append(s.commitments, b)
	}
	if err := s.check(); err != nil {
		return nil, nil, fmt.Errorf("splitting a passphrase: %w", err)
	}
	key, err := s.key(secret)
	if err != nil {
		return nil, nil, err
	}
	plain, err := p.Secret()
	if err != nil {
		return nil, nil, err
	}
	if s.sealed, err = sealSecret(plain, key); err != nil {
		return nil, nil, err
	}
	var shares []*Share
	for i, share := range scheme.Share(uint(len(officers))) {
		shares = append(shares, s.share(i+1, share.Value))
	}
	return s, shares, nil
}

// RandomPassphrase returns one of 256 random bits, in hexadecimal.
func RandomPassphrase() (*Passphrase, error) {
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	return NewPassphrase([]byte(hex.EncodeToString(random)))
}

func (s *Split) share(index int, value group.Scalar) *Share {
	public := *s
	public.sealed = nil
	return &Share{Split: public, Index: index, value: func() group.Scalar { return value }}
}

// key derives from the split secret what the passphrase is sealed with.
func (s *Split) key(secret group.Scalar) (*Passphrase, error) {
	b, err := secret.MarshalBinary()
	if err != nil {
		return nil, err
	}
	out, err := hkdf.Key(sha256.New, b, []byte(s.ID()), "tmpki split passphrase 1", 32)
	if err != nil {
		return nil, err
	}
	return NewPassphrase([]byte(hex.EncodeToString(out)))
}

// ID tells splits apart: 128 bits of the SHA-256 of all that is public but the
// sealed passphrase.
func (s *Split) ID() string {
	sum := sha256.Sum256([]byte(s.header()))
	return hex.EncodeToString(sum[:16])
}

// Combine puts the passphrase together. The errors wrap ErrShareForeign,
// ErrShareTwice, ErrShareAltered or ErrTooFewShares.
func (s *Split) Combine(shares ...*Share) (*Passphrase, error) {
	var commitment secretsharing.SecretCommitment
	for _, b := range s.commitments {
		e, err := parseElement(b)
		if err != nil {
			return nil, err
		}
		commitment = append(commitment, e)
	}
	seen := map[int]bool{}
	var list []secretsharing.Share
	for _, share := range shares {
		fail := func(err error) (*Passphrase, error) {
			return nil, fmt.Errorf("the share of %s: %w", share.Officer(), err)
		}
		if share.Split.ID() != s.ID() {
			return fail(ErrShareForeign)
		}
		if seen[share.Index] {
			return fail(ErrShareTwice)
		}
		seen[share.Index] = true
		x := secretsharing.Share{ID: shareGroup.NewScalar().SetUint64(uint64(share.Index)), Value: share.value()}
		if !secretsharing.Verify(uint(s.Threshold-1), x, commitment) {
			return fail(ErrShareAltered)
		}
		list = append(list, x)
	}
	if len(list) < s.Threshold {
		return nil, fmt.Errorf("%d of %d shares are here, %d are needed: %w", len(list), len(s.Officers), s.Threshold, ErrTooFewShares)
	}
	secret, err := secretsharing.Recover(uint(s.Threshold-1), list)
	if err != nil {
		return nil, err
	}
	key, err := s.key(secret)
	if err != nil {
		return nil, err
	}
	e, err := parseEnvelope(s.sealed)
	if err != nil {
		return nil, fmt.Errorf("the sealed passphrase: %w", err)
	}
	plain, err := openSecret(e, key)
	if err != nil {
		return nil, fmt.Errorf("the sealed passphrase: %w", ErrShareAltered)
	}
	return NewPassphrase(plain)
}

// The first lines of the two files.
const (
	headSplit = "tmpki split passphrase 1"
	headShare = "tmpki key share 1"
)

// header is what is public of a split, as lines.
func (s *Split) header() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pki %s\nthreshold %d\n", s.PKI, s.Threshold)
	for _, name := range s.Officers {
		fmt.Fprintf(&b, "officer %s\n", name)
	}
	for _, c := range s.commitments {
		fmt.Fprintf(&b, "commitment %x\n", c)
	}
	return b.String()
}

// Marshal returns the file of the split, which holds no secret but under the
// shares.
func (s *Split) Marshal() []byte {
	return sealLines(fmt.Sprintf("%s\n%ssealed %s\n", headSplit, s.header(), base64.StdEncoding.EncodeToString(s.sealed)))
}

// ParseSplit reads what Split.Marshal writes, and no other encoding of it.
func ParseSplit(data []byte) (*Split, error) {
	s, rest, err := parseSplit(data, headSplit)
	if err == nil {
		if s.sealed, err = parseBase64Line(rest, "sealed"); err == nil {
			_, err = parseEnvelope(s.sealed)
		}
	}
	if err == nil && !bytes.Equal(s.Marshal(), data) {
		err = fmt.Errorf("not in canonical form: %w", ErrShareAltered)
	}
	if err != nil {
		return nil, fmt.Errorf("split passphrase: %w", err)
	}
	return s, nil
}

// Marshal returns the file of a share: sealed under the officer's own passphrase,
// or plain if that is nil.
func (s *Share) Marshal(own *Passphrase) ([]byte, error) {
	value, err := s.value().MarshalBinary()
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("value %x\n", value)
	if own != nil {
		sealed, err := sealSecret(value, own)
		if err != nil {
			return nil, err
		}
		line = "sealed " + base64.StdEncoding.EncodeToString(sealed) + "\n"
	}
	return s.file(line), nil
}

func (s *Share) file(line string) []byte {
	return sealLines(fmt.Sprintf("%s\n%sshare %d\n%s", headShare, s.Split.header(), s.Index, line))
}

// ParseShare reads what Share.Marshal writes, and no other encoding of it. It
// calls pass, with the officer's name, for a share under a passphrase of its own.
func ParseShare(data []byte, pass func(officer string) (*Passphrase, error)) (*Share, error) {
	s, err := parseShare(data, pass)
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	return s, nil
}

func parseShare(data []byte, pass func(officer string) (*Passphrase, error)) (*Share, error) {
	public, rest, err := parseSplit(data, headShare)
	if err != nil {
		return nil, err
	}
	number, line, _ := strings.Cut(rest, "\n")
	index, err := strconv.Atoi(strings.TrimPrefix(number, "share "))
	if err != nil || index < 1 || index > len(public.Officers) {
		return nil, fmt.Errorf("no number of a share: %w", ErrShareAltered)
	}
	s := public.share(index, nil)
	if !bytes.Equal(s.file(line), data) {
		return nil, fmt.Errorf("not in canonical form: %w", ErrShareAltered)
	}
	var value []byte
	if text, plain := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "value "); plain {
		if value, err = hex.DecodeString(text); err != nil || hex.EncodeToString(value) != text {
			return nil, fmt.Errorf("no value: %w", ErrShareAltered)
		}
	} else {
		sealed, err := parseBase64Line(line, "sealed")
		if err != nil {
			return nil, err
		}
		e, err := parseEnvelope(sealed)
		if err != nil {
			return nil, err
		}
		own, err := pass(s.Officer())
		if err != nil {
			return nil, err
		}
		if own == nil {
			return nil, ErrPassphraseNeeded
		}
		if value, err = openSecret(e, own); err != nil {
			return nil, err
		}
		if len(value) != 32 {
			return nil, ErrPassphraseWrong
		}
	}
	scalar := shareGroup.NewScalar()
	if err := scalar.UnmarshalBinary(value); err != nil {
		return nil, fmt.Errorf("no value: %w", ErrShareAltered)
	}
	if again, err := scalar.MarshalBinary(); err != nil || !bytes.Equal(again, value) {
		return nil, fmt.Errorf("no value: %w", ErrShareAltered)
	}
	return public.share(index, scalar), nil
}

// sealSecret encrypts octets as seal does a private key: in a SEQUENCE that begins
// with a number, by which a wrong passphrase shows.
func sealSecret(plain []byte, p *Passphrase) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1OctetString(plain)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return seal(der, p)
}

// openSecret is the inverse of sealSecret.
func openSecret(e envelope, p *Passphrase) ([]byte, error) {
	der, err := e.open(p)
	if err != nil {
		return nil, err
	}
	input := cryptobyte.String(der)
	var seq, plain cryptobyte.String
	version := -1
	if !input.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Integer(&version) || version != 0 || !seq.ReadASN1(&plain, cbasn1.OCTET_STRING) || !seq.Empty() {
		return nil, ErrPassphraseWrong
	}
	return plain, nil
}

// sealLines ends a file with the SHA-256 of what stands before.
func sealLines(text string) []byte {
	return fmt.Appendf([]byte(text), "sha256 %x\n", sha256.Sum256([]byte(text)))
}

// parseSplit reads what both files have, and returns the lines after it.
func parseSplit(data []byte, head string) (*Split, string, error) {
	if len(data) > MaxShareFile {
		return nil, "", fmt.Errorf("%d octets are more than %d", len(data), MaxShareFile)
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if string(first) != head {
		return nil, "", fmt.Errorf("the first line is not %q", head)
	}
	const tail = len("sha256 ") + 64 + 1
	if len(data) < tail || !bytes.Equal(sealLines(string(data[:len(data)-tail])), data) {
		return nil, "", fmt.Errorf("its digest is not the one that it names: %w", ErrShareAltered)
	}
	lines := strings.SplitAfter(string(data[:len(data)-tail]), "\n")[1:]
	s := &Split{}
	next := func(word string) (string, bool) {
		if len(lines) == 0 || !strings.HasPrefix(lines[0], word+" ") || !strings.HasSuffix(lines[0], "\n") {
			return "", false
		}
		value := strings.TrimSuffix(lines[0][len(word)+1:], "\n")
		lines = lines[1:]
		return value, true
	}
	var ok bool
	var threshold string
	if s.PKI, ok = next("pki"); ok {
		threshold, ok = next("threshold")
	}
	if !ok {
		return nil, "", fmt.Errorf("lines are missing: %w", ErrShareAltered)
	}
	var err error
	if s.Threshold, err = strconv.Atoi(threshold); err != nil {
		return nil, "", fmt.Errorf("threshold: %w", ErrShareAltered)
	}
	for value, more := next("officer"); more; value, more = next("officer") {
		s.Officers = append(s.Officers, value)
	}
	for value, more := next("commitment"); more; value, more = next("commitment") {
		b, err := hex.DecodeString(value)
		if err != nil {
			return nil, "", fmt.Errorf("commitment: %w", ErrShareAltered)
		}
		s.commitments = append(s.commitments, b)
	}
	return s, strings.Join(lines, ""), s.check()
}

func parseBase64Line(line, word string) ([]byte, error) {
	text, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), word+" ")
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil {
		return nil, fmt.Errorf("%s: not what it should be: %w", word, ErrShareAltered)
	}
	return b, nil
}

var splitPKIPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (s *Split) check() error {
	n := len(s.Officers)
	switch {
	case !splitPKIPattern.MatchString(s.PKI):
		return fmt.Errorf("%.60q is not the identifier of a PKI", s.PKI)
	case n < 2 || n > MaxShares || s.Threshold < 2 || s.Threshold > n:
		return fmt.Errorf("%d of %d officers: 2 to %d can hold shares, and at least 2 must be needed", s.Threshold, n, MaxShares)
	case len(s.commitments) != s.Threshold:
		return fmt.Errorf("%d commitments for a threshold of %d: %w", len(s.commitments), s.Threshold, ErrShareAltered)
	}
	for i, name := range s.Officers {
		bad := func(r rune) bool { return !unicode.IsPrint(r) }
		if name == "" || len(name) > 64 || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) || slices.Contains(s.Officers[:i], name) {
			return fmt.Errorf("%.80q is not the name of an officer, or stands twice", name)
		}
	}
	for _, c := range s.commitments {
		if _, err := parseElement(c); err != nil {
			return err
		}
	}
	return nil
}

func parseElement(b []byte) (group.Element, error) {
	e := shareGroup.NewElement()
	if err := e.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("commitment: %w", ErrShareAltered)
	}
	if again, err := e.MarshalBinaryCompress(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("commitment: %w", ErrShareAltered)
	}
	return e, nil
}
