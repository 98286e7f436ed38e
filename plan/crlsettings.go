package plan

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tmpki/ca"
)

// crlConfig says how the CRLs of an authority are made. It stands in the profile
// or the entry of a CA; an entry's replaces its profile's as a whole.
type crlConfig struct {
	Validity    string   `yaml:"validity,omitempty"`     // days or hours, such as 7d or 12h
	RenewBefore string   `yaml:"renew_before,omitempty"` // so long before its end a CRL is made anew
	Delta       string   `yaml:"delta,omitempty"`        // validity of delta CRLs; none: there are none
	Partitions  int      `yaml:"partitions,omitempty"`
	File        string   `yaml:"file,omitempty"`       // {name} stands for the authority
	URLs        []string `yaml:"urls,omitempty"`       // where relying parties fetch the CRL
	DeltaURLs   []string `yaml:"delta_urls,omitempty"` // and the delta CRL
}

// CRLSettings say how the CRLs of an authority are made. Every authority that may
// sign CRLs has them.
type CRLSettings struct {
	Planned     bool          // the plan has a word about it; else these are defaults, and nobody misses a CRL
	Validity    time.Duration // from 1 hour on
	RenewBefore time.Duration
	Delta       time.Duration // validity of delta CRLs; 0: there are none
	Partitions  int           // 1: one CRL for all
	URLs        []string      // with {partition} in them if there are partitions
	DeltaURLs   []string

	file string // path of the full CRL, without partition
}

// Defaults for who says nothing. An offline authority's CRL needs people to come
// together.
const (
	crlValidity        = 7 * 24 * time.Hour
	crlValidityOffline = 180 * 24 * time.Hour
	crlFile            = "crl/{name}.crl"
)

// File returns the path of a CRL relative to the PKI directory, with slashes:
// NAME.crl, NAME-PARTITION.crl, NAME-delta.crl or NAME-PARTITION-delta.crl.
func (s *CRLSettings) File(partition int, delta bool) string {
	ending := path.Ext(s.file)
	file := strings.TrimSuffix(s.file, ending)
	if s.Partitions > 1 {
		file += "-" + strconv.Itoa(partition)
	}
	if delta {
		file += "-delta"
	}
	return file + ending
}

// Request returns what a CRL of these settings looks like, but for its number and
// dates.
func (s *CRLSettings) Request(partition int, delta bool) ca.CRLRequest {
	var r ca.CRLRequest
	if s.Partitions > 1 {
		for _, u := range s.URLs {
			r.Points = append(r.Points, ca.PartitionURL(u, partition))
		}
	}
	if !delta && s.Delta > 0 {
		for _, u := range s.DeltaURLs {
			r.Freshest = append(r.Freshest, ca.PartitionURL(u, partition))
		}
	}
	return r
}

// crlSettings checks a configuration; nil stands for the defaults. Errors name the
// key below crl.
func crlSettings(name string, generation int, custody Custody, c *crlConfig) (*CRLSettings, error) {
	name = crlName(name, generation)
	s := &CRLSettings{Planned: c != nil, Validity: crlValidity, Partitions: 1, file: crlFile}
	if custody == Offline {
		s.Validity = crlValidityOffline
	}
	if c == nil {
		c = &crlConfig{}
	}
	for _, f := range []struct {
		key, value string
		to         *time.Duration
	}{{"validity", c.Validity, &s.Validity}, {"renew_before", c.RenewBefore, &s.RenewBefore}, {"delta", c.Delta, &s.Delta}} {
		if f.value == "" {
			continue
		}
		d, err := ParsePeriod(f.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		*f.to = d
	}
	if s.RenewBefore == 0 {
		s.RenewBefore = (s.Validity * 2 / 7).Truncate(time.Hour) // 2 days of 7
	}
	if s.RenewBefore >= s.Validity {
		return nil, fmt.Errorf("renew_before: %s leaves nothing of a validity of %s", period(s.RenewBefore), period(s.Validity))
	}
	if s.Delta >= s.Validity {
		return nil, fmt.Errorf("delta: %s is not shorter than the validity of full CRLs, %s", period(s.Delta), period(s.Validity))
	}
	if s.Delta > 0 && len(c.DeltaURLs) == 0 {
		return nil, errors.New("delta_urls: missing: without them nobody finds the delta CRLs")
	}
	if s.Delta == 0 && len(c.DeltaURLs) > 0 {
		return nil, errors.New("delta: missing: the validity of the CRLs at delta_urls")
	}
	if c.Partitions < 0 || c.Partitions == 1 || c.Partitions > ca.MaxPartitions {
		return nil, fmt.Errorf("partitions: %d is outside 2 to %d; without the line there is one CRL", c.Partitions, ca.MaxPartitions)
	}
	s.Partitions = max(1, c.Partitions)
	if s.Partitions > 1 && len(c.URLs) == 0 {
		return nil, errors.New("urls: missing: a certificate says by the URL in which partition it is")
	}
	if c.File != "" {
		s.file = c.File
	}
	if generation > 1 && !strings.Contains(s.file, "{name}") {
		return nil, errors.New("file: is without {name}, but each generation of the key has its own CRL")
	}
	s.file = strings.ReplaceAll(s.file, "{name}", name)
	if err := checkInside(s.file); err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if path.Ext(s.file) == "" {
		return nil, fmt.Errorf("file: %q is without an ending such as .crl", s.file)
	}
	for _, f := range []struct {
		key  string
		from []string
		to   *[]string
	}{{"urls", c.URLs, &s.URLs}, {"delta_urls", c.DeltaURLs, &s.DeltaURLs}} {
		for _, u := range f.from {
			if generation > 1 && !strings.Contains(u, "{name}") {
				return nil, fmt.Errorf("%s: %q is without {name}, but each generation of the key has its own CRL", f.key, u)
			}
			*f.to = append(*f.to, strings.ReplaceAll(u, "{name}", name))
		}
		if err := ca.CheckCRLURLs(*f.to, s.Partitions); err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	return s, nil
}

// ParsePeriod reads days or hours, such as "7d" or "12h", from 1 hour to 10 years.
func ParsePeriod(s string) (time.Duration, error) {
	unit := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour}[(s + " ")[max(0, len(s)-1)]]
	number := strings.TrimRight(s, "dh")
	n, err := strconv.Atoi(number)
	if unit == 0 || err != nil || strconv.Itoa(n) != number || len(number)+1 != len(s) || n < 1 || time.Duration(n) > 3660*24*time.Hour/unit {
		return 0, fmt.Errorf("%q is not a number of days or hours from 1h to 3660d, such as 7d", s)
	}
	return time.Duration(n) * unit, nil
}

// period shows a duration as ParsePeriod reads it.
func period(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return fmt.Sprintf("%dh", d/time.Hour)
}

// ownCRLs puts the settings of its CRLs into an authority. t is what its profile
// and the entry say.
func (l *loader) ownCRLs(e *Entry, t templateConfig) error {
	signs := e.Kind == Authority && e.Profile.SignsCRLs()
	if t.CRL != nil && !signs {
		return errors.New("only a CA whose key_usage has cRLSign has CRLs")
	}
	if !signs {
		return nil
	}
	var err error
	e.CRL, err = crlSettings(e.Base(), e.Generation, e.Custody, t.CRL)
	return err
}

// issuerCRLs puts into the configuration of a certificate where the CRLs of its
// issuer are, unless it says so itself.
func (l *loader) issuerCRLs(c *ca.ProfileConfig, issuer string) error {
	i, ok := l.config.Authorities[issuer]
	if !ok {
		return nil
	}
	t := l.config.Profiles[i.Profile].Template.merge(i.Template)
	generation := 1
	if i.Generations != nil {
		generation = i.Generations.Active
	}
	s, err := crlSettings(issuer, generation, Custody(t.Custody), t.CRL)
	if err != nil {
		return nil // told at the authority
	}
	if s.Partitions > 1 {
		if c.CRLURLs != nil && !slices.Equal(c.CRLURLs, s.URLs) {
			return fmt.Errorf("not those of its issuer's partitioned CRLs, under authorities.%s.crl.urls: leave the line out", issuer)
		}
		c.CRLPartitions = s.Partitions
	}
	if c.CRLURLs == nil {
		c.CRLURLs = s.URLs
	}
	return nil
}

// crlFiles claims the places of CRLs, so that no two have one.
func (l *loader) crlFiles() error {
	for _, e := range l.plan.Entries {
		if e.CRL == nil {
			continue
		}
		for partition := range e.CRL.Partitions {
			files := []string{e.CRL.File(partition, false)}
			if e.CRL.Delta > 0 {
				files = append(files, e.CRL.File(partition, true))
			}
			for _, file := range files {
				if o := l.taken.claim(file, e.key+".crl"); o != "" {
					return l.doc.fail(e.key+".crl", fmt.Errorf("file: %s is the place of %s too, or one lies below the other", file, o))
				}
			}
		}
	}
	return nil
}
