package takeover

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tmpki/ca"
	"tmpki/plan"
	"tmpki/uefi"
)

// uefiFile is a file that belongs to UEFI keys, by its name.
type uefiFile struct {
	content  []byte
	modified time.Time
}

// uefiKeys are the UEFI keys that are taken over: PK, KEK and DB with what was
// signed for the firmware.
type uefiKeys struct {
	dir       string
	keys      []*certificate // PK, KEK, DB; one may serve twice
	files     map[string]uefiFile
	owner     uefi.GUID
	variables []*variable // PK, KEK, db
	vendors   []vendor
	efiByDB   bool // db trusts DB, but nothing of the software signing PKI
}

// variable is a UEFI variable as the old place has it, and as the plan will.
type variable struct {
	uefi.Variable
	stem    string         // of its files
	own     *certificate   // PK, KEK or DB
	ours    []*certificate // what the plan has in it: of the PKI,
	vendors []vendor       // and of others
	signer  *certificate   // in the plan

	raw  []byte // the signed update that was found; nil: none that can be read
	mode plan.UpdateMode
	by   *certificate // who signed it; nil: nobody who may

	resign string // why it must be signed anew; "": it stays as it is
}

// vendor is a certificate of somebody else in a variable.
type vendor struct {
	file string // in the new directory
	*ca.Certificate
}

// uefiStems are the names of the platform's files, in the order in which firmware
// takes their content, with the variables that it goes to.
var uefiStems = []struct{ stem, variable string }{{"PK", "PK"}, {"KEK", "KEK"}, {"DB", "db"}}

// keepUEFI keeps a file of UEFI keys for later.
func (f *Found) keepUEFI(path string, content []byte, modified time.Time) {
	base := filepath.Base(path)
	known := slices.ContainsFunc(uefiStems, func(s struct{ stem, variable string }) bool { return s.stem == stem(base) })
	ext := filepath.Ext(base)
	if !known || !slices.Contains([]string{".crt", ".cer", ".esl", ".auth"}, ext) {
		if ext == ".esl" && base != "ssig_subca.esl" || ext == ".auth" {
			f.add(plan.Warn, path, "is of a UEFI variable that is not in a plan, or has a name of its own: it stays behind")
		}
		return
	}
	dir := filepath.Dir(path)
	if f.uefiFiles[dir] == nil {
		f.uefiFiles[dir] = map[string]uefiFile{}
	}
	f.uefiFiles[dir][base] = uefiFile{content, modified}
}

// findUEFI chooses the UEFI keys that are taken over: those of the directory that
// is the least deep and has all three certificates.
func (f *Found) findUEFI() {
	var dirs []string
	for dir := range f.uefiFiles {
		dirs = append(dirs, dir)
	}
	slices.SortFunc(dirs, func(a, b string) int {
		if d := strings.Count(a, string(filepath.Separator)) - strings.Count(b, string(filepath.Separator)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, dir := range dirs {
		u := &uefiKeys{dir: dir, files: f.uefiFiles[dir]}
		var missing []string
		fits := true
		for _, s := range uefiStems {
			c := f.uefiCertificate(u, s.stem)
			u.keys = append(u.keys, c)
			switch {
			case c == nil:
				missing = append(missing, s.stem+".crt")
			case !f.canBePlatformKey(c, filepath.Join(dir, s.stem)):
				fits = false
			}
		}
		switch {
		case len(missing) > 0:
			f.add(plan.Warn, dir, "UEFI keys: %s can't be read or is not here: they are taken over as a whole only, and stay behind", strings.Join(missing, ", "))
		case fits && f.uefi == nil:
			f.uefi = u
		case fits:
			f.add(plan.Warn, dir, "has UEFI keys too: those of %s are taken over, these stay behind", f.uefi.dir)
		}
	}
}

// uefiCertificate returns the certificate of PK, KEK or DB. The platform has PK in
// two forms, which must be of one certificate.
func (f *Found) uefiCertificate(u *uefiKeys, stem string) *certificate {
	var found *certificate
	for _, ext := range []string{".crt", ".cer"} {
		file, ok := u.files[stem+ext]
		if !ok {
			continue
		}
		certs, err := ca.ParsePEM(file.content)
		if !bytes.Contains(file.content, []byte("-----BEGIN ")) {
			var c *ca.Certificate
			c, err = ca.ParseCertificate(file.content)
			certs = []*ca.Certificate{c}
		}
		if err != nil {
			f.add(plan.Bad, filepath.Join(u.dir, stem+ext), "can't be read: %v", err)
			continue
		}
		c := f.byRaw[string(certs[0].Raw)]
		if found == nil {
			found = c
		} else if c != found {
			f.add(plan.Bad, filepath.Join(u.dir, stem+ext), "is another certificate than %s.crt, which is taken", stem)
		}
	}
	return found
}

// canBePlatformKey tells, with what is wrong, whether a plan can hold a
// certificate as PK, KEK or DB.
func (f *Found) canBePlatformKey(c *certificate, file string) bool {
	bad := func(format string, args ...any) bool {
		f.add(plan.Bad, file, "%s: the UEFI keys stay behind", fmt.Sprintf(format, args...))
		return false
	}
	if err := uefi.CheckKeyType(c.KeyType()); err != nil {
		return bad("%v", err)
	}
	if c.SerialNumber.Sign() <= 0 || len(c.SerialNumber.Bytes()) > 20 {
		return bad("its serial number %v is not one of RFC 5280: it can't be recorded", c.SerialNumber)
	}
	if c.issuer != nil || c.twin != nil || c.root() != c {
		return bad("is not self-signed, as the plan's platform keys are")
	}
	for _, below := range f.certs {
		if below.issuer == c {
			return bad("is also the authority that issued %s", below.file)
		}
	}
	return true
}

// has reports whether a certificate is PK, KEK or DB of the keys taken over.
func (u *uefiKeys) has(c *certificate) bool { return u != nil && slices.Contains(u.keys, c) }

// platformKeys are the certificates of the keys taken over, each once.
func (f *Found) platformKeys() (out []*certificate) {
	if f.uefi == nil {
		return nil
	}
	for _, c := range f.uefi.keys {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// all are the certificates of all entries of the plan.
func (f *Found) all() []*certificate { return slices.Concat(f.entries, f.platformKeys()) }

// readUEFI makes variables of the lists and the signed updates, and says what is
// wrong with them. The entries have their names by now.
func (f *Found) readUEFI(now time.Time) {
	u := f.uefi
	if u == nil {
		return
	}
	for i, s := range slices.Backward(uefiStems) { // one that serves twice is called after the first
		u.keys[i].name, u.keys[i].record, u.keys[i].platform = s.stem, s.stem, true
	}
	// 1. What should be in the variables?
	values := map[*variable]uefi.SignatureDatabase{}
	auths := map[*variable]*uefi.Auth{}
	for i, s := range uefiStems {
		v := &variable{stem: s.stem, own: u.keys[i], signer: u.keys[min(i, 1)]}
		if i == 1 {
			v.signer = u.keys[0]
		}
		v.Variable, _ = uefi.SecureBootVariable(s.variable) // all of uefiStems are
		auths[v] = f.readAuth(v)
		values[v] = f.readList(v, auths[v])
		u.variables = append(u.variables, v)
	}
	u.owner = u.commonOwner(values)
	for _, v := range u.variables {
		f.content(v, values[v])
	}
	u.keys[2].signsImages = slices.Contains(u.variables[2].ours, u.keys[2])
	f.judgeBoot()
	// 2. Are the updates signed as firmware wants it, and do they say the same?
	for _, v := range u.variables {
		if a := auths[v]; a != nil {
			f.judgeAuth(v, a, values[v], now)
		}
	}
	// 3. What must be signed anew, and can it be?
	for _, v := range u.variables {
		f.judgeResign(v, auths[v])
	}
	if f.uefi == nil {
		for _, c := range u.keys {
			c.name, c.platform = "", false
		}
	}
}

func (v *variable) file(u *uefiKeys, ext string) string { return filepath.Join(u.dir, v.stem+ext) }

// readAuth returns the signed update of a variable; nil if there is none.
func (f *Found) readAuth(v *variable) *uefi.Auth {
	file, ok := f.uefi.files[v.stem+".auth"]
	if !ok {
		return nil
	}
	a, err := uefi.ParseAuth(file.content)
	if err != nil {
		f.add(plan.Bad, v.file(f.uefi, ".auth"), "can't be read: %v", err)
		return nil
	}
	v.raw = file.content
	return a
}

// readList returns what a variable should hold: its list, or where there is none
// what was signed.
func (f *Found) readList(v *variable, a *uefi.Auth) uefi.SignatureDatabase {
	path := v.file(f.uefi, ".esl")
	file, ok := f.uefi.files[v.stem+".esl"]
	if ok {
		list, err := uefi.ParseSignatureLists(file.content)
		switch {
		case err != nil:
			f.add(plan.Bad, path, "is malformed: %v", err)
		case len(list) == 0:
			f.add(plan.Bad, path, "is empty: it would delete the variable")
		default:
			return list
		}
	}
	if a != nil && len(a.Value) > 0 {
		f.add(plan.Warn, path, "there is no list to go by: the plan has what %s.auth holds", v.stem)
		return a.Value
	}
	f.add(plan.Warn, path, "neither a list nor a signed update says what %s holds: the plan has %s in it", v.Name, v.stem)
	return nil
}

// commonOwner returns the owner that most entries have; new lists have one only.
func (u *uefiKeys) commonOwner(values map[*variable]uefi.SignatureDatabase) uefi.GUID {
	votes := map[uefi.GUID]int{}
	var best uefi.GUID
	for _, v := range u.variables {
		for _, e := range values[v].Entries() {
			if c := e.Certificate(); c == nil {
				continue
			}
			votes[e.Owner]++
			if bytes.Equal(e.Data, v.own.Raw) {
				votes[e.Owner] += 2 // a vendor may have many in db
			}
		}
	}
	for _, v := range u.variables { // in an order that does not change
		for _, e := range values[v].Entries() {
			if votes[e.Owner] > votes[best] {
				best = e.Owner
			}
		}
	}
	if len(votes) == 0 {
		best = uefi.NewGUID()
	}
	return best
}

// content sorts the content of a variable into certificates of the PKI and those
// of others.
func (f *Found) content(v *variable, value uefi.SignatureDatabase) {
	u := f.uefi
	path := v.file(u, ".esl")
	hashes := 0
	owners := map[uefi.GUID]bool{}
	for i, e := range value.Entries() {
		if e.Certificate() == nil {
			hashes++
			continue
		}
		c, err := ca.ParseCertificate(e.Data)
		if err == nil {
			err = uefi.CheckKeyType(c.KeyType())
		}
		if err != nil {
			f.add(plan.Bad, path, "entry %d: it is left out: %v", i+1, err)
			continue
		}
		if e.Owner != u.owner {
			owners[e.Owner] = true
		}
		known := f.byRaw[string(c.Raw)]
		isOurs := known != nil && known.name != "" && known.twin == nil
		switch {
		case isOurs && slices.Contains(v.ours, known), slices.ContainsFunc(v.vendors, func(o vendor) bool { return o.Equal(c) }):
			f.add(plan.Warn, path, "entry %d (%s) is there twice: once is enough", i+1, c.Subject())
		case v.Name == "PK" && known != v.own:
			f.add(plan.Bad, path, "holds %q, which is not PK.crt: the plan has PK.crt", c.Subject())
		case isOurs:
			v.ours = append(v.ours, known)
		default:
			o := u.vendor(c)
			v.vendors = append(v.vendors, o)
			f.add(plan.Note, path, "holds %q, which is not of this PKI: it becomes %s", c.Subject(), o.file)
		}
	}
	if hashes > 0 {
		f.add(plan.Bad, path, "holds %d hashes, which a plan can't have: what is allowed by them would not be any more", hashes)
	}
	for owner := range owners {
		f.add(plan.Note, path, "has entries of the owner %v: all get the owner %v (firmware looks at no owner)", owner, u.owner)
	}
	if slices.Contains(v.ours, v.own) {
		return
	}
	switch {
	case v.Name == "db" && value != nil:
		f.add(plan.Warn, path, "does not hold DB.crt: what DB signs is refused")
	case v.Name == "KEK" && value != nil:
		f.add(plan.Bad, path, "does not hold KEK.crt: firmware would take nothing that KEK signs; the plan has it")
		v.ours = append([]*certificate{v.own}, v.ours...)
	default:
		v.ours = []*certificate{v.own}
	}
}

// vendor returns a certificate of somebody else with the file that it gets.
func (u *uefiKeys) vendor(c *ca.Certificate) vendor {
	base := clean(c.Subject().CommonName())
	if base == "" {
		base = "vendor"
	}
	name := ""
	for n := 1; ; n++ {
		if name = base + ".cer"; n > 1 {
			name = fmt.Sprintf("%s-%d.cer", base, n)
		}
		i := slices.IndexFunc(u.vendors, func(o vendor) bool { return strings.EqualFold(o.file, "vendor/"+name) })
		if i < 0 {
			break
		}
		if u.vendors[i].Equal(c) {
			return u.vendors[i]
		}
	}
	o := vendor{"vendor/" + name, c}
	u.vendors = append(u.vendors, o)
	return o
}
