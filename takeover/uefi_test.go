package takeover

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/tooltest"
	"tmpki/keys"
	"tmpki/plan"
	"tmpki/uefi"
)

// uefiPlace runs a script in a copy of a directory with a software signing PKI and
// UEFI keys of efitools.
func uefiPlace(t *testing.T, old, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "old")
	if out, err := exec.Command("cp", "-a", old, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("sh", "-eu", "-c", uefiFunctions+text)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TZ=UTC")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// uefiFunctions sign lists, and make lists of certificates.
const uefiFunctions = `
owner=11111111-2222-3333-4444-123456789abc
auth() { sign-efi-sig-list -t "${4-$(date -u +'%F %T')}" -k "$3.key" -c "$3.crt" "$1" "$2.esl" "$2.auth" >/dev/null; } # VARIABLE STEM BY [TIME]
list() { out=$1; shift; for c; do cert-to-efi-sig-list -g $owner "$c" one >/dev/null; cat one; rm one; done > "$out.tmp"; mv "$out.tmp" "$out"; }
fresh() { openssl req -x509 -newkey "$2" -nodes -keyout "$1.key" -out "$1.crt" -subj "/CN=$1" -days 99 2>/dev/null; }
lists() { list PK.esl PK.crt; list KEK.esl KEK.crt; list DB.esl DB.crt ssig_subca.cert; auth PK PK PK; auth KEK KEK PK; auth db DB KEK; }
`

// TestUEFIKeys takes over UEFI keys by efitools as they are, and with one thing
// after the other wrong.
func TestUEFIKeys(t *testing.T) {
	tooltest.Need(t, "cert-to-efi-sig-list", "sign-efi-sig-list", "hash-to-efi-sig-list", "HelloWorld.efi")
	old := script(t, uefiFunctions+`
		root() { openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.cert" -subj "/CN=$1" -days 99 -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null; }
		root ssig_rootca
		openssl req -new -newkey rsa:2048 -nodes -keyout ssig_subca.key -subj /CN=sub -out csr 2>/dev/null
		printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,digitalSignature,keyCertSign\nsubjectKeyIdentifier=hash\n' > ext
		openssl x509 -req -in csr -CA ssig_rootca.cert -CAkey ssig_rootca.key -days 90 -extfile ext -out ssig_subca.cert 2>/dev/null
		rm csr ext
		for n in PK KEK DB; do fresh $n rsa:2048; done
		openssl x509 -in PK.crt -outform DER -out PK.cer
		lists
		list ssig_subca.esl ssig_subca.cert
		chmod 600 *.key`)
	hash := "hash-to-efi-sig-list " + tooltest.Path(t, "HelloWorld.efi") + " h.esl >/dev/null; "
	const foreign = `openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -out "$TMPDIR_V" -subj '/CN=Vendor CA' -days 99 2>/dev/null; `
	vendor := "TMPDIR_V=" + filepath.Join(t.TempDir(), "v.pem") + "; " + foreign
	for _, row := range []struct {
		name, spoil string
		level       plan.Level
		want        string
		signed      []string // anew
		behind      bool     // the UEFI keys stay behind
	}{
		{"as it is", `true`, plan.Note, "PK says that it is a CA, which it is not", nil, false},
		{"as the platform's scripts do it", `list DB.esl DB.crt; auth db DB KEK; owner=22222222-2222-3333-4444-123456789abc; list s.tmp ssig_subca.cert; cat s.tmp >> DB.esl; rm s.tmp`,
			plan.Warn, "lacks what signs the kernel: a platform that has taken it refuses", []string{"db"}, false},
		{"list is newer", `list DB.esl DB.crt; auth db DB KEK; touch -d 2026-01-01 DB.auth; list DB.esl DB.crt ssig_subca.cert`,
			plan.Warn, `DB.auth holds something else than DB.esl, lacks "CN=sub"; its file is the older one`, []string{"db"}, false},
		{"list is older", `list DB.esl DB.crt; touch -d 2026-01-01 DB.esl; cp -p DB.esl keep; list DB.esl DB.crt ssig_subca.cert; auth db DB KEK; cp -p keep DB.esl; rm keep; `,
			plan.Warn, `has also "CN=sub"; its file is the newer one`, []string{"db"}, false},
		{"other key", `openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out KEK.key`, plan.Bad, "KEK.key is not the key of", nil, false},
		{"no key", `rm KEK.key PK.key`, plan.Note, "KEK its key is not here", nil, false},
		{"no key, but it is needed", `rm KEK.key DB.auth`, plan.Bad, "DB.auth it is not here, so it must be signed anew, but the key of KEK is not here", nil, true},
		{"PK by another", `auth PK PK KEK`, plan.Bad, "PK.auth is not signed by PK but by KEK", []string{"PK"}, false},
		{"KEK by itself", `auth KEK KEK KEK`, plan.Bad, "KEK.auth is not signed by PK but by KEK", []string{"KEK"}, false},
		{"db by itself", `auth db DB DB`, plan.Bad, "DB.auth is not signed by KEK but by DB", []string{"db"}, false},
		{"db by PK", `auth db DB PK`, plan.Note, "DB.auth is signed by PK, and not by KEK", nil, false},
		{"as another variable", `auth dbx DB KEK`, plan.Bad, "DB.auth is not signed by KEK: ", []string{"db"}, false},
		{"touched", `printf '\001' | dd of=KEK.auth bs=1 seek=300 conv=notrunc 2>/dev/null`, plan.Bad, "KEK.auth", []string{"KEK"}, false},
		{"no update", `rm DB.auth`, plan.Warn, "DB.auth it is not here: it is signed by KEK with the time of now", []string{"db"}, false},
		{"cut", `head -c 100 DB.auth > x; mv x DB.auth`, plan.Bad, "DB.auth can't be read", []string{"db"}, false},
		{"appended, by efitools without a time", `sign-efi-sig-list -a -k KEK.key -c KEK.crt db DB.esl DB.auth >/dev/null`, plan.Bad, "DB.auth can't be read: authenticated variable: EFI_TIME", []string{"db"}, false},
		{"appended", `true`, plan.Warn, "DB.auth only adds to the variable", []string{"db"}, false},
		{"deletes", `: > DB.esl; auth db DB KEK; list DB.esl DB.crt ssig_subca.cert`, plan.Bad, "DB.auth deletes the variable", []string{"db"}, false},
		{"future", `auth db DB KEK '2037-01-01 00:00:00'`, plan.Warn, "DB.auth has a time in the future, 2037-01-01T00:00:00Z", nil, false},
		{"past", `auth db DB KEK '2011-01-01 00:00:00'`, plan.Warn, "DB.auth is of 2011-01-01T00:00:00Z, older than the certificate", nil, false},
		{"future and wrong", `auth db DB DB '2037-01-01 00:00:00'`, plan.Bad, "DB.auth is not signed by KEK", []string{"db"}, false},
		{"no list", `rm DB.esl`, plan.Warn, "DB.esl there is no list to go by", nil, false},
		{"neither", `rm KEK.esl KEK.auth`, plan.Warn, "KEK.esl neither a list nor a signed update", []string{"KEK"}, false},
		{"malformed", `printf x >> DB.esl`, plan.Bad, "DB.esl is malformed", nil, false},
		{"empty", `: > DB.esl`, plan.Bad, "DB.esl is empty", nil, false},
		{"bogus list", `head -c 44 DB.esl > x; mv x DB.esl`, plan.Bad, "DB.esl is malformed", nil, false},
		{"twice", `list DB.esl DB.crt ssig_subca.cert DB.crt; auth db DB KEK`, plan.Warn, "DB.esl entry 3 (CN=DB) is there twice", []string{"db"}, false},
		{"other PK in its list", `list PK.esl KEK.crt; auth PK PK PK`, plan.Bad, `PK.esl holds "CN=KEK", which is not PK.crt`, []string{"PK"}, false},
		{"KEK not in its list", `list KEK.esl PK.crt; auth KEK KEK PK`, plan.Bad, "does not hold KEK.crt", []string{"KEK"}, false},
		{"db without DB", `list DB.esl ssig_subca.cert; auth db DB KEK`, plan.Warn, "DB.esl does not hold DB.crt", nil, false},
		{"only DB", `list DB.esl DB.crt; auth db DB KEK`, plan.Warn, "it trusts DB only", nil, false},
		{"only DB without key", `list DB.esl DB.crt; auth db DB KEK; rm DB.key`, plan.Bad, "DB.esl lacks what signs the kernel", nil, false},
		{"hashes", hash + `cat h.esl >> DB.esl; auth db DB KEK; rm h.esl`, plan.Bad, "DB.esl holds 1 hashes", []string{"db"}, false},
		{"a vendor's", vendor + `list DB.esl DB.crt ssig_subca.cert $TMPDIR_V; auth db DB KEK`, plan.Note, "becomes vendor/Vendor-CA.cer", nil, false},
		{"a vendor's first", vendor + `list DB.esl $TMPDIR_V DB.crt ssig_subca.cert; auth db DB KEK`, plan.Warn, "it is not as the plan has it (content, order or owners): it is signed anew by KEK", []string{"db"}, false},
		{"a vendor's in KEK", vendor + `list KEK.esl KEK.crt $TMPDIR_V; auth KEK KEK PK`, plan.Note, "KEK.esl holds \"CN=Vendor CA\"", nil, false},
		{"a vendor's on a curve", `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -out v.pem -subj /CN=v -days 9 2>/dev/null
			list DB.esl DB.crt ssig_subca.cert v.pem; auth db DB KEK; rm v.pem`, plan.Bad, "DB.esl entry 3: it is left out", []string{"db"}, false},
		{"RSA 1024", `fresh KEK rsa:1024`, plan.Bad, "KEK firmware can't use an RSA key of 1024 bits", nil, true},
		{"RSA 3072", `fresh DB rsa:3072; lists`, plan.Note, "DB has an RSA key of 3072 bits: many boards take 2048 only", nil, false},
		{"EC", `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout PK.key -out PK.crt -subj /CN=PK -days 9 2>/dev/null; rm PK.cer`, plan.Bad, "PK firmware can't use a key of type ec:P-256", nil, true},
		{"not self-signed", `openssl req -new -key KEK.key -subj /CN=KEK -out c; openssl x509 -req -in c -CA ssig_rootca.cert -CAkey ssig_rootca.key -out KEK.crt 2>/dev/null; rm c`, plan.Bad, "KEK is not self-signed", nil, true},
		{"odd CA", `openssl req -x509 -key DB.key -out DB.crt -subj /CN=DB -days 9 -addext keyUsage=digitalSignature 2>/dev/null; lists`, plan.Warn, "DB says that it is a CA, and that it signs no certificates", nil, false},
		{"no CA but keyCertSign", `printf '[r]\ndistinguished_name=d\n[d]\n' > c; openssl req -config c -x509 -key DB.key -out DB.crt -subj /CN=DB -days 9 -addext basicConstraints=CA:false -addext keyUsage=keyCertSign 2>/dev/null; lists; rm c`,
			plan.Warn, "DB says that it is no CA, and signs certificates", nil, false},
		{"PK in two forms", `openssl x509 -in KEK.crt -outform DER -out PK.cer`, plan.Bad, "PK.cer is another certificate than PK.crt", nil, false},
		{"PK.cer alone", `rm PK.crt`, plan.Note, "PK says that it is a CA", nil, false},
		{"no KEK.crt", `rm KEK.crt`, plan.Warn, "UEFI keys: KEK.crt can't be read or is not here", nil, true},
		{"one key for all", `for n in KEK DB; do cp PK.crt $n.crt; cp PK.key $n.key; done; lists`, plan.Note, "PK says that it is a CA", nil, false},
		{"owners", `owner=22222222-2222-3333-4444-123456789abc; list PK.esl PK.crt; auth PK PK PK`, plan.Note, "PK.esl has entries of the owner 22222222", []string{"PK"}, false},
		{"dbx", `cp DB.esl dbx.esl`, plan.Warn, "dbx.esl is of a UEFI variable that is not in a plan", nil, false},
		{"two sets", `mkdir more; cp PK.* KEK.* DB.* more`, plan.Warn, "more has UEFI keys too", nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := uefiPlace(t, old, row.spoil)
			if row.name == "appended" {
				appended(t, dir)
			}
			f := read(t, Options{}, dir)
			wants(t, f, row.level, row.want)
			if row.level != plan.Bad && f.Bad() {
				wants(t, f, plan.Bad, "nothing")
			}
			if (f.uefi == nil) != row.behind {
				t.Fatalf("stay behind: %v", f.uefi == nil)
			}
			made, r := write(t, f)
			if !slices.Equal(r.Signed, row.signed) {
				t.Errorf("signed anew %v, want %v", r.Signed, row.signed)
			}
			settled(t, made)
			if row.behind {
				return
			}
			laterUpdates(t, dir, made, row.signed)
		})
	}
}

// appended signs what db has already once more, to be appended.
func appended(t *testing.T, dir string) {
	t.Helper()
	contents := map[string][]byte{}
	for _, name := range []string{"KEK.key", "KEK.crt", "DB.esl"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		contents[name] = content
	}
	key, err := keys.ParsePEM(contents["KEK.key"], nil)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ca.ParsePEM(contents["KEK.crt"])
	if err != nil {
		t.Fatal(err)
	}
	value, err := uefi.ParseSignatureLists(contents["DB.esl"])
	if err != nil {
		t.Fatal(err)
	}
	v, err := uefi.SecureBootVariable("db")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := uefi.SignVariable(uefi.Update{Variable: v, Append: true, Time: time.Now().Add(time.Hour).UTC().Truncate(time.Second), Value: value}, key, certs[0].Raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "DB.auth"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// laterUpdates checks that updates are the old ones, or of a later time, and that
// the next ones are.
func laterUpdates(t *testing.T, old, made string, signed []string) {
	t.Helper()
	for _, s := range uefiStems {
		before, _ := os.ReadFile(filepath.Join(old, s.stem+".auth")) // nil if it is not there
		after, err := os.ReadFile(filepath.Join(made, s.stem+".auth"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(signed, s.variable) {
			if string(before) != string(after) {
				t.Errorf("%s.auth was signed anew", s.stem)
			}
			continue
		}
		was, err := uefi.ParseAuth(before)
		if err != nil {
			continue // is none
		}
		is, err := uefi.ParseAuth(after)
		if err != nil || !is.Time.After(was.Time) {
			t.Errorf("%s.auth: %v is not after %v: %v", s.stem, is.Time, was.Time, err)
		}
	}
	p, err := plan.Open(t.Context(), made)
	if err != nil {
		t.Fatal(err)
	}
	v := p.Plan.UEFI.Variables[2]
	if _, err := p.Signer(v.Signer); err != nil {
		return // not here
	}
	last := p.Have.Updates["db"].Last
	r, err := plan.SignUpdate(t.Context(), made, options(), plan.UpdateRequest{Variable: "db", Mode: plan.Replace, Value: last.Value, File: filepath.Join(t.TempDir(), "next.auth")})
	if err != nil || !r.Time.After(last.Time) || r.Time.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("the next update: %+v: %v", r, err)
	}
}

// TestRecordUpdate refuses to record as planned what nobody has signed.
func TestRecordUpdate(t *testing.T) {
	v, err := uefi.SecureBootVariable("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range [][]byte{nil, []byte("x")} {
		if err := plan.RecordUpdate(t.Context(), nil, &plan.Variable{Variable: v, Name: "db"}, plan.Planned, raw, nil, nil, "tester"); err == nil {
			t.Errorf("%q was recorded", raw)
		}
	}
}
