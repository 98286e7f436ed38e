package enroll

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
)

func TestMain(m *testing.M) {
	if os.Getenv("ENROLL_TEST_ROLE") == "batch" {
		if err := batchChild(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// batchChild signs a stream as the command does, and tells each result.
func batchChild(dir, requests, out string) error {
	ctx := context.Background()
	p, err := plan.Open(ctx, dir)
	if err != nil {
		return err
	}
	r, err := Open(ctx, p, "device", Options{Actor: "killed", Now: func() time.Time { return testNow }})
	if err != nil {
		return err
	}
	defer r.Close()
	in, err := os.Open(requests)
	if err != nil {
		return err
	}
	file, err := durable.NewFile(out, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = r.SignStream(ctx, requests, in, file, Leaf, func(one Result) error {
		if one.Err != nil {
			return one.Err
		}
		_, err := fmt.Printf("%s %x\n", one.UUID, one.Certificate.SerialNumber)
		return err
	})
	if err != nil {
		return err
	}
	return file.Commit()
}

// A batch is killed again and again, and begun again. In the end each request has
// one certificate, the one that any of the killed told of. TMPKI_KILLS is how many
// times it is killed, of a batch of 10,000.
func TestKilled(t *testing.T) {
	kills, n := 8, 1500
	if s := os.Getenv("TMPKI_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		must(t, err)
		n = 10_000
	}
	dir := newPKI(t, "ec:P-256")
	work := t.TempDir()
	requests, out := filepath.Join(work, "requests.pem"), filepath.Join(work, "certificates.pem")
	var stream bytes.Buffer
	for _, der := range benchRequests(t, 0, n) {
		must(t, pem.Encode(&stream, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	must(t, os.WriteFile(requests, stream.Bytes(), 0o600))

	told := map[string]string{} // serial by UUID
	order := []string{}
	run := func(killAfter int) (finished bool) {
		cmd := exec.Command(os.Args[0], dir, requests, out)
		cmd.Env = append(os.Environ(), "ENROLL_TEST_ROLE=batch")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		killed := false
		if killAfter == 0 { // before it has told of anything
			killed = true
			time.Sleep(rand.N(150 * time.Millisecond))
			cmd.Process.Kill()
		}
		lines := bufio.NewScanner(stdout)
		order = order[:0]
		for lines.Scan() {
			uuid, serial, ok := strings.Cut(lines.Text(), " ")
			if !ok || len(uuid) != 36 {
				break // cut off
			}
			if was := told[uuid]; was != "" && was != serial && len(was) == len(serial) {
				t.Errorf("%s was told of two certificates, %s and %s", uuid, was, serial)
			}
			told[uuid] = serial
			if order = append(order, serial); len(order) == killAfter {
				killed = true
				time.Sleep(rand.N(20 * time.Millisecond))
				cmd.Process.Kill()
			}
		}
		err = cmd.Wait()
		if err != nil && !killed {
			t.Fatalf("the batch failed: %v\n%s", err, &stderr)
		}
		return err == nil
	}
	for k := range kills {
		run(rand.N(n * (k + 1) / kills))
	}
	for !run(n + 1) {
	}
	// 1. The record: a certificate for each, and no intent without one.
	names := checkStore(t, dir)
	if len(names) != n {
		t.Errorf("%d certificates for %d requests", len(names), n)
	}
	if pending, err := open(t, dir, "device").db.Pending(t.Context()); err != nil || len(pending) != 0 {
		t.Errorf("%d intents are open, %v", len(pending), err)
	}
	// 2. What was handed out: all of it, in order.
	data, err := os.ReadFile(out)
	must(t, err)
	for i := range n {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			t.Fatalf("the output ends after %d certificates", i)
		}
		c, err := ca.ParseCertificate(block.Bytes)
		must(t, err)
		if want := testUUID(i); c.UUID() != want || !c.Equal(names[NamePrefix+strings.ToLower(want)]) || told[want] != fmt.Sprintf("%x", c.SerialNumber) {
			t.Fatalf("certificate %d is for %s, serial %x, told %s", i, c.UUID(), c.SerialNumber, told[want])
		}
	}
	if len(bytes.TrimSpace(data)) != 0 {
		t.Error("the output has more certificates than requests")
	}
	// 3. Nothing else is left.
	entries, err := os.ReadDir(work)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}
