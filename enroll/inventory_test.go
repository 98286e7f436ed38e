package enroll

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"tmpki/ca"
	"tmpki/store"
)

func fingerprint(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(der))
}

func TestDevices(t *testing.T) {
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	requests := make([][]byte, 2*scanPage+10)
	for n := range requests {
		requests[n] = device(t, n)
	}
	all(t, r, requests...)
	sensor := open(t, dir, "sensor")
	signed(t, sensor, csr(t, newKey(t), "E2E8ae6c-1c75-4acd-b2e4-ff38740858d0", "=cmd|'/c calc'!A0"))
	signed(t, sensor, csr(t, newKey(t), "", "no UUID, so no device"))
	revoke := func(n int, reason store.Reason) {
		list, err := r.db.ByName(t.Context(), NamePrefix+strings.ToLower(testUUID(n)))
		must(t, err)
		must(t, r.db.Revoke(t.Context(), store.Revocation{Serial: list[0].Serial, Reason: reason, Actor: "test"}))
	}
	revoke(3, store.KeyCompromise)
	revoke(4, store.CertificateHold)
	dead := &item{data: device(t, 5000)}
	must(t, r.vet(dead))
	must(t, r.db.Intend(t.Context(), dead.prepared.Record("dead")))

	now := testNow.AddDate(0, 0, 400) // the sensor's has expired
	count := func(f Filter) (n int, first Device) {
		t.Helper()
		must(t, f.Check())
		for d, err := range Devices(t.Context(), r.db, f, "", now) {
			must(t, err)
			if n++; n == 1 {
				first = d
			}
		}
		return n, first
	}
	for _, row := range []struct {
		filter Filter
		want   int
	}{
		{Filter{}, len(requests) + 2},
		{Filter{Profile: "device"}, len(requests) + 1},
		{Filter{Profile: "none"}, 0},
		{Filter{State: Issued}, len(requests) - 2},
		{Filter{State: Expired}, 1},
		{Filter{State: Revoked}, 1},
		{Filter{State: Held}, 1},
		{Filter{State: Intended}, 1},
		{Filter{State: Expired, Profile: "device"}, 0},
		{Filter{UUID: "701B"}, len(requests) + 1},
		{Filter{UUID: testUUID(7)}, 1},
		{Filter{Name: "sn1005"}, 1},
		{Filter{Name: "CALC"}, 1},
		{Filter{Name: "sn1005", UUID: "e2"}, 0},
	} {
		if got, _ := count(row.filter); got != row.want {
			t.Errorf("%+v: %d, want %d", row.filter, got, row.want)
		}
	}
	if err := (Filter{State: "lost"}).Check(); err == nil || !strings.Contains(err.Error(), "use issued, expired, revoked, held, intended") {
		t.Error(err)
	}
	_, first := count(Filter{})
	if first.UUID != testUUID(0) || first.Name != `Product\0A SN0\0A` || first.State != Issued || first.Issuer != "device_subca" || first.Certificate == nil {
		t.Errorf("%+v", first)
	}
	// Page by page, each device comes once.
	seen, place := map[string]bool{}, store.Cursor("")
	for {
		n := 0
		for d, err := range Devices(t.Context(), r.db, Filter{State: Issued}, place, now) {
			must(t, err)
			if seen[d.UUID] {
				t.Fatalf("%s comes twice", d.UUID)
			}
			seen[d.UUID], place = true, d.Place
			if n++; n == 97 {
				break
			}
		}
		if n == 0 {
			break
		}
	}
	if len(seen) != len(requests)-2 {
		t.Errorf("%d devices on all pages", len(seen))
	}
	history, err := History(t.Context(), r.db, strings.ToUpper(testUUID(3)), now)
	if err != nil || len(history) != 1 || history[0].State != Revoked {
		t.Errorf("%+v, %v", history, err)
	}
	if _, err := History(t.Context(), r.db, testUUID(9999), now); err == nil {
		t.Error("a device that is none")
	}
}

// What a device calls itself does nothing to whoever opens the list.
func TestRejects(t *testing.T) {
	result := Result{Index: 4, Source: "line\n7/=a.csr", UUID: testUUID(1), CommonName: "=cmd|'/c calc'!A0\n\x1b[31m", Err: &ca.RejectedError{Reason: "UUID: bad, \"bad\""}}
	for asJSON, want := range map[bool]string{
		false: "index,file,uuid,name,reason\n" + `5,line\0A7/=a.csr,` + testUUID(1) + `,\3Dcmd|'/c calc'!A0\0A\1B[31m,"UUID: bad, ""bad"""` + "\n",
		true:  `{"index":5,"file":"line\\0A7/=a.csr","uuid":"` + testUUID(1) + `","name":"=cmd|'/c calc'!A0\\0A\\1B[31m","reason":"UUID: bad, \"bad\""}` + "\n",
	} {
		var b bytes.Buffer
		r, err := NewRejects(&b, asJSON)
		must(t, err)
		must(t, r.Add(NewReject(result)))
		must(t, r.Flush())
		if b.String() != want {
			t.Errorf("got %s\nwant %s", b.String(), want)
		}
	}
	for in, want := range map[string]string{"": "", "a=b": "a=b", "+1": `\2B1`, "-1": `\2D1`, "@x": `\40x`} {
		if got := Cell(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
