package ceremony

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of what one bundle asks for.
const (
	maxItems = 4096
	maxText  = 256       // octets of a name
	maxDER   = 64 << 10  // of a certificate or request
	maxPlan  = 256 << 10 // octets
)

// Request asks the keys of the other machine for signatures. Fields stand in the
// order of their names in the file.
type Request struct {
	envelope `json:"-"`

	Actor        string            `json:"actor"` // who asked
	Certificates []CertificateItem `json:"certificates,omitempty"`
	CRLs         []CRLItem         `json:"crls,omitempty"`
	Known        []Known           `json:"known,omitempty"` // what the other machine may not have yet
	Number       int64             `json:"number"`          // of the requests of this PKI, from 1
	PKI          string            `json:"pki"`             // its identifier, 32 hexadecimal digits
	Plan         string            `json:"plan"`            // the text of pki.yaml
	Program      string            `json:"program"`         // version
	Time         time.Time         `json:"time"`            // UTC, whole seconds
	Variables    []VariableItem    `json:"variables,omitempty"`
	Vendors      []Vendor          `json:"vendors,omitempty"`
}

// CertificateItem asks for the certificate of an entry of the plan.
type CertificateItem struct {
	CSR   []byte `json:"csr,omitempty"`  // PKCS#10, DER; none if the key is on the other machine
	Entry string `json:"entry"`          // in the plan
	Have  string `json:"have,omitempty"` // serial of the one that is known here, hexadecimal
}

// CRLItem asks for a CRL of an authority.
type CRLItem struct {
	Authority string    `json:"authority"`
	Covers    int64     `json:"covers"`            // the last ledger entry of the asking machine that it knows; -1: none
	Number    int64     `json:"number"`            // at least
	Revoked   []Revoked `json:"revoked,omitempty"` // all that is to be on it
	Validity  int64     `json:"validity"`          // seconds until the next one is due
}

// Revoked is an entry of a CRL (RFC 5280, Section 5.3).
type Revoked struct {
	Invalidity time.Time `json:"invalidity"` // since when not to be trusted; zero: not said
	Name       string    `json:"name"`       // for people
	Reason     int       `json:"reason"`
	Serial     string    `json:"serial"` // hexadecimal
	Time       time.Time `json:"time"`
}

// VariableItem asks for a signed UEFI variable.
type VariableItem struct {
	After time.Time `json:"after"` // the time in the last one; zero if there is none
	ID    string    `json:"id"`    // such as PK or board-a/db
	Owner string    `json:"owner"` // GUID of the entries
}

// Known is a certificate on record at the asking machine.
type Known struct {
	Certificate []byte `json:"certificate"` // DER
	Entry       string `json:"entry"`
}

// Vendor is a vendor's certificate in a file beside the plan.
type Vendor struct {
	Content []byte `json:"content"`
	File    string `json:"file"`
}

// Seal checks the request and makes a bundle of it, which is then to be signed.
func (r *Request) Seal() error {
	if err := r.check(); err != nil {
		return fmt.Errorf("making a request: %w", err)
	}
	var err error
	if r.envelope, err = seal(headRequest, r); err != nil {
		return fmt.Errorf("making a request: %w", err)
	}
	return nil
}

// ParseRequest reads a request, and no other encoding of it than Marshal's.
func ParseRequest(data []byte) (*Request, error) {
	e, err := parseEnvelope(data, headRequest)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	r := &Request{}
	if err := e.open(r); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	r.envelope = *e
	return r, nil
}

// FileName returns the name under which a request is put down.
func (r *Request) FileName() string {
	return fmt.Sprintf("REQUEST-%d-%s.tmpki", r.Number, r.Digest().String()[:8])
}

var (
	pkiPattern    = regexp.MustCompile(`^[0-9a-f]{32}$`)
	serialPattern = regexp.MustCompile(`^[0-9a-f]{2,40}$`)
	idPattern     = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_-]{0,63}/)?[A-Za-z]{2,8}$`)
	guidPattern   = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func (r *Request) check() error {
	if err := checkHeader(r.PKI, r.Number, r.Time, r.Actor, r.Program); err != nil {
		return err
	}
	if len(r.Plan) == 0 || len(r.Plan) > maxPlan || !utf8.ValidString(r.Plan) {
		return fmt.Errorf("plan of %d octets: 1 to %d of UTF-8 are possible", len(r.Plan), maxPlan)
	}
	n := len(r.Certificates) + len(r.CRLs) + len(r.Variables)
	if n == 0 || n > maxItems || len(r.Known) > maxItems || len(r.Vendors) > maxItems {
		return fmt.Errorf("%d things to sign: 1 to %d are possible", n, maxItems)
	}
	seen := map[string]bool{}
	once := func(kind, name string, ok bool) error {
		if !ok || seen[kind+name] {
			return fmt.Errorf("%s %.80q: a bad name, or it stands twice", kind, name)
		}
		seen[kind+name] = true
		return nil
	}
	for _, c := range r.Certificates {
		if err := once("certificate", c.Entry, namePattern.MatchString(c.Entry)); err != nil {
			return err
		}
		if len(c.CSR) > maxDER || c.Have != "" && !isSerial(c.Have) {
			return fmt.Errorf("certificate %s: a bad serial, or a request of %d octets", c.Entry, len(c.CSR))
		}
	}
	for _, c := range r.CRLs {
		if err := once("CRL of", c.Authority, namePattern.MatchString(c.Authority)); err != nil {
			return err
		}
		if err := c.check(); err != nil {
			return fmt.Errorf("CRL of %s: %w", c.Authority, err)
		}
	}
	for _, v := range r.Variables {
		if err := once("variable", v.ID, idPattern.MatchString(v.ID)); err != nil {
			return err
		}
		if !guidPattern.MatchString(v.Owner) || !isTime(v.After) {
			return fmt.Errorf("variable %s: a bad owner or time", v.ID)
		}
	}
	for _, k := range r.Known {
		if err := once("known certificate", k.Entry, namePattern.MatchString(k.Entry)); err != nil {
			return err
		}
		if len(k.Certificate) == 0 || len(k.Certificate) > maxDER {
			return fmt.Errorf("known certificate %s: %d octets", k.Entry, len(k.Certificate))
		}
	}
	for _, v := range r.Vendors {
		if err := once("file", v.File, v.File != "" && len(v.File) <= maxText && isLine(v.File)); err != nil {
			return err
		}
		if len(v.Content) == 0 || len(v.Content) > 2*maxDER {
			return fmt.Errorf("file %q: %d octets", v.File, len(v.Content))
		}
	}
	return nil
}

func (c CRLItem) check() error {
	if c.Number < 1 || c.Covers < -1 || c.Validity < 60 || c.Validity > 100*365*24*3600 || len(c.Revoked) > maxItems {
		return fmt.Errorf("number %d, validity %d s, %d revoked: out of bounds", c.Number, c.Validity, len(c.Revoked))
	}
	for i, r := range c.Revoked {
		// RFC 5280, Section 5.3.1: 7 is not used, and 8 is for delta CRLs.
		if !isSerial(r.Serial) || r.Reason < 0 || r.Reason > 10 || r.Reason == 7 || r.Reason == 8 || len(r.Name) > maxText || !utf8.ValidString(r.Name) || r.Time.IsZero() || !isTime(r.Time) || !isTime(r.Invalidity) {
			return fmt.Errorf("revocation %d is malformed", i+1)
		}
		if i > 0 && c.Revoked[i-1].Serial >= r.Serial {
			return fmt.Errorf("revocation %d: not in the order of serials, or twice", i+1)
		}
	}
	return nil
}

// checkHeader checks what both bundles say of themselves.
func checkHeader(pki string, number int64, t time.Time, actor, program string) error {
	switch {
	case !pkiPattern.MatchString(pki):
		return fmt.Errorf("%.60q is not the identifier of a PKI", pki)
	case number < 1:
		return fmt.Errorf("number %d", number)
	case t.IsZero() || !isTime(t):
		return fmt.Errorf("time %v is not in UTC and whole seconds", t)
	}
	for _, s := range []string{actor, program} {
		if s == "" || len(s) > maxText || !isLine(s) {
			return fmt.Errorf("%.80q is empty, too long, or not one line", s)
		}
	}
	return nil
}

func isSerial(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && serialPattern.MatchString(s) && b[0] != 0 && (len(b) < 20 || b[0] < 0x80)
}

// isTime reports whether a time comes back from JSON as it was.
func isTime(t time.Time) bool { return t.Equal(t.Truncate(time.Second)) && t.Location() == time.UTC }

func isLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
