package takeover

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/spki"
)

// judge holds what was found against what the platform's verifiers need, and
// against what a CA should be.
func (f *Found) judge(now time.Time) {
	for _, c := range f.certs {
		if c.platform {
			f.judgePlatformKey(c, now)
		} else {
			f.judgeCertificate(c, now)
		}
	}
	f.judgeIndexes()
	f.judgeKeys()
	f.judgeWhole()
}

func (f *Found) judgeCertificate(c *certificate, now time.Time) {
	name := c.record
	entry := c.name != ""
	bad := func(format string, args ...any) { f.add(plan.Bad, name, format, args...) }
	warn := func(format string, args ...any) { f.add(plan.Warn, name, format, args...) }
	note := func(format string, args ...any) { f.add(plan.Note, name, format, args...) }

	// 1. What nothing should trust.
	if c.AlgorithmError != nil { // MD5 and SHA-1 among others
		bad("its signature can't be verified: %v", c.AlgorithmError)
	}
	if k := c.KeyType(); (k.Kind == spki.RSA || k.Kind == spki.RSAPSS) && k.Bits < 2048 {
		bad("its key has only %d bits", k.Bits)
	}
	switch {
	case c.Version < 3 && c.authority():
		bad("is of version %d: it can't say that it is a CA, and verifiers of today refuse it as one", c.Version)
	case c.Version < 3:
		warn("is of version %d: it can't say what it is for", c.Version)
	}
	if c.SerialNumber.Sign() <= 0 || len(c.SerialNumber.Bytes()) > 20 {
		bad("its serial number %v is not one of RFC 5280: it can't be recorded", c.SerialNumber)
	}
	if root := c.root(); root != nil && c.AlgorithmError == nil {
		f.judgeChain(c, root, now)
	}
	if !entry {
		return
	}
	// 2. What the platform's verifiers need.
	wantsKeyID := slices.Contains(c.signs(), "ima")
	switch sum := keyID(c); {
	case len(c.SubjectKeyId) == 0 && wantsKeyID:
		bad("has no subject key identifier: the kernel finds IMA keys by it")
	case len(c.SubjectKeyId) == 0 && c.authority():
		warn("has no subject key identifier: what it issues can't name it")
	case len(c.SubjectKeyId) > 0 && sum != nil && !bytes.Equal(c.SubjectKeyId, sum) && wantsKeyID:
		warn("its subject key identifier is not SHA-1 of its key: kernels look for that")
	}
	if s, ok := signing[c.name]; ok && c.signs() == nil {
		warn("its key (%v), or one above it, can't be verified where %s are: it signs nothing in the plan", c.KeyType(), strings.Join(s.artifacts, ", "))
	}
	for _, x := range c.UnhandledCriticalExtensions {
		warn("has the critical extension %v: verifiers that don't know it refuse it", x)
	}
	// 3. What the platform's scripts, and others, do wrong.
	if c.name == "ssig_subca" && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		warn("lacks digitalSignature: what it signs itself, as the platform's scripts let it sign kernels, sbverify refuses (let ssig sign)")
	}
	if c.IsCA && c.issuer != nil && c.MaxPathLen <= 0 && !c.MaxPathLenZero {
		note("has no path length limit: each CA below it could make others")
	}
	if c.IsCA && c.KeyUsage&x509.KeyUsageDigitalSignature != 0 && c.name != "ssig_subca" {
		note("is a CA that may also sign data (digitalSignature)")
	}
	for _, x := range c.Extensions {
		if x.Id.Equal(oidKeyUsage) && !x.Critical {
			note("its key usage is not critical")
		}
		if x.Id.Equal(oidAuthorityKeyID) && pinsSerial(x.Value) {
			note("its authority key identifier names the issuer's serial: it ends with the issuer's certificate, not with its key")
		}
	}
	if c.KeyType().Kind != spki.RSA && c.KeyUsage&x509.KeyUsageKeyEncipherment != 0 || len(c.signs()) > 0 && c.KeyUsage&x509.KeyUsageKeyEncipherment != 0 {
		note("may encipher keys (keyEncipherment), which its key is not for")
	}
	for _, u := range slices.Concat(c.OCSPServer, c.IssuingCertificateURL, c.CRLDistributionPoints) {
		if localhost(u) {
			warn("names %.200s, which is another machine for everybody: new certificates will not", u)
			break
		}
	}
	isServer := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	responder := strings.Contains(c.name, "ocsp")
	if isServer && !responder && len(c.DNSNames)+len(c.IPAddresses) == 0 {
		warn("is for a server and names no host (subjectAltName): TLS clients refuse it")
	}
	if responder && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		warn("is not for OCSP (extended key usage OCSPSigning): clients refuse its answers")
	}
	if a := c.Algorithm; a.Scheme == spki.PSS && a.SaltLength != a.Hash.Size() {
		note("is signed with a PSS salt of %d octets, not the %d of its hash: some verifiers take no other", a.SaltLength, a.Hash.Size())
	}
	if c.issuer != nil {
		if k := c.issuer.KeyType(); k.Kind == spki.EC && k.Curve != "P-256" && c.Algorithm.Hash == crypto.SHA256 {
			note("is signed with SHA-256 by a key on %s, which is stronger than that", k.Curve)
		}
	}
}

// judgeChain verifies a certificate as OpenSSL would, at a time when all of its chain
// was valid, and looks at its dates.
func (f *Found) judgeChain(c, root *certificate, now time.Time) {
	switch {
	case now.After(c.NotAfter) && c.name != "":
		f.add(plan.Warn, c.record, "has ended on %s", c.NotAfter.Local().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		f.add(plan.Warn, c.record, "begins on %s only", c.NotBefore.Local().Format(time.DateOnly))
	}
	var helpers []*ca.Certificate
	from, until := c.NotBefore, c.NotAfter
	for up := c.issuer; up != nil; up = up.issuer {
		helpers = append(helpers, up.Certificate)
		if up.NotBefore.After(from) {
			from = up.NotBefore
		}
		if up.NotAfter.Before(until) {
			until = up.NotAfter
			if c.name != "" {
				f.add(plan.Note, c.record, "outlives its issuer %s, which ends on %s", up.record, until.Local().Format(time.DateOnly))
			}
		}
	}
	if root.Version < 3 {
		return // told
	}
	if until.Before(from) {
		f.add(plan.Warn, c.record, "was never valid together with its issuers")
		return
	}
	when := now
	if when.Before(from) {
		when = from
	}
	if when.After(until) {
		when = until
	}
	if _, err := ca.Verify(c.Certificate, ca.VerifyOptions{Roots: []*ca.Certificate{root.Certificate}, Intermediates: helpers, Time: when}); err != nil {
		f.add(plan.Bad, c.record, "its chain does not verify: %v", err)
	}
}

var (
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// pinsSerial reports whether an authority key identifier holds more than the key
// identifier (RFC 5280, Section 4.2.1.1).
func pinsSerial(value []byte) bool {
	var id struct {
		KeyID  []byte        `asn1:"optional,tag:0"`
		Issuer asn1.RawValue `asn1:"optional,tag:1"`
		Serial asn1.RawValue `asn1:"optional,tag:2"`
	}
	_, err := asn1.Unmarshal(value, &id)
	return err == nil && len(id.Serial.FullBytes) > 0
}

// keyID is the key identifier of RFC 5280, Section 4.2.1.2, method 1.
func keyID(c *certificate) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil
	}
	sum := sha1.Sum(info.Key.Bytes)
	return sum[:]
}

// judgeIndexes holds each index.txt against the certificates of its CA, and gives
// each of those its line.
func (f *Found) judgeIndexes() {
	for _, x := range f.indexes {
		issuer := f.issuerOf(x)
		if issuer == nil {
			f.add(plan.Bad, x.file, "the CA that it belongs to is not among the files")
			continue
		}
		bySerial := map[string]*certificate{}
		for _, c := range f.certs {
			if c.issuer == issuer || c == issuer && c.issuer == nil {
				bySerial[string(c.SerialNumber.Bytes())] = c
			}
		}
		seen := map[string]bool{}
		for i := range x.lines {
			l := &x.lines[i]
			bad := func(format string, args ...any) {
				f.add(plan.Bad, x.file, "line %d: %s", l.number, fmt.Sprintf(format, args...))
			}
			if seen[string(l.serial)] {
				bad("serial %X is there twice", l.serial)
				continue
			}
			seen[string(l.serial)] = true
			c := bySerial[string(l.serial)]
			switch {
			case c == nil && l.status == 'R':
				f.add(plan.Warn, x.file, "line %d: the certificate with serial %X, which is revoked, is not here: its serial will be in CRLs", l.number, l.serial)
			case c == nil:
				f.add(plan.Warn, x.file, "line %d: the certificate with serial %X is not here: it can't be recorded, nor revoked by this program", l.number, l.serial)
			default:
				c.line = l
				if !c.NotAfter.Equal(l.expires) {
					bad("says that %X ends %s, its certificate says %s", l.serial, l.expires.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
				}
				if l.status == 'R' && l.revoked.Before(c.NotBefore) {
					f.add(plan.Warn, x.file, "line %d: %X was revoked before it began", l.number, l.serial)
				}
			}
			if x.next != nil && len(l.serial) <= 8 && bytes.Equal(l.serial, x.next) {
				f.add(plan.Warn, filepath.Join(x.dir, "serial"), "would give %X once more", l.serial)
			}
		}
		missing := 0
		for serial, c := range bySerial {
			if !seen[serial] && c != issuer {
				missing++
			}
		}
		if missing > 0 {
			f.add(plan.Warn, x.file, "does not have %d certificates of its CA that are here: they are recorded as valid", missing)
		}
	}
}

// issuerOf returns the CA of an index.txt: the one whose certificate lies in its
// directory, or that has issued most of what does.
func (f *Found) issuerOf(x *index) *certificate {
	votes := map[*certificate]int{}
	for _, c := range f.certs {
		rel, err := filepath.Rel(x.dir, c.file)
		if err != nil || !filepath.IsLocal(rel) {
			continue
		}
		if c.issuer != nil {
			votes[c.issuer]++
		}
		if c.name != "" && !c.platform && c.authority() && c.key != nil && c.twin == nil {
			votes[c] += 2
		}
	}
	var best *certificate
	for _, c := range f.certs { // in an order that does not change
		if votes[c] > 0 && (best == nil || votes[c] > votes[best]) {
			best = c
		}
	}
	return best
}

// judgeKeys looks at how keys were kept.
func (f *Found) judgeKeys() {
	for _, c := range f.all() {
		k := c.key
		switch {
		case k == nil && c.twin == nil && c.authority() && !c.platform:
			f.add(plan.Note, c.name, "its key is not here: the plan has it as offline")
		case k == nil || k.content == nil:
		default:
			if !k.encrypted {
				f.add(plan.Warn, c.name, "its key is not encrypted")
			}
			if k.mode.Perm()&0o077 != 0 {
				f.add(plan.Warn, c.name, "its key could be read by others (mode %04o)", k.mode.Perm())
			}
		}
	}
	users := map[*key]*certificate{}
	for _, c := range f.all() {
		if c.key == nil || c.twin != nil {
			continue
		}
		if o := users[c.key]; o != nil {
			f.add(plan.Warn, c.name, "has the same key as %s", o.name)
			continue
		}
		users[c.key] = c
	}
}

// judgeWhole looks at what is missing.
func (f *Found) judgeWhole() {
	byName := map[string]*certificate{}
	for _, c := range f.entries {
		byName[c.name] = c
	}
	if byName["gen_rootca"] != nil && byName["guestos_subca"] == nil {
		f.add(plan.Note, "gen_rootca", "has no GuestOS signing sub CA: whoever trusts it for GuestOSes trusts devices and users too; add guestos_subca and an anchor twin")
	}
	if byName["ssig_rootca"] != nil || byName["gen_rootca"] != nil {
		if len(f.indexes) == 0 {
			f.add(plan.Note, "pki", "there is no index of what was issued: what is not among the files can't be revoked by name")
		}
	}
	if issued := len(f.ordered(false)); issued > 0 {
		f.add(plan.Note, "pki", "%d certificates are recorded beside the plan's", issued)
	}
}
