package plan

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/ceremony"
)

// TestKilledCeremonyChild is not a test, but the process that TestKilledCeremony
// kills: it holds a ceremony, or takes a response.
func TestKilledCeremonyChild(t *testing.T) {
	dir, bundle := os.Getenv("PLAN_TEST_CEREMONY"), os.Getenv("PLAN_TEST_BUNDLE")
	if dir == "" {
		t.Skip("only as a child of TestKilledCeremony")
	}
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ceremony.ParseRequest(data); err == nil {
		_, err = Conduct(context.Background(), dir, data, ceremonyOptions())
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := TakeResponse(context.Background(), dir, data, testOptions(nil), func(*UnconfirmedError) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// TestKilledCeremony kills ceremonies, and those who take their responses, at random
// moments. Whatever the moment: the next run goes on, nothing is certified twice, and
// what one run has certified, the response has.
func TestKilledCeremony(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	killed := func(dir, bundle string, delay time.Duration) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledCeremonyChild$")
		cmd.Env = append(os.Environ(), "PLAN_TEST_CEREMONY="+dir, "PLAN_TEST_BUNDLE="+bundle, "GORACE=atexit_sleep_ms=0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		cmd.Process.Kill()
		cmd.Wait()
	}
	interrupted := 0
	for round := 0; round < 8; round++ {
		m := newMachines(t, ceremonyPlan(t))
		file := filepath.Join(temp, "bundle")
		request := m.apply()
		if err := os.WriteFile(file, request, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			killed(m.offline, file, time.Duration(rand.IntN(120))*time.Millisecond)
		}
		signed := m.serials(m.offline)
		a := m.mustConduct(request)
		if n := len(signed); n > 0 && !a.Again {
			interrupted++
		}
		answered := map[string][]byte{}
		for _, c := range a.Certificates {
			answered[c.Entry] = must(ca.ParseCertificate(c.Certificate)).SerialNumber.Bytes()
		}
		for name, serial := range signed {
			if !bytes.Equal(answered[name], serial) {
				t.Errorf("round %d: %s was signed as %x, but answered as %x", round, name, serial, answered[name])
			}
		}
		m.verify(m.offline, 4)
		// And the other way.
		if err := os.WriteFile(file, a.Marshal(), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			killed(m.online, file, time.Duration(rand.IntN(120))*time.Millisecond)
		}
		m.take(a.Marshal()) // or it was taken
		if m.apply() != nil {
			t.Errorf("round %d: a request is left", round)
		}
		m.verify(m.online, 7)
	}
	t.Logf("%d of 8 ceremonies were killed after they had signed something", interrupted)
}

// serials returns the newest certificates of a machine, by name.
func (m *twoMachines) serials(dir string) map[string][]byte {
	m.t.Helper()
	ctx := context.Background()
	out := map[string][]byte{}
	db, err := ReadStore(ctx, dir)
	if err != nil {
		return out // not begun
	}
	defer db.Close()
	for r, err := range db.Certificates(ctx) {
		if err != nil {
			m.t.Fatal(err)
		}
		out[r.Name] = r.Serial
	}
	return out
}
