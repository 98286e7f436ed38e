// Package ceremony holds the two files that people carry between a machine with
// keys that sign every day and one with keys that rest: the request, which says
// what is to be signed, and the response with what was.
//
// Both are texts of a few lines: the first says which of the two it is and in
// which version, the second is one JSON object in a canonical form, the third its
// digest, and the rest are signatures. There is one encoding of each: what
// ParseRequest and ParseResponse read, Marshal writes again octet by octet.
//
// The package knows no plan and no store: what a bundle asks for, and whether
// that may be signed, is for package plan to judge. It opens no certificate or
// request inside a bundle either.
package ceremony

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"tmpki/spki"
)

// MaxBundle bounds a bundle, in octets.
const MaxBundle = 4 << 20

// The first lines of bundles. A signature covers it, so that one of a request is
// none of a response; and no certificate or CRL, which begin with 0x30, can be
// taken for a text that begins so.
const (
	headRequest  = "tmpki ceremony request 1"
	headResponse = "tmpki ceremony response 1"
)

// ErrAltered is what reading a bundle returns, wrapped, if its digest or form says
// that it is not what was written.
var ErrAltered = errors.New("it was altered, or damaged on its way")

// Digest is the SHA-256 of a bundle's first two lines. Two people who read the
// same one, at either end, have the same bundle.
type Digest [sha256.Size]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// shortDigits is how many hexadecimal digits of a digest people compare: 128 bits,
// so that nobody finds a second bundle that has them too.
const shortDigits = 32

// Short returns what people compare: the first 128 bits, such as
// "3f2a 9c41 …", in eight groups.
func (d Digest) Short() string {
	s := d.String()[:shortDigits]
	var groups []string
	for i := 0; i < len(s); i += 4 {
		groups = append(groups, s[i:i+4])
	}
	return strings.Join(groups, " ")
}

// Matches reports whether text is the digest, or its short form. Spaces, dashes
// and colons between the digits don't count, nor does case.
func (d Digest) Matches(text string) bool {
	text = strings.ToLower(strings.NewReplacer(" ", "", "-", "", ":", "").Replace(text))
	return len(text) >= shortDigits && strings.HasPrefix(d.String(), text)
}

// Signature is that of an entry of the plan over a bundle.
type Signature struct {
	Entry string // whose key
	Value []byte
}

// maxSignatures bounds the signatures of one bundle.
const maxSignatures = 64

// envelope is a bundle without an understanding of its second line.
type envelope struct {
	head       string
	body       []byte
	signatures []Signature
}

// message is what the digest and the signatures are over.
func (e *envelope) message() []byte {
	return fmt.Appendf(nil, "%s\n%s\n", e.head, e.body)
}

// Digest returns the SHA-256 of the first two lines.
func (e *envelope) Digest() Digest { return sha256.Sum256(e.message()) }

// Signatures returns the signatures of the bundle, none of them verified.
func (e *envelope) Signatures() []Signature { return e.signatures }

// Sign adds the signature of an entry's key.
func (e *envelope) Sign(entry string, key crypto.Signer, algorithm spki.SignatureAlgorithm) error {
	if !namePattern.MatchString(entry) || len(e.signatures) == maxSignatures {
		return fmt.Errorf("signing the bundle as %q: a bad name, or one too many", entry)
	}
	value, err := algorithm.Sign(key, e.message())
	if err != nil {
		return fmt.Errorf("signing the bundle as %q: %w", entry, err)
	}
	e.signatures = append(e.signatures, Signature{entry, value})
	return nil
}

// Verify checks one of the signatures. The error wraps spki.ErrSignature if it is
// not that key's.
func (e *envelope) Verify(s Signature, key crypto.PublicKey, algorithm spki.SignatureAlgorithm) error {
	return algorithm.Verify(key, e.message(), s.Value)
}

// Marshal returns the file.
func (e *envelope) Marshal() []byte {
	out := e.message()
	out = fmt.Appendf(out, "sha256 %v\n", e.Digest())
	for _, s := range e.signatures {
		out = fmt.Appendf(out, "signature %s %s\n", s.Entry, base64.StdEncoding.EncodeToString(s.Value))
	}
	return out
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// parseEnvelope reads what Marshal writes.
func parseEnvelope(data []byte, head string) (*envelope, error) {
	if len(data) > MaxBundle {
		return nil, fmt.Errorf("%d octets are more than %d", len(data), MaxBundle)
	}
	first, rest, ok := bytes.Cut(data, []byte("\n"))
	switch {
	case !ok || !bytes.HasPrefix(data, []byte("tmpki ceremony ")):
		return nil, errors.New("no bundle of a ceremony")
	case string(first) == head:
	case string(first) == headRequest:
		return nil, errors.New("a request, where a response should be")
	case string(first) == headResponse:
		return nil, errors.New("a response, where a request should be")
	default:
		return nil, fmt.Errorf("a bundle of a kind that this program does not know: %.60q", first)
	}
	e := &envelope{head: head}
	body, rest, ok := bytes.Cut(rest, []byte("\n"))
	if !ok || len(rest) == 0 {
		return nil, fmt.Errorf("the file is cut off: %w", ErrAltered)
	}
	e.body = bytes.Clone(body)
	line, rest, _ := bytes.Cut(rest, []byte("\n"))
	if string(line) != "sha256 "+e.Digest().String() {
		return nil, fmt.Errorf("its digest is not the one that it names: %w", ErrAltered)
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		fields := strings.Split(string(line), " ")
		if len(fields) != 3 || fields[0] != "signature" || !namePattern.MatchString(fields[1]) || len(e.signatures) == maxSignatures {
			return nil, fmt.Errorf("a line that is no signature: %w", ErrAltered)
		}
		value, err := base64.StdEncoding.Strict().DecodeString(fields[2])
		if err != nil || len(value) == 0 {
			return nil, fmt.Errorf("the signature of %s can't be read: %w", fields[1], ErrAltered)
		}
		e.signatures = append(e.signatures, Signature{fields[1], value})
	}
	if !bytes.Equal(e.Marshal(), data) {
		return nil, fmt.Errorf("it is not in canonical form: %w", ErrAltered)
	}
	return e, nil
}

// seal makes a bundle of a body.
func seal(head string, body any) (envelope, error) {
	data, err := marshalBody(body)
	if err != nil {
		return envelope{}, err
	}
	e := envelope{head: head, body: data}
	if n := len(e.Marshal()) + maxSignatures*1024; n > MaxBundle {
		return envelope{}, fmt.Errorf("the bundle would have %d octets, more than %d", n, MaxBundle)
	}
	return e, nil
}

// open reads the body of a bundle into out, and refuses any other encoding of it.
func (e *envelope) open(out any) error {
	d := json.NewDecoder(bytes.NewReader(e.body))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("%v: %w", err, ErrAltered)
	}
	again, err := marshalBody(out)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, e.body) {
		return fmt.Errorf("its content is not in canonical form: %w", ErrAltered)
	}
	return nil
}

// marshalBody returns JSON without spaces, members in the order of their names.
func marshalBody(body any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
