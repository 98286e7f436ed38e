package enroll

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"tmpki/ca"
)

// Rejects writes which requests were rejected, and why: comma-separated values
// under the heading index,file,uuid,name,reason, or one JSON object in each line.
// Index is the place in the batch, from 1. It is safe to show and to open in a
// spreadsheet: see Cell.
type Rejects struct {
	csv  *csv.Writer
	json *json.Encoder
}

// rejectsHeading is the first line of comma-separated values.
var rejectsHeading = []string{"index", "file", "uuid", "name", "reason"}

// CheckRejects refuses, as an error, to have a list of rejections written to a file
// of the PKI, or over something else than such a list.
func (r *Registrar) CheckRejects(path string) error {
	if err := r.pki.CheckOutput(path); err != nil {
		return fmt.Errorf("the place of the list of rejections: %w", err)
	}
	return replaceable(path, "list of rejections", strings.Join(rejectsHeading, ",")+"\n", `{"index":`)
}

// NewRejects begins a list.
func NewRejects(out io.Writer, asJSON bool) (*Rejects, error) {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return &Rejects{json: e}, nil
	}
	w := csv.NewWriter(out)
	return &Rejects{csv: w}, w.Write(rejectsHeading)
}

// Reject is one of them.
type Reject struct {
	Index  int    `json:"index"` // from 1
	File   string `json:"file"`
	UUID   string `json:"uuid,omitempty"`
	Name   string `json:"name,omitempty"` // escaped
	Reason string `json:"reason"`
}

// NewReject describes a result without a certificate.
func NewReject(one Result) Reject {
	return Reject{one.Index + 1, ca.Printable(one.Source), one.UUID, ca.Printable(one.CommonName), one.Err.Error()}
}

// Add appends one.
func (r *Rejects) Add(one Reject) error {
	if r.json != nil {
		return r.json.Encode(one)
	}
	return r.csv.Write([]string{strconv.Itoa(one.Index), Cell(one.File), one.UUID, Cell(one.Name), Cell(one.Reason)})
}

// Flush writes what is not yet written.
func (r *Rejects) Flush() error {
	if r.csv == nil {
		return nil
	}
	r.csv.Flush()
	return r.csv.Error()
}

// Cell makes a text that may come from a device safe in a file of comma-separated
// values: a spreadsheet takes what begins with one of a few characters for a
// formula, and runs it. Such a character is escaped as ca.Printable escapes.
func Cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "\\" + strings.ToUpper(strconv.FormatInt(int64(s[0]), 16)) + s[1:]
	}
	return s
}
