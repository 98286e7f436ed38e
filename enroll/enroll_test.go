package enroll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/internal/tooltest"
	"tmpki/plan"
	"tmpki/store"
)

func TestSign(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	key := newKey(t)
	first := signed(t, r, csr(t, key, testUUID(1), "Product\n SN1\n"))
	if first.Known || first.UUID != testUUID(1) || first.CommonName != "Product\n SN1\n" {
		t.Errorf("%+v", first)
	}
	c := first.Certificate
	if c.UUID() != testUUID(1) || !strings.HasPrefix(c.Subject().String(), `C=DE, O=Test, CN=Product\0A SN1\0A`) || !c.NotAfter.Equal(testNow.AddDate(0, 0, 1095)) {
		t.Errorf("certificate of %s, %q until %v", c.Subject(), c.UUID(), c.NotAfter)
	}
	// 1. The same again, in another form and with another name: the same certificate.
	again := signed(t, r, csr(t, key, strings.ToUpper(testUUID(1)), "Product 2"))
	if !again.Known || !again.Certificate.Equal(c) {
		t.Errorf("again: %+v", again)
	}
	// 2. What the device takes: PEM and nothing else, its own certificate first.
	for chain, count := range map[Chain]int{Leaf: 1, WithIssuers: 2, WithRoot: 3} {
		text, err := r.PEM(c, chain)
		must(t, err)
		list, err := ca.ParsePEM(text)
		must(t, err)
		if len(list) != count || !list[0].Equal(c) || !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----\n")) || !bytes.HasSuffix(text, []byte("-----END CERTIFICATE-----\n")) || bytes.Contains(text, []byte("\r")) {
			t.Errorf("%s: %s", chain, text)
		}
	}
	if _, err := r.PEM(c, "all"); err == nil {
		t.Error("a chain that is none")
	}
	// 3. OpenSSL agrees, and shows what the device looks for.
	tooltest.Need(t, "openssl")
	file := filepath.Join(t.TempDir(), "device.cert")
	text, _ := r.PEM(c, Leaf)
	must(t, os.WriteFile(file, text, 0o600))
	out := tooltest.Run(t, "openssl", "verify", "-x509_strict", "-attime", fmt.Sprint(testNow.Unix()), "-purpose", "sslclient",
		"-CAfile", filepath.Join(dir, "gen_rootca.cert"), "-untrusted", filepath.Join(dir, "device_subca.cert"), file)
	if !bytes.Contains(out, []byte("OK")) {
		t.Errorf("%s", out)
	}
	if out := tooltest.Run(t, "openssl", "x509", "-in", file, "-noout", "-ext", "subjectAltName"); !bytes.Contains(out, []byte("    URI:UUID:"+testUUID(1))) {
		t.Errorf("%s", out)
	}
	checkStore(t, dir)
}

// Each row says what the record has to say to a request.
func TestSignRefuses(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r, replacing := open(t, dir, "device"), open(t, dir, "device", func(o *Options) { o.Replace = true })
	sensor := open(t, dir, "sensor")
	a, b, c := newKey(t), newKey(t), newKey(t)
	revoke := func(uuid string, reason store.Reason) {
		t.Helper()
		list, err := r.db.ByName(t.Context(), NamePrefix+strings.ToLower(uuid))
		must(t, err)
		must(t, r.db.Revoke(t.Context(), store.Revocation{Serial: list[0].Serial, Reason: reason, Actor: "test"}))
	}
	first := signed(t, r, csr(t, a, testUUID(1), "one"))
	refused(t, r, csr(t, a, testUUID(2), "two"), "publicKey: has a certificate for device/"+strings.ToLower(testUUID(1))+" already")
	refused(t, replacing, csr(t, a, testUUID(2), "two"), "publicKey: has a certificate for device/")
	refused(t, r, csr(t, b, testUUID(1), "one"), "UUID: has a certificate")
	refused(t, sensor, csr(t, a, testUUID(1), "one"), "of profile device already")
	refused(t, sensor, csr(t, a, "", "one"), "publicKey: has a certificate for device/")

	// With --replace the old one is revoked, and the same again changes nothing.
	second := signed(t, replacing, csr(t, b, testUUID(1), "one"))
	revocation, err := r.db.Revocation(t.Context(), "device_subca", first.Certificate.SerialNumber.Bytes())
	if err != nil || revocation.Reason != store.Superseded {
		t.Errorf("the old certificate: %+v, %v", revocation, err)
	}
	if again := signed(t, replacing, csr(t, b, testUUID(1), "one")); !again.Known || !again.Certificate.Equal(second.Certificate) {
		t.Errorf("replaced again: %+v", again)
	}
	// A request that was replaced is not the way back.
	refused(t, r, csr(t, a, testUUID(1), "one"), "UUID: has a certificate")

	// After a revocation.
	refusedAfter := func(reason store.Reason, want, wantReplacing string) {
		t.Helper()
		key, uuid := newKey(t), testUUID(100+int(reason))
		signed(t, r, csr(t, key, uuid, "x"))
		revoke(uuid, reason)
		refused(t, r, csr(t, key, uuid, "x"), want)
		if wantReplacing == "" {
			signed(t, replacing, csr(t, key, uuid, "x"))
		} else {
			refused(t, replacing, csr(t, key, uuid, "x"), wantReplacing)
		}
	}
	refusedAfter(store.CessationOfOperation, "--replace issues another one", "")
	refusedAfter(store.KeyCompromise, "keyCompromise", "keyCompromise")
	refusedAfter(store.CertificateHold, "is on hold", "is on hold")
	// A device whose key was lost gets one for a new key, without more ado.
	signed(t, r, csr(t, newKey(t), testUUID(100+int(store.KeyCompromise)), "x"))
	// One that was taken out of service doesn't come back by a new key.
	for _, reason := range []store.Reason{store.PrivilegeWithdrawn, store.Unspecified} {
		signed(t, r, csr(t, newKey(t), testUUID(200+int(reason)), "x"))
		revoke(testUUID(200+int(reason)), reason)
		anew := csr(t, newKey(t), testUUID(200+int(reason)), "x")
		refused(t, r, anew, "was revoked on ")
		signed(t, replacing, anew)
	}

	// The keys of the PKI itself.
	p, err := plan.Open(t.Context(), dir)
	must(t, err)
	for _, name := range []string{"device_subca", "gen_rootca", "sensor_subca"} {
		signer, err := p.Signer(p.Plan.Entry(name))
		must(t, err)
		refused(t, r, csr(t, signer, testUUID(3), "x"), "publicKey: is the key of "+name+" of this PKI")
	}
	refused(t, r, []byte("nonsense"), "certificate request: ")
	refused(t, r, csr(t, c, "", "x"), "no UUID")
	// A key without a UUID, where the profile allows that, has its certificate too.
	plain := signed(t, sensor, csr(t, c, "", "sensor 1"))
	if again := signed(t, sensor, csr(t, c, "", "sensor 1")); !again.Known || !again.Certificate.Equal(plain.Certificate) || again.Certificate.UUID() != "" {
		t.Errorf("%+v", again)
	}
	checkStore(t, dir)
}

// When the certificate has expired, the device gets another one for its request.
func TestSignExpired(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	request := device(t, 1)
	first := signed(t, open(t, dir, "sensor"), request)
	later := open(t, dir, "sensor", func(o *Options) { o.Now = func() time.Time { return testNow.AddDate(0, 0, 366) } })
	second := signed(t, later, request)
	if second.Known || second.Certificate.Equal(first.Certificate) {
		t.Errorf("%+v", second)
	}
	if third := signed(t, later, request); !third.Known || !third.Certificate.Equal(second.Certificate) {
		t.Errorf("%+v", third)
	}
}

// Near its end, and only then, the certificate is issued anew for the same request;
// the old one stays good.
func TestSignRenews(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	request := device(t, 1)
	first := signed(t, open(t, dir, "sensor"), request)
	at := func(days int) func(*Options) {
		return func(o *Options) {
			o.Now = func() time.Time { return testNow.AddDate(0, 0, days) }
			o.Renew = 90 * 24 * time.Hour
		}
	}
	if early := signed(t, open(t, dir, "sensor", at(274)), request); !early.Known || !early.Certificate.Equal(first.Certificate) {
		t.Errorf("91 days before its end: %+v", early)
	}
	due := open(t, dir, "sensor", at(276))
	second := signed(t, due, request)
	if second.Known || !second.Certificate.NotAfter.After(first.Certificate.NotAfter) {
		t.Errorf("89 days before its end: %+v", second)
	}
	for _, r := range []*Registrar{due, open(t, dir, "sensor", at(276))} {
		if again := signed(t, r, request); !again.Known || !again.Certificate.Equal(second.Certificate) {
			t.Errorf("renewed again: %+v", again)
		}
	}
	if _, err := due.db.Revocation(t.Context(), "sensor_subca", first.Certificate.SerialNumber.Bytes()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the old certificate: %v", err)
	}
	if err := due.db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	p, err := plan.Open(t.Context(), dir)
	must(t, err)
	o := Options{Actor: "test", Now: func() time.Time { return testNow }}
	for _, row := range []struct {
		profile string
		change  func(*Options)
		want    string
	}{
		{"subca", nil, `profile "subca" issues nothing outside the entries of the plan`},
		{"closed", nil, "profiles.closed.request: missing in the plan: no request may use the profile"},
		{"device", func(o *Options) { o.Now = func() time.Time { return testNow.AddDate(20, 0, 0) } }, "device_subca can't sign now"},
		{"device", func(o *Options) { o.Renew = 1095 * 24 * time.Hour }, "renewing 1095 days before the end: certificates of profile device live 1095 days"},
		{"device", func(o *Options) { o.Now = func() time.Time { return testNow.AddDate(0, 0, 2000) } }, "certificates of 1095d would outlive device_subca, which ends on 2032-"},
		{"device", func(o *Options) { o.AllowList = filepath.Join(dir, "none.csv") }, "allow-list: "},
	} {
		changed := o
		if row.change != nil {
			row.change(&changed)
		}
		if _, err := Open(t.Context(), p, row.profile, changed); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", row.profile, err, row.want)
		}
	}
}

// A revoked authority issues nothing.
func TestOpenRevoked(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	must(t, r.db.Revoke(t.Context(), store.Revocation{Serial: r.chain[0].SerialNumber.Bytes(), Reason: store.CACompromise, Actor: "test"}))
	p, err := plan.Open(t.Context(), dir)
	must(t, err)
	if _, err := Open(t.Context(), p, "device", r.o); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Error(err)
	}
}

// A batch answers each request in its place, whatever becomes of its neighbours.
func TestSignAll(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	key, other := newKey(t), newKey(t)
	early := signed(t, r, csr(t, key, testUUID(7), "early"))
	rows := []struct {
		request []byte
		want    string
	}{
		{csr(t, key, testUUID(7), "early"), "known"},
		{device(t, 1), "issued"},
		{[]byte("nonsense"), "certificate request"},
		{csr(t, other, testUUID(2), "two"), "issued"},
		{csr(t, other, testUUID(2), "two, again"), "known"},
		{csr(t, newKey(t), testUUID(2), "two"), "UUID: request 4 of this batch has it for another key"},
		{csr(t, other, testUUID(3), "three"), "publicKey: request 4 of this batch has it for another UUID"},
		{csr(t, key, testUUID(4), "four"), "publicKey: request 1 of this batch has it for another UUID"},
		{csr(t, key, testUUID(4), "four"), "publicKey: request 1 of this batch has it for another UUID"},
		{device(t, 5), "issued"},
	}
	var requests [][]byte
	for _, row := range rows {
		requests = append(requests, row.request)
	}
	for n := range 2 * groupSize { // so that the last ones are in another group
		requests = append(requests, device(t, 1000+n))
	}
	requests = append(requests, rows[3].request, csr(t, newKey(t), testUUID(2), "two"))
	results, totals := all(t, r, requests...)
	check := func(n int, want string) {
		got := "issued"
		switch one := results[n]; {
		case one.Err != nil:
			got = one.Err.Error()
		case one.Known:
			got = "known"
		}
		if !strings.Contains(got, want) || strings.Contains(got, `"device/`) {
			t.Errorf("request %d: %s, want %s", n+1, got, want)
		}
	}
	for n, row := range rows {
		check(n, row.want)
	}
	check(len(requests)-2, "known")
	check(len(requests)-1, "UUID: ")
	if !results[0].Certificate.Equal(early.Certificate) || !results[4].Certificate.Equal(results[3].Certificate) || !results[len(requests)-2].Certificate.Equal(results[3].Certificate) {
		t.Error("the certificate that was there before is another one now")
	}
	if want := (Totals{Issued: 3 + 2*groupSize, Known: 3, Rejected: 6}); totals != want {
		t.Errorf("%+v, want %+v", totals, want)
	}
	again, totals := all(t, r, requests...)
	if totals.Issued != 0 || totals.Rejected != 6 {
		t.Errorf("again: %+v", totals)
	}
	for n := range again {
		if (again[n].Err == nil) != (results[n].Err == nil) || again[n].Err == nil && !again[n].Certificate.Equal(results[n].Certificate) {
			t.Errorf("request %d, again: %v", n+1, again[n].Err)
		}
	}
	if n := len(checkStore(t, dir)); n != 4+2*groupSize {
		t.Errorf("%d certificates", n)
	}
}

// Several registrars on one store, all with the same requests.
func TestSignAllAtOnce(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	var requests [][]byte
	for n := range 600 {
		requests = append(requests, device(t, n))
	}
	results := make([][]Result, 3)
	done := make(chan error)
	for n := range results {
		r := open(t, dir, "device")
		go func() {
			_, err := r.SignAll(context.Background(), func(yield func(Request) bool) {
				for k := range requests {
					if !yield(Request{Data: requests[(k+n*200)%len(requests)]}) {
						return
					}
				}
			}, func(one Result) error {
				results[n] = append(results[n], one)
				return one.Err
			})
			done <- err
		}()
	}
	for range results {
		must(t, <-done)
	}
	names := checkStore(t, dir)
	if len(names) != len(requests) {
		t.Errorf("%d certificates", len(names))
	}
	for n := range results {
		for _, one := range results[n] {
			if c := names[NamePrefix+strings.ToLower(one.UUID)]; c == nil || !c.Equal(one.Certificate) {
				t.Fatalf("%s was handed out another certificate than the recorded one", one.UUID)
			}
		}
	}
	if pending, err := open(t, dir, "device").db.Pending(t.Context()); err != nil || len(pending) != 0 {
		t.Errorf("%d intents are open, %v", len(pending), err)
	}
}

// A batch that is interrupted, or whose reader gives up, goes on where it was.
func TestSignAllInterrupted(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	var requests [][]byte
	for n := range 3 * groupSize {
		requests = append(requests, device(t, n))
	}
	feed := func(yield func(Request) bool) {
		for _, data := range requests {
			if !yield(Request{Data: data}) {
				return
			}
		}
	}
	handed := map[string]*ca.Certificate{}
	full := errors.New("the disk is full")
	if _, err := r.SignAll(t.Context(), feed, func(one Result) error {
		handed[one.UUID] = one.Certificate
		if len(handed) == 100 {
			return full
		}
		return one.Err
	}); !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	count := 0
	if _, err := r.SignAll(ctx, feed, func(one Result) error {
		handed[one.UUID] = one.Certificate
		if count++; count == 300 {
			cancel()
		}
		return one.Err
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// A source that never ends, nor says anything: the batch ends without it.
	ctx, cancel = context.WithCancel(t.Context())
	block := make(chan struct{})
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := r.SignAll(ctx, func(func(Request) bool) { <-block }, func(Result) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(block)
	results, _ := all(t, r, requests...)
	for _, one := range results {
		if c := handed[one.UUID]; c != nil && !c.Equal(one.Certificate) {
			t.Errorf("%s was handed out two certificates", one.UUID)
		}
	}
	if n := len(checkStore(t, dir)); n != len(requests) {
		t.Errorf("%d certificates", n)
	}
}

// Intents of a process that died are taken up, or put aside.
func TestSignAfterDeath(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	intend := func(request []byte) store.Record {
		t.Helper()
		i := &item{data: request}
		must(t, r.vet(i))
		record := i.prepared.Record("somebody who died")
		must(t, r.db.Intend(t.Context(), record))
		return record
	}
	// 1. The same request is answered with the certificate that was meant.
	request := device(t, 1)
	record := intend(request)
	r.o.Now = func() time.Time { return testNow.Add(time.Hour) }
	if got := signed(t, r, request); !bytes.Equal(got.Certificate.SerialNumber.Bytes(), record.Serial) || !got.Certificate.NotBefore.Equal(testNow) {
		t.Errorf("serial %x, from %v", got.Certificate.SerialNumber, got.Certificate.NotBefore)
	}
	// 2. Another one puts it aside: with another key, or another name.
	record = intend(device(t, 2))
	signed(t, r, device(t, 2))
	if revocation, err := r.db.Revocation(t.Context(), "device_subca", record.Serial); err != nil || revocation.Reason != store.Superseded {
		t.Errorf("%+v, %v", revocation, err)
	}
	key := newKey(t)
	record = intend(csr(t, key, testUUID(3), "a"))
	if got := signed(t, r, csr(t, key, testUUID(3), "b")); bytes.Equal(got.Certificate.SerialNumber.Bytes(), record.Serial) || got.CommonName != "b" {
		t.Errorf("%+v", got)
	}
	// So does the same one, if what was meant can't be signed any more, or is over.
	earlyRequest, oldRequest := device(t, 6), device(t, 7)
	i := &item{data: earlyRequest}
	must(t, r.vet(i))
	early := i.prepared.Record("somebody who died")
	early.NotBefore = r.chain[0].NotBefore.Add(-time.Second)
	must(t, r.db.Intend(t.Context(), early))
	sensor := open(t, dir, "sensor") // for a year
	i = &item{data: oldRequest}
	must(t, sensor.vet(i))
	old := i.prepared.Record("somebody who died")
	must(t, sensor.db.Intend(t.Context(), old))
	if got := signed(t, r, earlyRequest); bytes.Equal(got.Certificate.SerialNumber.Bytes(), early.Serial) {
		t.Error("issued before its issuer")
	}
	sensor.o.Now = func() time.Time { return old.NotAfter.Add(time.Hour) }
	if got := signed(t, sensor, oldRequest); bytes.Equal(got.Certificate.SerialNumber.Bytes(), old.Serial) || got.Certificate.NotAfter.Before(sensor.o.Now()) {
		t.Error("what was issued is over")
	}
	// 3. For another device it stays in the way, until it is revoked.
	key = newKey(t)
	record = intend(csr(t, key, testUUID(4), "a"))
	refused(t, r, csr(t, key, testUUID(5), "a"), fmt.Sprintf("with serial %x; if that was given up, revoke the serial", record.Serial))
	must(t, r.db.Revoke(t.Context(), store.Revocation{Serial: record.Serial, Reason: store.CessationOfOperation, Actor: "test"}))
	signed(t, r, csr(t, key, testUUID(5), "a"))
	if pending, err := r.db.Pending(t.Context()); err != nil || len(pending) != 0 {
		t.Errorf("%d intents are open, %v", len(pending), err)
	}
	checkStore(t, dir)
}
