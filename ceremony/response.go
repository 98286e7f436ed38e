package ceremony

import (
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"
)

// maxTranscript bounds the transcript in a response, in octets.
const maxTranscript = 1 << 20

// Response is what a ceremony has signed. Fields stand in the order of their
// names in the file.
type Response struct {
	envelope `json:"-"`

	Actor        string    `json:"actor"`                  // account and machine of the ceremony
	Certificates []Issued  `json:"certificates,omitempty"` // issuers before what they issued
	CRLs         []CRL     `json:"crls,omitempty"`
	Number       int64     `json:"number"`  // of the request
	PKI          string    `json:"pki"`     // as in the request
	Plan         string    `json:"plan"`    // SHA-256 of pki.yaml, hexadecimal
	Program      string    `json:"program"` // version
	Request      string    `json:"request"` // digest, hexadecimal
	Time         time.Time `json:"time"`    // UTC, whole seconds
	Transcript   string    `json:"transcript"`
	// TranscriptSignature is a detached CMS over the transcript; none if no key
	// can make one.
	TranscriptSignature []byte     `json:"transcript_signature,omitempty"`
	TranscriptSigner    string     `json:"transcript_signer,omitempty"` // entry
	Variables           []Variable `json:"variables,omitempty"`
}

// Issued is the certificate of an entry.
type Issued struct {
	Certificate []byte `json:"certificate"` // DER
	Entry       string `json:"entry"`
}

// CRL is that of an authority.
type CRL struct {
	Authority string `json:"authority"`
	Content   []byte `json:"content"` // DER
}

// Variable is a signed UEFI variable.
type Variable struct {
	Content []byte `json:"content"` // EFI_VARIABLE_AUTHENTICATION_2 and payload
	ID      string `json:"id"`
}

// Seal checks the response and makes a bundle of it, which is then to be signed.
func (r *Response) Seal() error {
	if err := r.check(); err != nil {
		return fmt.Errorf("making a response: %w", err)
	}
	var err error
	if r.envelope, err = seal(headResponse, r); err != nil {
		return fmt.Errorf("making a response: %w", err)
	}
	return nil
}

// ParseResponse reads a response, and no other encoding of it than Marshal's.
func ParseResponse(data []byte) (*Response, error) {
	e, err := parseEnvelope(data, headResponse)
	if err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	r := &Response{}
	if err := e.open(r); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	r.envelope = *e
	return r, nil
}

func (r *Response) check() error {
	if err := checkHeader(r.PKI, r.Number, r.Time, r.Actor, r.Program); err != nil {
		return err
	}
	for _, s := range []string{r.Plan, r.Request} {
		if b, err := hex.DecodeString(s); err != nil || len(b) != len(Digest{}) || hex.EncodeToString(b) != s {
			return fmt.Errorf("%.80q is not a SHA-256 in hexadecimal", s)
		}
	}
	if len(r.Transcript) == 0 || len(r.Transcript) > maxTranscript || !utf8.ValidString(r.Transcript) {
		return fmt.Errorf("transcript of %d octets: 1 to %d of UTF-8 are possible", len(r.Transcript), maxTranscript)
	}
	if len(r.TranscriptSignature) > maxDER || (len(r.TranscriptSignature) > 0) != namePattern.MatchString(r.TranscriptSigner) {
		return fmt.Errorf("transcript: a signature of %d octets by %.80q", len(r.TranscriptSignature), r.TranscriptSigner)
	}
	if n := len(r.Certificates) + len(r.CRLs) + len(r.Variables); n == 0 || n > maxItems {
		return fmt.Errorf("%d signed things: 1 to %d are possible", n, maxItems)
	}
	seen := map[string]bool{}
	once := func(kind, name string, ok bool, content []byte, limit int) error {
		if !ok || seen[kind+name] || len(content) == 0 || len(content) > limit {
			return fmt.Errorf("%s %.80q: a bad name, it stands twice, or has %d octets", kind, name, len(content))
		}
		seen[kind+name] = true
		return nil
	}
	for _, c := range r.Certificates {
		if err := once("certificate", c.Entry, namePattern.MatchString(c.Entry), c.Certificate, maxDER); err != nil {
			return err
		}
	}
	for _, c := range r.CRLs {
		if err := once("CRL of", c.Authority, namePattern.MatchString(c.Authority), c.Content, MaxBundle); err != nil {
			return err
		}
	}
	for _, v := range r.Variables {
		if err := once("variable", v.ID, idPattern.MatchString(v.ID), v.Content, MaxBundle); err != nil {
			return err
		}
	}
	return nil
}
