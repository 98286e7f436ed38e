package plan

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/tooltest"
	"tmpki/spki"
)

// allEC is a plan whose keys take no time to make, so that there is time for many
// kills, and kills hit more than the making of keys.
func allEC(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/all-ec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func testOptions(text []byte) Options {
	return Options{Actor: "test", Now: time.Now, newPlan: text}
}

// TestKilledChild is not a test, but the process that TestKilled kills.
func TestKilledChild(t *testing.T) {
	road, dir := os.Getenv("PLAN_TEST_ROAD"), os.Getenv("PLAN_TEST_DIR")
	if road == "" {
		t.Skip("only as a child of TestKilled")
	}
	fmt.Println("begun")
	if err := runRoad(road, dir, allEC(t)); err != nil {
		t.Fatal(err)
	}
}

func runRoad(road, dir string, text []byte) error {
	ctx := context.Background()
	var err error
	switch road {
	case "generate", "fill":
		_, err = Generate(ctx, dir, spki.KeyType{}, testOptions(text))
	case "rotate":
		_, err = Rotate(ctx, dir, testOptions(nil), "ssig", spki.KeyType{})
	case "switch":
		_, err = Switch(ctx, dir, testOptions(nil), "ssig", "tested")
	case "apply":
		_, err = Apply(ctx, dir, testOptions(text))
	default:
		err = fmt.Errorf("unknown road %q", road)
	}
	return err
}

// killOnce starts a process on its road and kills it after delay. It reports how
// long that was, and whether the process was still at it.
func killOnce(t *testing.T, road, dir, temp string, delay time.Duration) (time.Duration, bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
	cmd.Env = append(os.Environ(), "PLAN_TEST_ROAD="+road, "PLAN_TEST_DIR="+dir, "TMPDIR="+temp, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); line != "begun\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	start := time.Now()
	done := make(chan error, 1)
	go func() {
		rest := new(bytes.Buffer)
		rest.ReadFrom(r)
		err := cmd.Wait()
		if err != nil && strings.Contains(rest.String(), "FAIL") {
			err = fmt.Errorf("child failed by itself: %v\n%s", err, rest)
			done <- err
			return
		}
		if err != nil {
			done <- nil
			return
		}
		done <- errFinished
	}()
	select {
	case <-time.After(delay):
		cmd.Process.Kill()
		err = <-done
	case err = <-done:
	}
	took := time.Since(start)
	if err != nil && err != errFinished {
		t.Fatal(err)
	}
	return took, err == nil
}

var errFinished = fmt.Errorf("finished")

// TestKilled kills runs at random moments. Whatever the moment: the directory is
// absent, or complete, or the next run completes it; no key of a dead run is left
// anywhere; no serial is used twice; the record is sound.
func TestKilled(t *testing.T) {
	t.Parallel()
	for road, count := range map[string]int{"generate": 120, "apply": 80, "fill": 30} {
		t.Run(road, func(t *testing.T) {
			t.Parallel()
			testKilled(t, road, count)
		})
	}
}

func testKilled(t *testing.T, road string, count int) {
	if testing.Short() {
		count = 20
	}
	text := allEC(t)
	setUp := func() (dir, temp string) {
		parent, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		dir, temp = filepath.Join(parent, "pki"), filepath.Join(parent, "tmp")
		if err := os.Mkdir(temp, 0o700); err != nil {
			t.Fatal(err)
		}
		if road != "generate" {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if road == "apply" {
			if err := os.WriteFile(filepath.Join(dir, FileName), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return dir, temp
	}
	// How long does a run take that nobody kills?
	whole := time.Minute
	for range 3 {
		dir, temp := setUp()
		took, wasKilled := killOnce(t, road, dir, temp, time.Minute)
		if wasKilled {
			t.Fatal("a run took a minute")
		}
		whole = min(whole, took)
		if bad := badFindings(t, dir); len(bad) > 0 {
			t.Fatalf("an undisturbed run: %v", bad)
		}
	}
	partial, staged, killed := 0, 0, 0
	for i := range count {
		dir, temp := setUp()
		// Spread over the run, and a little beyond its end; every fourth directory
		// sees two deaths.
		delay := time.Duration(float64(whole) * 1.1 * (float64(i) + rand.Float64()) / float64(count))
		if _, wasKilled := killOnce(t, road, dir, temp, delay); wasKilled {
			killed++
		}
		if i%4 == 0 {
			killOnce(t, road, dir, temp, time.Duration(rand.Int64N(int64(whole))))
		}
		if _, err := os.Lstat(StagingName(dir)); err == nil {
			staged++
		}
		if _, err := os.Lstat(dir); err == nil && (road == "generate" || !missing(dir, FileName)) {
			bad := badFindings(t, dir)
			if len(bad) > 0 {
				partial++
			}
			if len(bad) > 0 && road == "generate" {
				t.Fatalf("killed after %v: the directory is there and not complete: %v", delay, bad)
			}
		}
		if err := runRoad(road, dir, text); err != nil {
			t.Fatalf("killed after %v: the next run: %v\n%s", delay, err, listing(dir))
		}
		if bad := badFindings(t, dir); len(bad) > 0 {
			t.Fatalf("killed after %v: after the next run: %v", delay, bad)
		}
		checkWhole(t, dir)
		os.RemoveAll(filepath.Dir(dir))
	}
	t.Logf("%d runs of %v: %d killed, %d left a directory to complete, %d a staging directory", count, whole.Round(time.Millisecond), killed, partial, staged)
	if killed < count/4 {
		t.Error("most runs were over before they were killed: the test shows little")
	}
}

func badFindings(t *testing.T, dir string) []string {
	t.Helper()
	list, err := Check(context.Background(), dir, time.Now())
	if err != nil {
		return []string{err.Error()}
	}
	var bad []string
	for _, f := range list {
		if f.Level == Bad {
			bad = append(bad, f.Name+": "+f.Text)
		}
	}
	return bad
}

// checkWhole looks at a PKI from outside, and at what lies around it.
func checkWhole(t *testing.T, dir string) {
	t.Helper()
	serials := map[string][]byte{}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		inside := strings.HasPrefix(path, dir+string(filepath.Separator))
		if bytes.Contains(content, []byte("PRIVATE KEY")) && (!inside || strings.Contains(path, ".tmp-")) {
			t.Errorf("a key of a dead run: %s", path)
		}
		if strings.HasSuffix(path, ".cert") {
			certs, err := ca.ParsePEM(content)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, c := range certs {
				if other := serials[c.SerialNumber.String()]; other != nil && !bytes.Equal(other, c.Raw) {
					t.Errorf("two certificates with serial %x", c.SerialNumber)
				}
				serials[c.SerialNumber.String()] = c.Raw
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Run("openssl", func(t *testing.T) { // without it, all else is still tested
		for root, leaf := range map[string]string{"ssig_rootca.cert": "ssig_cml.cert", "gen_rootca.cert": "backend.cert"} {
			root, leaf := filepath.Join(dir, root), filepath.Join(dir, leaf)
			tooltest.Run(t, "openssl", "verify", "-CAfile", root, "-untrusted", leaf, leaf)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

func listing(dir string) string {
	var out strings.Builder
	filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		fmt.Fprintln(&out, path)
		return nil
	})
	return out.String()
}
