package plan

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/keys/keytest"
	"tmpki/spki"
)

// tokenPKI writes the plan with EC keys, of which some lie in a token, and all
// others in files.
func tokenPKI(t *testing.T, places map[string]string) string {
	t.Helper()
	text := string(allEC(t))
	for name, place := range places {
		was := text
		if text = strings.Replace(text, "\n  "+name+":", "\n  "+name+":\n    place: \""+place+"\"", 1); text == was {
			t.Fatalf("the plan has no line of %s", name)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inTokenNow returns the labels of the private keys in a token.
func inTokenNow(t *testing.T, label string) []string {
	t.Helper()
	u := must(keys.ParseURI("pkcs11:token=" + label))
	if err := keys.Login(u, false); err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, o := range must(keys.ListTokens(u))[0].Objects {
		if o.Class == "private" {
			labels = append(labels, o.Label)
		}
	}
	return labels
}

var inOne = map[string]string{"ssig_rootca": "pkcs11:token=one;object={name}", "ssig_subca": "pkcs11:token=one;object={name}"}

// TestApplyUndoesTokenKeys: a run that fails before its keys are in use takes them
// back, from tokens too.
func TestApplyUndoesTokenKeys(t *testing.T) {
	keytest.SoftHSM(t, "one")
	dir := tokenPKI(t, inOne)
	ctx, cancel := context.WithCancel(t.Context())
	o := testOptions(nil)
	o.Progress = func(_, _ int, s Step) {
		if s.Kind == GenerateKey {
			cancel()
		}
	}
	if _, err := Apply(ctx, dir, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if left := inTokenNow(t, "one"); len(left) > 0 {
		t.Errorf("keys are left in the token: %v", left)
	}
	if _, err := Apply(t.Context(), dir, testOptions(nil)); err != nil {
		t.Fatal(err)
	}
	if bad := badFindings(t, dir); len(bad) > 0 {
		t.Error(bad)
	}
}

// TestApplyTakesTokenKeys: what a run that was killed has left in a token, the
// next one takes.
func TestApplyTakesTokenKeys(t *testing.T) {
	keytest.SoftHSM(t, "one")
	dir := tokenPKI(t, inOne)
	p := must(Open(t.Context(), dir))
	e := p.Plan.Entry("ssig_subca")
	left, _, err := keys.GenerateInToken(e.Key, e.TokenUse())
	if err != nil {
		t.Fatal(err)
	}
	_, steps, err := Preview(t.Context(), dir, Demand{})
	if err != nil {
		t.Fatal(err)
	}
	if text := list(steps); !strings.Contains(text, "generate key ssig_subca (it is there already, and in no use)") || !strings.Contains(text, "store certificate ssig_rootca") {
		t.Errorf("steps\n%s", text)
	}
	if _, err := Apply(t.Context(), dir, testOptions(nil)); err != nil {
		t.Fatal(err)
	}
	p = must(Open(t.Context(), dir))
	if !keys.SameKey(p.Have.Certificates["ssig_subca"].Key, left.Public()) {
		t.Error("another key was made")
	}
	if steps := must(p.Plan.Steps(p.Have, Demand{})); len(steps) > 0 {
		t.Errorf("left to do\n%s", list(steps))
	}
	// A lost certificate object is put back, one that nobody knows replaced.
	c := p.Have.Certificates["ssig_rootca"]
	s := p.Have.Tokens["ssig_rootca"]
	for want, certs := range map[string][][]byte{
		"store certificate ssig_rootca":                              nil,
		"store certificate ssig_rootca (it differs from the record)": {p.Have.Certificates["ssig_subca"].Raw},
		"": {c.Raw},
	} {
		s.Certificates = certs
		p.Have.Tokens["ssig_rootca"] = s
		if got := list(must(p.Plan.Steps(p.Have, Demand{}))); got != want {
			t.Errorf("steps %q, want %q", got, want)
		}
	}
	// The token goes away: of no concern, until its key is needed.
	s.Err, s.Key = keys.ErrNoToken, nil
	p.Have.Tokens["ssig_rootca"] = s
	delete(p.Have.Keys, "ssig_rootca")
	if steps := must(p.Plan.Steps(p.Have, Demand{})); len(steps) > 0 {
		t.Errorf("steps without the token\n%s", list(steps))
	}
	delete(p.Have.Certificates, "ssig_subca_cml")
	delete(p.Have.Files, "ssig_subca_cml.cert")
	_, err = p.Plan.Steps(p.Have, Demand{})
	wantText(t, err, "the key of ssig_rootca at pkcs11:token=one;object=ssig_rootca is needed to issue the certificate of ssig_subca_cml: no token")
}

func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want %q", err, text)
	}
}

// TestOneTokenKeyForTwo: two spellings of one place are found out, and nothing is
// left of the try.
func TestOneTokenKeyForTwo(t *testing.T) {
	keytest.SoftHSM(t, "one")
	serial := must(keys.ListTokens(must(keys.ParseURI("pkcs11:token=one"))))[0].Serial
	dir := tokenPKI(t, map[string]string{"ssig_rootca": "pkcs11:token=one;object=a", "ssig_subca": "pkcs11:serial=" + serial + ";object=a"})
	_, err := Apply(t.Context(), dir, testOptions(nil))
	if err == nil || !strings.Contains(err.Error(), "are one key") && !strings.Contains(err.Error(), "2 private objects match") {
		t.Errorf("error %v", err)
	}
	if left := inTokenNow(t, "one"); len(left) > 0 {
		t.Errorf("keys are left in the token: %v", left)
	}
}

// TestTokenKeyStep: what lies at the place of a new key.
func TestTokenKeyStep(t *testing.T) {
	p := must(Load(FileName, []byte(strings.Replace(small, "  root:\n", "  root:\n    place: \"pkcs11:token=one;object=root\"\n", 1))))
	e := p.Entry("root")
	rows := []struct {
		name  string
		sight keys.Sight
		is    string // type of the key there
		want  string
	}{
		{name: "nothing"},
		{name: "the key of a dead run", sight: keys.Sight{Key: signer(e).Public()}, is: e.KeyType.String()},
		{name: "the key of another PKI", sight: keys.Sight{Key: signer(e).Public(), Certificates: [][]byte{{1}}}, is: e.KeyType.String(),
			want: "authorities.root.place: a key with a certificate is at pkcs11:token=one;object=root already: it belongs to another PKI"},
		{name: "a certificate", sight: keys.Sight{Certificates: [][]byte{{1}}}, want: "a key with a certificate is at"},
		{name: "another type", sight: keys.Sight{Key: signer(e).Public()}, is: "ec:P-521", want: "a key of type ec:P-521 is at pkcs11:token=one;object=root already, but the plan wants " + e.KeyType.String()},
		{name: "no token", sight: keys.Sight{Err: keys.ErrNoToken}, want: "authorities.root.place: no key can be made at pkcs11:token=one;object=root: no token"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			have := Inventory{Tokens: map[string]keys.Sight{"root": r.sight}, Keys: map[string]KeyFile{}, Certificates: map[string]*ca.Certificate{}}
			if r.is != "" {
				have.Keys["root"] = KeyFile{Type: must(spki.ParseKeyType(r.is))}
			}
			steps, err := p.Steps(have, Demand{})
			if r.want != "" {
				wantText(t, err, r.want)
			} else if err != nil || !strings.HasPrefix(list(steps), "generate key root") {
				t.Errorf("%v\n%s", err, list(steps))
			}
		})
	}
}
