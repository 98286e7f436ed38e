package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/tooltest"
	"tmpki/spki"
	"tmpki/store"
)

// rotationPKI is an applied PKI with keys that take no time to make.
func rotationPKI(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Generate(context.Background(), dir, spki.KeyType{}, testOptions(allEC(t))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// settled holds that nothing is left to do, and that no check says bad.
func settled(t *testing.T, dir, when string) {
	t.Helper()
	steps, err := Apply(context.Background(), dir, testOptions(nil))
	if err != nil || len(steps) > 0 {
		t.Fatalf("%s: a second apply: %v, %s", when, err, list(steps))
	}
	if bad := badFindings(t, dir); len(bad) > 0 {
		t.Fatalf("%s: %s", when, strings.Join(bad, "\n"))
	}
}

func readCerts(t *testing.T, path string) []*ca.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ca.ParsePEM(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// accepted holds that a chain file verifies with one anchor alone, by this program
// and by OpenSSL, which is what a device has.
func accepted(t *testing.T, when, chainFile string, anchor *ca.Certificate, want bool) {
	t.Helper()
	certs := readCerts(t, chainFile)
	_, err := ca.Verify(certs[0], ca.VerifyOptions{Roots: []*ca.Certificate{anchor}, Intermediates: certs[1:], Time: time.Now()})
	if (err == nil) != want {
		t.Errorf("%s: %s with anchor %x alone: %v, want accepted: %v", when, filepath.Base(chainFile), anchor.SubjectKeyId[:4], err, want)
	}
	file := filepath.Join(t.TempDir(), "anchor.pem")
	if err := os.WriteFile(file, ca.MarshalPEM(anchor), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "-CAfile", file, "-untrusted", chainFile, chainFile}
	if !want {
		if out, err := exec.Command(tooltest.Path(t, "openssl"), args...).CombinedOutput(); err == nil {
			t.Errorf("%s: openssl accepts it: %s", when, out)
		}
		return
	}
	tooltest.Run(t, "openssl", args...)
}

// fits holds that NAME.key is the key of the first certificate in NAME.cert.
func fits(t *testing.T, dir, name string) {
	t.Helper()
	key, certs, err := readPair(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := parseKeyCertificate(append(key, ca.MarshalPEM(certs[0])...))
	if err != nil {
		t.Fatal(err)
	}
	if signer != nil && !spki.Equal(signer.Public(), certs[0].Key) {
		t.Errorf("%s.key is not the key of %s.cert", name, name)
	}
}

// doneAll records all steps that are done by hand up to one of the others.
func doneAll(t *testing.T, dir, name, until string) {
	t.Helper()
	r, err := OpenRollout(context.Background(), dir, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Steps {
		if s.ID == until {
			return
		}
		if s.manual && s.State != RolloutDone {
			if err := Done(context.Background(), dir, testOptions(nil), name, s.ID, "tested"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRotation plays whole rotations: of a root, of a sub CA with a twin, of a
// signer. In each phase, what is signed must be accepted where only the old anchor
// is known, and where only the new one is.
func TestRotation(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name, leaf   string // what rotates, and whose chain is looked at
		anchors      string // the published file with the anchors
		keyType      spki.KeyType
		others       []string // further chains that must hold all the time
		rootAccepted string   // a root that must accept the leaf in each phase
	}{
		{name: "ssig_rootca", leaf: "ssig_cml.cert", anchors: "ssig_rootca.cert", others: []string{"ssig.cert"}},
		{name: "gen_rootca", leaf: "backend.cert", anchors: "gen_rootca.cert"},
		{name: "guestos_subca", leaf: "guestos_debos.cert", anchors: "guestos_anchor.cert", rootAccepted: "gen_rootca.cert"},
		{name: "ssig_cml", leaf: "ssig_cml.cert", anchors: "", rootAccepted: "ssig_rootca.cert"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			dir := rotationPKI(t)
			file := func(name string) string { return filepath.Join(dir, name) }
			var old, new *ca.Certificate
			if row.anchors != "" {
				old = readCerts(t, file(row.anchors))[0]
			}
			phase := func(when string, oldToo, newToo bool) {
				t.Helper()
				settled(t, dir, when)
				fits(t, dir, row.name)
				for _, chain := range append([]string{row.leaf}, row.others...) {
					if old != nil {
						accepted(t, when, file(chain), old, oldToo)
					}
					if new != nil {
						accepted(t, when, file(chain), new, newToo)
					}
				}
				if row.rootAccepted != "" {
					accepted(t, when, file(row.leaf), readCerts(t, file(row.rootAccepted))[0], true)
				}
			}
			phase("before", true, false)
			// 1. Another key. All that is published goes on as before, and the anchors
			// are two.
			if _, err := Rotate(ctx, dir, testOptions(nil), row.name, spki.KeyType{}); err != nil {
				t.Fatal(err)
			}
			if row.anchors != "" {
				anchors := readCerts(t, file(row.anchors))
				if len(anchors) != 2 || !anchors[0].Equal(old) {
					t.Fatalf("%d anchors, the first is the old one: %v", len(anchors), anchors[0].Equal(old))
				}
				new = anchors[1]
			}
			phase("made", true, true)
			if _, err := Rotate(ctx, dir, testOptions(nil), row.name, spki.KeyType{}); err == nil || !strings.Contains(err.Error(), "waits to be switched to") {
				t.Errorf("a second rotation: %v", err)
			}
			before := readCerts(t, file(row.name+".cert"))[0]
			oldKey, err := os.ReadFile(file(row.name + ".key"))
			if err != nil {
				t.Fatal(err)
			}
			// 2. Switch, not before the anchors are out.
			if row.anchors != "" {
				if _, err := Switch(ctx, dir, testOptions(nil), row.name, ""); err == nil || !strings.Contains(err.Error(), "Not done: add-") {
					t.Errorf("switched too early: %v", err)
				}
			}
			doneAll(t, dir, row.name, StepSwitch)
			if _, err := Switch(ctx, dir, testOptions(nil), row.name, ""); err != nil {
				t.Fatal(err)
			}
			if readCerts(t, file(row.name+".cert"))[0].Equal(before) {
				t.Error("the old certificate stands first")
			}
			phase("switched", true, true)
			if kept, err := os.ReadFile(file(row.name + "-g1.key")); err != nil || !slices.Equal(kept, oldKey) {
				t.Errorf("the old key: %v", err)
			}
			// 3. Retire.
			if _, err := Retire(ctx, dir, testOptions(nil), row.name, false, ""); err != nil {
				t.Fatal(err)
			}
			if row.anchors != "" {
				if anchors := readCerts(t, file(row.anchors)); len(anchors) != 1 || !anchors[0].Equal(new) {
					t.Errorf("%d anchors after the old one was retired", len(anchors))
				}
			}
			phase("retired", false, true)
			doneAll(t, dir, row.name, "")
			if left, err := Rollouts(ctx, dir, time.Now()); err != nil || len(left) > 0 {
				t.Errorf("%d rollouts are left, %v", len(left), err)
			}
			// 4. Once more.
			if _, err := Rotate(ctx, dir, testOptions(nil), row.name, spki.KeyType{}); err != nil {
				t.Fatal(err)
			}
			settled(t, dir, "again")
			if _, err := Switch(ctx, dir, testOptions(nil), row.name, "tested"); err != nil {
				t.Fatal(err)
			}
			settled(t, dir, "again switched")
			fits(t, dir, row.name)
			if kept, err := os.ReadFile(file(row.name + "-g1.key")); err != nil || !slices.Equal(kept, oldKey) {
				t.Errorf("the first key: %v", err)
			}
		})
	}
}

// TestKilledRotation kills rotations and switches at random moments. Whatever the
// moment: no key is lost, NAME.key never stands beside the certificate of another
// key, and the next run completes what was begun.
func TestKilledRotation(t *testing.T) {
	t.Parallel()
	for _, road := range []string{"rotate", "switch"} {
		t.Run(road, func(t *testing.T) {
			t.Parallel()
			testKilledRotation(t, road, 12)
		})
	}
}

func testKilledRotation(t *testing.T, road string, count int) {
	if testing.Short() {
		count = 4
	}
	ctx := context.Background()
	const name = "ssig"
	prepared := rotationPKI(t)
	if road == "switch" {
		if _, err := Rotate(ctx, prepared, testOptions(nil), name, spki.KeyType{}); err != nil {
			t.Fatal(err)
		}
	}
	keysIn := func(dir string) map[string]bool {
		out := map[string]bool{}
		for _, file := range []string{name + ".key", name + "-g1.key", name + "-g2.key"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				out[string(data)] = true
			}
		}
		return out
	}
	setUp := func() (dir, temp string) {
		parent := t.TempDir()
		dir, temp = filepath.Join(parent, "pki"), filepath.Join(parent, "tmp")
		if out, err := exec.Command("cp", "-a", prepared, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if err := os.Mkdir(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		return dir, temp
	}
	whole := time.Minute
	for range 2 {
		dir, temp := setUp()
		took, killed := killOnce(t, road, dir, temp, time.Minute)
		if killed {
			t.Fatal("a run took a minute")
		}
		whole = min(whole, took)
		settled(t, dir, "an undisturbed run")
	}
	killed, moved := 0, 0
	for i := 0; i < count || killed < count/4 && i < 4*count; i++ {
		dir, temp := setUp()
		before := keysIn(dir)
		// Most of a run is looking and loading: the changes come at its end.
		delay := time.Duration(float64(whole) * (0.3 + 0.8*(float64(i%count)+rand.Float64())/float64(count)))
		if took, was := killOnce(t, road, dir, temp, delay); was {
			killed++
		} else {
			whole = min(whole, took) // other processes come and go
		}
		after := keysIn(dir)
		for key := range before {
			if !after[key] {
				t.Fatalf("killed after %v: a key is lost\n%s", delay, listing(dir))
			}
		}
		if !missing(dir, name+".cert") {
			fits(t, dir, name)
		} else {
			moved++
		}
		if pem, err := os.ReadFile(filepath.Join(dir, "certs", "signing_key.pem")); err == nil {
			if key, cert, err := parseKeyCertificate(pem); err != nil || !spki.Equal(key.Public(), cert.Key) {
				t.Fatalf("killed after %v: certs/signing_key.pem: %v", delay, err)
			}
		}
		if _, err := Apply(ctx, dir, testOptions(nil)); err != nil {
			t.Fatalf("killed after %v: the next run: %v\n%s", delay, err, listing(dir))
		}
		settled(t, dir, fmt.Sprintf("killed after %v", delay))
		fits(t, dir, name)
		if i%4 > 0 {
			continue
		}
		if err := goOn(dir, name); err != nil {
			t.Fatalf("killed after %v: %v", delay, err)
		}
	}
	t.Logf("%d runs of %v: %d killed, %d without %s.cert", count, whole.Round(time.Millisecond), killed, moved, name)
	if killed < count/4 {
		t.Error("most runs were over before they were killed: the test shows little")
	}
}

// goOn takes an entry, wherever its rotation stopped, to the end of it.
func goOn(dir, name string) error {
	ctx := context.Background()
	p, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	if p.Plan.Entry(name).Generations.Newest == 1 {
		if _, err := Rotate(ctx, dir, testOptions(nil), name, spki.KeyType{}); err != nil {
			return err
		}
	}
	if p, err = Open(ctx, dir); err != nil {
		return err
	}
	if p.Plan.Entry(name).Generations.Active == 1 {
		if _, err := Switch(ctx, dir, testOptions(nil), name, "tested"); err != nil {
			return err
		}
	}
	_, err = Retire(ctx, dir, testOptions(nil), name, true, "tested")
	return err
}

// TestSwitchStates puts a PKI into each state in which a kill can leave the files of
// a key that changes, and holds that the next run completes it.
func TestSwitchStates(t *testing.T) {
	t.Parallel()
	const name = "ssig"
	for what, change := range map[string]func(file func(string) string) error{
		"only the plan": func(func(string) string) error { return nil },
		"the old files are gone": func(file func(string) string) error {
			return os.Remove(file(name + ".cert"))
		},
		"the old key has two names": func(file func(string) string) error {
			return errors.Join(os.Remove(file(name+".cert")), os.Link(file(name+".key"), file(name+"-g1.key")))
		},
		"the new key is in its place": func(file func(string) string) error {
			return errors.Join(os.Remove(file(name+".cert")), os.Link(file(name+".key"), file(name+"-g1.key")), os.Rename(file(name+"-g2.key"), file(name+".key")))
		},
		"the old key was taken away": func(file func(string) string) error {
			return os.Remove(file(name + ".key"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, dir := context.Background(), rotationPKI(t)
			if _, err := Rotate(ctx, dir, testOptions(nil), name, spki.KeyType{}); err != nil {
				t.Fatal(err)
			}
			file := func(f string) string { return filepath.Join(dir, f) }
			text, err := os.ReadFile(file(FileName))
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.Replace(text, []byte("newest: 2, active: 1"), []byte("newest: 2, active: 2"), 1)
			if err := errors.Join(os.WriteFile(file(FileName), text, 0o644), change(file)); err != nil {
				t.Fatal(err)
			}
			if _, err := Apply(ctx, dir, testOptions(nil)); err != nil {
				t.Fatal(err)
			}
			fits(t, dir, name)
			if steps, err := Apply(ctx, dir, testOptions(nil)); err != nil || len(steps) > 0 {
				t.Errorf("a second apply: %v, %s", err, list(steps))
			}
		})
	}
	t.Run("another key has its name", func(t *testing.T) {
		t.Parallel()
		ctx, dir := context.Background(), rotationPKI(t)
		if _, err := Rotate(ctx, dir, testOptions(nil), name, spki.KeyType{}); err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(dir, "backend.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-g1.key"), other, 0o600); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(filepath.Join(dir, name+".key"))
		if _, err := Switch(ctx, dir, testOptions(nil), name, "tested"); err == nil || !strings.Contains(err.Error(), "take the one away that is not its") {
			t.Errorf("switched over another key: %v", err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, name+".key")); !bytes.Equal(before, after) {
			t.Error("the key was replaced")
		}
	})
}

// TestRetireRefused holds what keeps an old key from being retired.
// A switch is recorded before it is made: one that was killed in between has not
// happened, and the overlap begins with the one that has.
func TestSwitchRecordedFirst(t *testing.T) {
	ctx := context.Background()
	dir := rotationPKI(t)
	const name = "ssig_subca"
	if _, err := Rotate(ctx, dir, testOptions(nil), name, spki.KeyType{}); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRollout(ctx, dir, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	long := testOptions(nil)
	long.Now = func() time.Time { return time.Now().Add(-500 * 24 * time.Hour) }
	if err := r.record(ctx, long, StepSwitch, "killed"); err != nil {
		t.Fatal(err)
	}
	open := func() (*Rollout, RolloutStep) {
		r, err := OpenRollout(ctx, dir, name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return r, r.Steps[slices.IndexFunc(r.Steps, func(s RolloutStep) bool { return s.ID == StepSwitch })]
	}
	if r, s := open(); s.State == RolloutDone || !s.Time.IsZero() || !r.switched.IsZero() {
		t.Errorf("a switch that was only recorded: %+v, since %v", s, r.switched)
	}
	if _, err := Switch(ctx, dir, testOptions(nil), name, "tested"); err != nil {
		t.Fatal(err)
	}
	if r, s := open(); s.State != RolloutDone || s.Note != "tested" || time.Since(r.switched) > time.Hour {
		t.Errorf("the switch after it: %+v, since %v", s, r.switched)
	}
	settled(t, dir, "after the switch")
}

// A root isn't retired below which an old generation is trusted: that is not issued
// again, and would hang in the air.
func TestRetireAboveOld(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := rotationPKI(t)
	for _, name := range []string{"ssig_subca", "ssig_rootca"} {
		if _, err := Rotate(ctx, dir, testOptions(nil), name, spki.KeyType{}); err != nil {
			t.Fatal(err)
		}
		if _, err := Switch(ctx, dir, testOptions(nil), name, "tested"); err != nil {
			t.Fatal(err)
		}
	}
	const want = "tmpki rollout retire ssig_subca first"
	if _, err := Retire(ctx, dir, testOptions(nil), "ssig_rootca", true, ""); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("with an old generation below: %v, want %q", err, want)
	}
	if _, err := Retire(ctx, dir, testOptions(nil), "ssig_subca", true, "tested"); err != nil {
		t.Fatal(err)
	}
	if _, err := Retire(ctx, dir, testOptions(nil), "ssig_rootca", true, ""); err == nil || strings.Contains(err.Error(), want) {
		t.Errorf("once that is retired: %v, want what is left to do", err)
	}
	if _, err := Retire(ctx, dir, testOptions(nil), "ssig_rootca", true, "tested"); err != nil {
		t.Fatal(err)
	}
	settled(t, dir, "after both")
}

func TestRetireRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	text := bytes.Replace(allEC(t), []byte("  ssig_rootca:\n"), []byte("  ssig_rootca:\n    overlap: 365d\n"), 1)
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Generate(ctx, dir, spki.KeyType{}, testOptions(text)); err != nil {
		t.Fatal(err)
	}
	p, err := Open(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := p.OpenStore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = db.RecordSignature(ctx, store.Signature{Artifact: "guestos", File: "a.conf", Signer: "ssig_cml", Serial: p.Have.Certificates["ssig_cml"].SerialNumber.Bytes(), Actor: "test"})
	root := p.Have.Certificates["ssig_rootca"]
	outside := store.Record{Serial: []byte{1, 2, 3}, Name: "a device", Profile: "device", Issuer: "ssig_rootca", IssuerKeyID: root.SubjectKeyId, Actor: "test", NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour), DER: root.Raw}
	if err := errors.Join(err, db.Import(ctx, store.Imported{Record: outside}), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Rotate(ctx, dir, testOptions(nil), "ssig_rootca", spki.KeyType{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Switch(ctx, dir, testOptions(nil), "ssig_rootca", "tested"); err != nil {
		t.Fatal(err)
	}
	later := func(d time.Duration) Options {
		o := testOptions(nil)
		o.Now = func() time.Time { return time.Now().Add(d) }
		return o
	}
	for _, row := range []struct {
		after     time.Duration
		artifacts bool
		says, not string
	}{
		{0, false, "1 certificates outside the plan", ""},
		{0, false, "1 artifacts were signed", ""},
		{0, false, "the overlap of 365d lasts until", ""},
		{0, true, "the overlap of 365d", "artifacts were signed"},
		{25 * time.Hour, true, "the overlap of 365d", "outside the plan"},
		{366 * 24 * time.Hour, false, "1 artifacts were signed", "overlap"},
		{366 * 24 * time.Hour, true, "not done: add-", "artifacts were signed"},
	} {
		_, err := Retire(ctx, dir, later(row.after), "ssig_rootca", row.artifacts, "")
		if err == nil || !strings.Contains(err.Error(), row.says) || row.not != "" && strings.Contains(err.Error(), row.not) {
			t.Errorf("after %v: %v, want %q and not %q", row.after, err, row.says, row.not)
		}
	}
	if bad := badFindings(t, dir); len(bad) > 0 {
		t.Error(bad)
	}
	// By force, and the record keeps why.
	if _, err := Retire(ctx, dir, testOptions(nil), "ssig_rootca", false, "the key was stolen"); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRollout(ctx, dir, "ssig_rootca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Steps {
		if s.ID == StepRetire && s.Note != "the key was stolen" {
			t.Errorf("the record says %q", s.Note)
		}
	}
	// An issuer that has too little time left.
	for _, renew := range []func(context.Context, string, Options, string) ([]Step, error){
		Renew,
		func(ctx context.Context, dir string, o Options, name string) ([]Step, error) {
			return Rotate(ctx, dir, o, name, spki.KeyType{})
		},
	} {
		if _, err := renew(ctx, dir, later(1500*24*time.Hour), "ssig_subca"); err == nil || !strings.Contains(err.Error(), "tmpki renew ssig_rootca first") {
			t.Errorf("below an issuer that ends too soon: %v", err)
		}
	}
}
