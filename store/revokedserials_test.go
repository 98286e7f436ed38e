package store

import (
	"bytes"
	"testing"
)

// RevokedSerials tells the same as Revocations, over several pages and whatever was
// lifted; and of those without a known key.
func TestRevokedSerials(t *testing.T) {
	ctx := t.Context()
	db := newDB(t)
	const n = revocationPage + 10
	var intents []Record
	var list []Revocation
	for i := range uint64(n) {
		r := record(i)
		r.IssuerKeyID = [][]byte{{1, 1}, {2, 2}, nil}[i%3]
		if i%3 != 0 && i > 30 {
			r.IssuerKeyID = []byte{1, 1} // one key has more than a page
		}
		intents = append(intents, r)
		list = append(list, Revocation{Serial: r.Serial, Issuer: r.Issuer, Reason: Superseded, Actor: "test", Invalidity: r.NotBefore})
	}
	must(t, db.Intend(ctx, intents...))
	must(t, db.Revoke(ctx, list...))
	issue(t, db, n, n+1)
	must(t, db.Revoke(ctx, Revocation{Serial: serial(n), Reason: CertificateHold, Actor: "test"}, Revocation{Serial: serial(n + 1), Reason: CertificateHold, Actor: "test"}))
	must(t, db.Revoke(ctx, Revocation{Serial: serial(n), Reason: RemoveFromCRL, Actor: "test"}))
	for _, key := range [][]byte{nil, {1, 1}, {2, 2}, {3, 3}} {
		for _, after := range []int64{-1, 100, n - 3, n + 10} {
			var want []Revocation
			for r, err := range db.Revocations(ctx, "device_subca", nil, after) {
				must(t, err)
				if key == nil || r.IssuerKeyID == nil || bytes.Equal(r.IssuerKeyID, key) {
					want = append(want, r)
				}
			}
			k := 0
			for r, err := range db.RevokedSerials(ctx, "device_subca", key, after) {
				must(t, err)
				if k >= len(want) {
					t.Fatalf("key %x after %d: more than %d", key, after, len(want))
				}
				w := want[k]
				k++
				invalidity := int64(0)
				if !w.Invalidity.IsZero() {
					invalidity = w.Invalidity.Unix()
				}
				if !bytes.Equal(r.Serial(), w.Serial) || r.Entry != w.Entry || r.Reason != w.Reason || r.Time != w.Time.Unix() || r.NotAfter != w.NotAfter.Unix() || r.Invalidity != invalidity {
					t.Fatalf("key %x after %d: %+v, want %+v", key, after, r, w)
				}
			}
			if k != len(want) {
				t.Errorf("key %x after %d: %d, want %d", key, after, k, len(want))
			}
		}
	}
}
