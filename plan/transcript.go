package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/cms"
	"tmpki/spki"
)

// agenda says in plain words what will be signed, and by whom.
func (c *conduct) agenda() *Agenda {
	a := &Agenda{Request: c.request, Officers: c.Plan.Ceremony.Officers, Quorum: c.Plan.Ceremony.Quorum}
	var b strings.Builder
	q := c.request
	plan := "as it is here"
	switch {
	case c.oldPlan == nil:
		plan = "new here: this is the first ceremony"
	case string(c.oldPlan) != string(c.text):
		plan = "changed, see below"
	}
	facts(&b, [][2]string{
		{"PKI", fmt.Sprintf("%s, plan %q", q.PKI, c.Plan.Name)},
		{"Request", fmt.Sprintf("number %d of %s, by %s with %s", q.Number, q.Time.Format(time.RFC3339), q.Actor, q.Program)},
		{"Request digest", q.Digest().Short()},
		{"Plan", fmt.Sprintf("SHA-256 %x, %s", c.Plan.SHA256, plan)},
		{"Sent by", c.sender()},
	})
	if c.oldPlan != nil && string(c.oldPlan) != string(c.text) {
		fmt.Fprintf(&b, "\nThe plan changes:\n\n")
		for line := range strings.Lines(string(c.planDiff())) {
			fmt.Fprintf(&b, "  %s\n", ca.Printable(strings.TrimSuffix(line, "\n")))
		}
	}
	if len(c.generate) > 0 {
		fmt.Fprintf(&b, "\nKeys that will be made:\n\n")
		for _, s := range c.generate {
			protected := "in plain"
			switch {
			case s.Entry.inToken():
				protected = "in the token"
			case s.Entry.Passphrase.Split:
				protected = "under the passphrase that is split among the officers"
			case !s.Entry.NoPassphrase:
				protected = "under a passphrase"
			}
			fmt.Fprintf(&b, "  %s: %v at %v, %s\n", s.Entry.Name, s.Entry.KeyType, s.Entry.Key, protected)
			a.Secrets = append(a.Secrets, s.Entry.Name)
		}
	}
	if c.split != nil {
		fmt.Fprintf(&b, "\n%s\n", c.split.describe())
	}
	n := 0
	for _, s := range c.issue {
		n++
		c.describeCertificate(&b, n, s.Entry)
	}
	for _, v := range q.Variables {
		n++
		c.describeVariable(&b, n, v)
	}
	for _, item := range q.CRLs {
		n++
		c.describeCRL(&b, n, item)
	}
	a.Text = b.String()
	return a
}

// sender says whose signature the request has.
func (c *conduct) sender() string {
	if c.from != "" {
		return "a machine with the key of " + c.from + ", which was certified here"
	}
	return "unknown: nothing was certified here before. Compare the request digest with the one that was shown there"
}

// facts writes lines of two columns.
func facts(b *strings.Builder, rows [][2]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\n", r[0], ca.Printable(r[1]))
	}
	w.Flush()
}

// describeCertificate says what a certificate will be.
func (c *conduct) describeCertificate(b *strings.Builder, n int, e *Entry) {
	kind := "Certificate"
	switch {
	case e.Kind == Authority && e.Issuer == nil:
		kind = "Root CA certificate"
	case e.Kind == Authority:
		kind = "Sub CA certificate"
	case e.Kind == Anchor:
		kind = "Anchor (self-signed twin of " + e.TwinOf.Name + ")"
	case e.Kind == PlatformKey:
		kind = "UEFI platform key"
	}
	fmt.Fprintf(b, "\n%d. %s %s\n\n", n, kind, e.Name)
	key := e.KeyType.String() + ", about to be made"
	if public := c.requested[e.KeyOwner().Name]; public != nil {
		key = fmt.Sprintf("%v, fingerprint SHA-256 %s, proven to be there", e.KeyType, fingerprint(public))
	} else if is := c.Have.Certificates[e.Name]; is != nil {
		key = fmt.Sprintf("%v, fingerprint SHA-256 %s, as before", e.KeyType, fingerprint(is.Key))
	} else if c.hasKey(e.KeyOwner()) {
		key = e.KeyType.String() + ", made by an earlier run"
	}
	rows := [][2]string{{"   Subject", e.Subject.String()}, {"   Key", key}, {"   Signed by", signedBy(e)}}
	if c.reused[e.Name] {
		is := c.Have.Certificates[e.Name]
		facts(b, append(rows, [2]string{"   Note", fmt.Sprintf("signed already, with serial %x: it is handed out again", is.SerialNumber.Bytes())}))
		return
	}
	rows = append(rows,
		[2]string{"   Valid", fmt.Sprintf("%s to %s (%s)", c.now.Format(time.DateOnly), c.now.Add(e.Profile.Validity()).Format(time.DateOnly), days(e))},
		[2]string{"   Profile", fmt.Sprintf("%s: %s", e.Profile.Name(), e.Profile.Describe())})
	if len(e.SubjectAltNames) > 0 {
		rows = append(rows, [2]string{"   Names", strings.Join(e.SubjectAltNames, ", ")})
	}
	if serial, ok := c.replaces[e.Name]; ok {
		rows = append(rows, [2]string{"   Note", "ANOTHER KEY than that of the certificate with serial " + serial})
	} else if is := c.Have.Certificates[e.Name]; is != nil {
		rows = append(rows, [2]string{"   Note", fmt.Sprintf("takes the place of the certificate with serial %x", is.SerialNumber.Bytes())})
	}
	facts(b, rows)
}

func signedBy(e *Entry) string {
	if e.Issuer == nil {
		return "itself"
	}
	return fmt.Sprintf("%s (%s)", e.Issuer.Name, e.Issuer.Subject)
}

// describeVariable says what a UEFI variable will hold.
func (c *conduct) describeVariable(b *strings.Builder, n int, item ceremony.VariableItem) {
	v := c.variable(item.ID)
	fmt.Fprintf(b, "\n%d. UEFI variable %s\n\n", n, item.ID)
	rows := [][2]string{{"   Signed by", v.Signer.Name}, {"   Owner", item.Owner}}
	for _, e := range v.Certificates {
		holds := e.Name
		if is := c.known[e.Name]; is != nil {
			holds += fmt.Sprintf(", known to the other machine only: %s, SHA-256 %x", is.Subject(), sha256.Sum256(is.Raw))
		}
		rows = append(rows, [2]string{"   Holds", holds})
	}
	for _, f := range v.Files {
		cert := c.Have.Vendors[f].Certificate
		rows = append(rows, [2]string{"   Holds", fmt.Sprintf("VENDOR certificate %s: %s, SHA-256 %x", f, cert.Subject(), sha256.Sum256(cert.Raw))})
	}
	facts(b, rows)
}

// transcript is what remains for people: what was asked, who confirmed, what was
// signed.
func (c *conduct) transcript(a *Agenda, confirmations []Confirmation, r *ceremony.Response, ledger string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "KEY CEREMONY\n\n")
	facts(&b, [][2]string{
		{"Held", fmt.Sprintf("%s, by %s with %s", r.Time.Format(time.RFC3339), r.Actor, r.Program)},
		{"Ledger", ledger},
	})
	fmt.Fprintf(&b, "\nWHAT WAS ASKED FOR\n\n%s", a.Text)
	fmt.Fprintf(&b, "\nWHO CONFIRMED (%d of %d must)\n\n", a.Quorum, len(a.Officers))
	for _, f := range confirmations {
		fmt.Fprintf(&b, "%s, %s, %s\n", ca.Printable(f.Officer), f.How, f.Time.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "\nWHAT WAS SIGNED\n")
	for _, s := range c.issue {
		cert := c.Have.Certificates[s.Entry.Name]
		fmt.Fprintf(&b, "\nCertificate %s\n", s.Entry.Name)
		facts(&b, [][2]string{
			{"   Serial", fmt.Sprintf("%x", cert.SerialNumber.Bytes())},
			{"   SHA-256", fmt.Sprintf("%x", sha256.Sum256(cert.Raw))},
			{"   Key", "SHA-256 " + fingerprint(cert.Key)},
			{"   Key identifier", hex.EncodeToString(cert.SubjectKeyId)},
			{"   Valid", cert.NotBefore.Format(time.RFC3339) + " to " + cert.NotAfter.Format(time.RFC3339)},
			{"   Signed by", signedBy(s.Entry)},
		})
	}
	for _, v := range r.Variables {
		fmt.Fprintf(&b, "\nUEFI variable %s\n", v.ID)
		facts(&b, [][2]string{
			{"   Time", c.Have.Variables[v.ID].Time.Format(time.RFC3339)},
			{"   SHA-256", fmt.Sprintf("%x", sha256.Sum256(v.Content))},
			{"   Signed by", c.variable(v.ID).Signer.Name},
		})
	}
	for _, l := range r.CRLs {
		list, err := ca.ParseCRL(l.Content)
		if err != nil {
			continue // WriteCRL has made it
		}
		fmt.Fprintf(&b, "\nCRL of %s\n", l.Authority)
		facts(&b, [][2]string{
			{"   Number", fmt.Sprint(list.Number)},
			{"   Valid", list.ThisUpdate.Format(time.RFC3339) + " to " + list.NextUpdate.Format(time.RFC3339)},
			{"   SHA-256", fmt.Sprintf("%x", sha256.Sum256(l.Content))},
		})
	}
	return b.String()
}

// signTranscript adds a CMS signature by the first key that can make one.
func (c *conduct) signTranscript(r *ceremony.Response) error {
	for _, e := range c.signers {
		if e.KeyType.Kind == spki.Ed25519 {
			continue // see package cms
		}
		key, err := c.ring.signer(e)
		if err != nil {
			return err
		}
		cert := c.Have.Certificates[e.Name].Raw
		r.TranscriptSignature, err = cms.Sign(cms.Signer{Key: key, Certificate: cert, Algorithm: e.Algorithm}, []byte(r.Transcript),
			cms.Options{SigningTime: r.Time, Certificates: [][]byte{cert}})
		if err != nil {
			return fmt.Errorf("signing the transcript: %w", err)
		}
		r.TranscriptSigner = e.Name
		return nil
	}
	return nil
}

// fingerprint is the SHA-256 of a public key as its SubjectPublicKeyInfo.
func fingerprint(key any) string {
	der, err := spki.MarshalPublicKey(key)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%x", sha256.Sum256(der))
}
