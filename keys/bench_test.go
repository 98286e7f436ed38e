//go:build cgo

package keys_test

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"tmpki/internal/tooltest"
	"tmpki/keys"
	"tmpki/keys/keytest"
	"tmpki/plan"
	"tmpki/signing"
	"tmpki/spki"
)

// BenchmarkToken signs 200 kernel modules of 100 KiB, read, hashed, verified,
// recorded and put in place, with an RSA-4096 key in a token of SoftHSM; and makes
// as many signatures with C_Sign alone, in as many sessions, from the same library.
// ratio is the rate of the first in terms of the second: the limit is 0.9 where the
// token is what takes the time, as with one session here and with an HSM. With
// more, SoftHSM signs on the same cores on which we do the rest.
func BenchmarkToken(b *testing.B) {
	for _, sessions := range []int{1, max(8, 2*runtime.GOMAXPROCS(0))} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) { benchmarkToken(b, sessions) })
	}
}

func benchmarkToken(b *testing.B, sessions int) {
	h := keytest.SoftHSM(b, "bench")
	dir := filepath.Join(b.TempDir(), "pki")
	text, err := plan.Template(plan.Development, spki.KeyType{Kind: spki.RSA, Bits: 2048}, "pkcs11:token=bench")
	if err != nil {
		b.Fatal(err)
	}
	plain := string(text)
	at := strings.Index(plain, "\n  ssig:")
	plain = plain[:at] + strings.Replace(plain[at:], "key: rsa:2048", "key: rsa:4096", 1)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, plan.FileName), []byte(plain), 0o600); err != nil {
		b.Fatal(err)
	}
	if _, err := plan.Apply(b.Context(), dir, plan.Options{Actor: "bench", Now: time.Now}); err != nil {
		b.Fatal(err)
	}
	s, err := signing.Open(b.Context(), dir, "bench", time.Now)
	if err != nil {
		b.Fatal(err)
	}
	const count = 1000
	object := filepath.Join(b.TempDir(), "m.c")
	if err := os.WriteFile(object, []byte(`__attribute__((section(".modinfo"))) char license[] = "license=GPL"; char body[100 << 10] = {1};`), 0o600); err != nil {
		b.Fatal(err)
	}
	tooltest.Run(b, "gcc", "-c", "-o", object+".ko", object)
	module, err := os.ReadFile(object + ".ko")
	if err != nil {
		b.Fatal(err)
	}
	tree := b.TempDir()
	for i := range count {
		if err := os.WriteFile(filepath.Join(tree, fmt.Sprint(i, ".ko")), module, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	signer, err := s.Signer("module", "", "")
	if err != nil {
		b.Fatal(err)
	}
	keys.LimitSessions(keys.InToken(signer.Key), sessions)
	raw := newRawToken(b, h, "bench", "ssig", sessions)
	var ours, bare time.Duration
	for b.Loop() {
		start := time.Now()
		if _, results, err := s.SignModules(b.Context(), []string{tree}, signing.TreeOptions{}); err != nil || len(results) != count {
			b.Fatal(len(results), err)
		}
		ours += time.Since(start)
		start = time.Now()
		raw.sign(b, count)
		bare += time.Since(start)
	}
	n := float64(b.N * count)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/ours.Seconds(), "modules/s")
	b.ReportMetric(n/bare.Seconds(), "C_Sign/s")
	b.ReportMetric(float64(bare)/float64(ours), "ratio")
}

// rawToken is a token and nothing around it.
type rawToken struct {
	ctx      *pkcs11.Ctx
	sessions []pkcs11.SessionHandle
	key      pkcs11.ObjectHandle
}

// newRawToken opens some sessions. The process is logged in already.
func newRawToken(b *testing.B, h *keytest.HSM, token, label string, sessions int) *rawToken {
	b.Helper()
	r := &rawToken{ctx: pkcs11.New(h.Module)}
	slots, err := r.ctx.GetSlotList(true)
	if err != nil {
		b.Fatal(err)
	}
	for _, slot := range slots {
		if info, err := r.ctx.GetTokenInfo(slot); err != nil || info.Label != token {
			continue
		}
		for range sessions {
			session, err := r.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
			if err != nil {
				b.Fatal(err)
			}
			r.sessions = append(r.sessions, session)
		}
	}
	if len(r.sessions) == 0 {
		b.Fatal("no such token")
	}
	err = r.ctx.FindObjectsInit(r.sessions[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)})
	if err != nil {
		b.Fatal(err)
	}
	found, _, err := r.ctx.FindObjects(r.sessions[0], 2)
	if err != nil || len(found) != 1 {
		b.Fatal(found, err)
	}
	r.key = found[0]
	if err := r.ctx.FindObjectsFinal(r.sessions[0]); err != nil {
		b.Fatal(err)
	}
	return r
}

func (r *rawToken) sign(b *testing.B, count int) {
	b.Helper()
	todo := make(chan int, count)
	for i := range count {
		todo <- i
	}
	close(todo)
	digest := make([]byte, crypto.SHA256.Size())
	if _, err := rand.Read(digest); err != nil {
		b.Fatal(err)
	}
	info := append([]byte{0x30, 49, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32}, digest...)
	var all sync.WaitGroup
	for _, session := range r.sessions {
		all.Go(func() {
			for range todo {
				err := r.ctx.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)}, r.key)
				if err == nil {
					_, err = r.ctx.Sign(session, info)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
