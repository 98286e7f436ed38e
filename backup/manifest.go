// Package backup copies a PKI directory that is in use into one encrypted file,
// and makes a directory of it again, on this machine or another.
//
// The file is an age file (age-encryption.org/v1) that holds a tar archive (POSIX
// pax): the manifest, then what it lists, in its order. So age and tar read it
// too, should this program be gone. The reader is strict: it takes nothing that
// the writer would not have written.
//
// What lies outside of the directory, keys in tokens and on media that are not
// there, is not in a backup; the manifest names it.
package backup

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Format is the version of what this package writes.
const Format = "tmpki-backup/1"

const (
	manifestName = "manifest.json"
	prefix       = "pki/" // of the files in the archive

	maxManifest = 32 << 20 // octets
	maxFiles    = 100_000  // files and directories
	maxSize     = 1 << 40  // octets of all files
	maxPath     = 4096     // octets
	maxSegment  = 255      // octets: NAME_MAX
)

// Manifest says what is in a backup.
type Manifest struct {
	Format     string      `json:"format"`
	ID         string      `json:"id"` // drawn; the ledger has it too
	Time       time.Time   `json:"time"`
	Program    string      `json:"program"`   // its version
	Directory  string      `json:"directory"` // its name, without the path
	Plan       string      `json:"plan"`
	PlanSHA256 string      `json:"plan_sha256"` // of pki.yaml
	Ledger     Ledger      `json:"ledger"`
	Dirs       []Directory `json:"directories"` // parents first
	Files      []File      `json:"files"`       // pki.yaml first, pki.db last
	Absent     []Absent    `json:"absent"`
	Faults     []string    `json:"faults"` // keys that were not those of their certificates
}

// Ledger is the state of the ledger in the copy of the store.
type Ledger struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // RFC 6962 tree hash, hexadecimal
}

// Directory is one below the PKI directory.
type Directory struct {
	Path string `json:"path"` // relative, slashes
	Mode string `json:"mode"` // permission bits, such as "0700"
}

// File is one file.
type File struct {
	Path   string `json:"path"` // relative, slashes
	Mode   string `json:"mode"` // permission bits, such as "0600"
	Size   int64  `json:"size"` // octets
	SHA256 string `json:"sha256"`
}

// Absent is something that belongs to the PKI and is not in the backup.
type Absent struct {
	Name string `json:"name"` // of an entry of the plan, or a path
	Why  string `json:"why"`
}

// marshal returns the manifest's one encoding.
func (m *Manifest) marshal() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	if b.Len() > maxManifest {
		return nil, fmt.Errorf("a manifest of more than %d octets", maxManifest)
	}
	return b.Bytes(), nil
}

// parseManifest reads what marshal writes, and nothing else.
func parseManifest(data []byte) (*Manifest, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	m := &Manifest{}
	if err := d.Decode(m); err != nil {
		if m.Format != "" && m.Format != Format {
			return nil, fmt.Errorf("format %.80q: this program reads %q", m.Format, Format)
		}
		return nil, err
	}
	if m.Format != Format {
		return nil, fmt.Errorf("format %.80q: this program reads %q", m.Format, Format)
	}
	again, err := m.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("not in canonical form")
	}
	return m, m.check()
}

// storeName and planName are the two files that each backup has.
const (
	planName  = "pki.yaml"
	storeName = "pki.db"
)

// check refuses a manifest that no PKI directory could have given: its paths
// become names on a disk.
func (m *Manifest) check() error {
	if !isHex(m.ID, 16) {
		return fmt.Errorf("id %.80q is not 16 octets in hexadecimal", m.ID)
	}
	if m.Time.IsZero() || m.Time.Location() != time.UTC || m.Time.Nanosecond() != 0 {
		return fmt.Errorf("time %v is not one in UTC, to the second", m.Time)
	}
	if m.Ledger.Size < 1 || !isHex(m.Ledger.Root, 32) {
		return fmt.Errorf("ledger of size %d with root %.80q", m.Ledger.Size, m.Ledger.Root)
	}
	if len(m.Dirs)+len(m.Files) > maxFiles {
		return fmt.Errorf("%d files and directories, more than %d", len(m.Dirs)+len(m.Files), maxFiles)
	}
	seen := map[string]bool{}
	dirs := map[string]bool{".": true}
	add := func(p, mode string) error {
		if err := checkPath(p); err != nil {
			return err
		}
		if seen[p] {
			return fmt.Errorf("%.200q is there twice", p)
		}
		seen[p] = true
		if !dirs[path.Dir(p)] {
			return fmt.Errorf("%.200q: its directory does not come before it", p)
		}
		_, err := parseMode(mode)
		return err
	}
	for _, d := range m.Dirs {
		if err := add(d.Path, d.Mode); err != nil {
			return err
		}
		dirs[d.Path] = true
	}
	if n := len(m.Files); n < 2 || m.Files[0].Path != planName || m.Files[n-1].Path != storeName {
		return fmt.Errorf("the first file must be %s, the last %s", planName, storeName)
	}
	total := int64(0)
	for _, f := range m.Files {
		if err := add(f.Path, f.Mode); err != nil {
			return err
		}
		if f.Size < 0 || f.Size > maxSize-total {
			return fmt.Errorf("%.200q has %d octets: more than %d together", f.Path, f.Size, int64(maxSize))
		}
		total += f.Size
		if !isHex(f.SHA256, 32) {
			return fmt.Errorf("%.200q: %.80q is not a SHA-256 digest", f.Path, f.SHA256)
		}
	}
	if m.PlanSHA256 != m.Files[0].SHA256 {
		return fmt.Errorf("the plan's digest is not that of %s", planName)
	}
	return nil
}

// size returns how many octets the files have together.
func (m *Manifest) size() (total int64) {
	for _, f := range m.Files {
		total += f.Size
	}
	return total
}

// checkPath refuses a path that leads anywhere but down, or has a second spelling.
func checkPath(p string) error {
	if !fs.ValidPath(p) || p == "." || !utf8.ValidString(p) || strings.ContainsRune(p, 0) || len(p) > maxPath {
		return fmt.Errorf("path %.200q: it is absolute, has empty, \".\" or \"..\" segments, or can't be kept", p)
	}
	for segment := range strings.SplitSeq(p, "/") {
		if len(segment) > maxSegment {
			return fmt.Errorf("path %.200q: a name of %d octets", p, len(segment))
		}
	}
	return nil
}

var modePattern = regexp.MustCompile(`^0[0-7]{3}$`)

// parseMode reads permission bits. There are no others: no setuid, no sticky bit.
func parseMode(s string) (fs.FileMode, error) {
	if !modePattern.MatchString(s) {
		return 0, fmt.Errorf("mode %.80q: it must be like 0600", s)
	}
	var mode uint32
	_, err := fmt.Sscanf(s, "%o", &mode)
	return fs.FileMode(mode), err
}

func formatMode(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }

func isHex(s string, octets int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == octets && hex.EncodeToString(b) == s
}

// onlyEnd fails if r has anything left. Reading to the end also is what
// authenticates the last of an age file.
func onlyEnd(r io.Reader) error {
	var one [1]byte
	n, err := io.ReadFull(r, one[:])
	if n > 0 {
		return errors.New("something follows the archive")
	}
	if err == io.EOF {
		return nil
	}
	return err
}
