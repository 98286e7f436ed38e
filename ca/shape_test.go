package ca

import (
	"crypto"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tmpki/spki"
)

// Certificates of one shape are linted once. Whatever the names of devices hold,
// the linter says the same of each of them.
func TestShapes(t *testing.T) {
	sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	policy := must(NewRequestPolicy(strictDevice))
	profile := deviceProfile()
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("abz AZ09.-_/()+,:?=*@\"\\#;<>\n\r\t\x1bäß€\u202e😀")
	text := func(alphabet []rune, n int) string {
		var b strings.Builder
		for range n {
			b.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		return b.String()
	}
	certificates := 0
	for range 400 {
		r := request{subject: dn("O=x", set(ava("2.5.4.5", 19, text([]rune("ABC 019-/"), 1+random.IntN(20)))), set(ava("2.5.4.3", 12, text(alphabet, 1+random.IntN(64)))))}
		v, err := policy.Vet(profile, deviceBase, must(ParseUnprovenRequest(r.build())))
		if err != nil {
			continue // a serial number that begins or ends with a space
		}
		p, err := sub.Prepare(profile, v.Request("device", testFrom))
		if err != nil {
			t.Errorf("%q: %v", v.Fields.CommonName, err)
			continue
		}
		if err := testLinter().Check(must(sub.Sign(p)).Raw); err != nil {
			t.Errorf("%q was not held against the lints: %v", v.Fields.CommonName, err)
		}
		certificates++
	}
	if n := len(sub.shapes.known); certificates < 300 || n > 100 {
		t.Errorf("%d shapes for %d certificates", n, certificates)
	}
}

// What a lint tells apart is another shape.
func TestShapesDiffer(t *testing.T) {
	rsaKey := testKey("rsa/shape").Public()
	base := Request{Subject: must(newName(SubjectConfig{Country: "DE", CommonName: "Device 7"}, nil)), PublicKey: rsaKey, NotBefore: testFrom, SubjectAltNames: []string{"uri:UUID:" + testUUID}}
	describe := func(r Request) string {
		return describeShape(must(spki.KeyTypeOf(r.PublicKey)), r, must(r.Subject.attributes()), r.NotBefore)
	}
	same := base
	same.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "Device 12345"}, nil))
	same.SubjectAltNames = []string{"uri:UUID:" + strings.ToUpper(testUUID)}
	if describe(same) != describe(base) {
		t.Errorf("%s\n%s", describe(same), describe(base))
	}
	seen := map[string]string{describe(base): "base"}
	for name, change := range map[string]func(r *Request){
		"another key type": func(r *Request) { r.PublicKey = testKey("p256/shape").Public() },
		"a PSS key":        func(r *Request) { r.PublicKey = testKey("pss/shape").Public() },
		"another country":  func(r *Request) { r.Subject = testName("Device 7") },
		"a letter that is not ASCII": func(r *Request) {
			r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "Dävice 7"}, nil))
		},
		"a newline": func(r *Request) {
			r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "Device\n7"}, []string{"common_name"}))
		},
		"a newline at the end": func(r *Request) {
			r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "Device 7\n"}, []string{"common_name"}))
		},
		"64 letters of two octets": func(r *Request) {
			r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: strings.Repeat("ä", 64)}, nil))
		},
		"an A-label":       func(r *Request) { r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "xn--a"}, nil)) },
		"a short name":     func(r *Request) { r.Subject = must(newName(SubjectConfig{Country: "DE", CommonName: "abc"}, nil)) },
		"no names":         func(r *Request) { r.SubjectAltNames = nil },
		"a DNS name":       func(r *Request) { r.SubjectAltNames = []string{"dns:a.example"} },
		"another DNS name": func(r *Request) { r.SubjectAltNames = []string{"dns:b.example"} },
		"a bad UUID":       func(r *Request) { r.SubjectAltNames = []string{"uri:UUID:" + testUUID + "0"} },
		"2050":             func(r *Request) { r.NotBefore = testFrom.AddDate(30, 0, 0) },
	} {
		r := base
		change(&r)
		d := describe(r)
		if seen[d] != "" {
			t.Errorf("%s has the shape of %s: %s", name, seen[d], d)
		}
		seen[d] = name
	}
}

// A bad shape is linted, and refused, each time.
func TestShapesRefuse(t *testing.T) {
	sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	// A clientAuth certificate must not say keyEncipherment, finds the linter.
	profile := must(NewProfile("bad", ProfileConfig{Validity: ptr("365d"), KeyUsage: []string{"digitalSignature", "keyEncipherment"}, ExtendedKeyUsage: []string{"clientAuth"}}))
	for i := range 3 {
		_, err := sub.Prepare(profile, Request{Name: "device", Subject: testName(fmt.Sprint("Device ", i)), PublicKey: testKey("rsa/shape").Public(), NotBefore: testFrom})
		if err == nil || !strings.Contains(err.Error(), "e_key_usage_and_extended_key_usage_inconsistent") {
			t.Error(err)
		}
	}
	var many shapes
	for i := range 2 * maxShapes {
		many.add(shape{profile, fmt.Sprint(i)})
	}
	if len(many.known) != maxShapes {
		t.Errorf("%d shapes", len(many.known))
	}
}

// An intent is taken up by whoever asks for the same certificate.
func TestResume(t *testing.T) {
	sub := authority(t, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	r := Request{Name: "device", Subject: testName("Device 7"), PublicKey: testKey("p256/device7").Public(), SubjectAltNames: []string{"uri:UUID:" + testUUID}, NotBefore: testFrom}
	p := must(sub.Prepare(leafProfile(), r))
	intent := p.Record("line 1")
	later := r
	later.NotBefore = testFrom.AddDate(0, 0, 3)
	again, err := sub.Resume(leafProfile(), later, intent)
	if err != nil || again.Record("line 1").TBSHash != intent.TBSHash {
		t.Fatal(err)
	}
	cert := must(sub.Sign(again))
	if string(cert.SerialNumber.Bytes()) != string(intent.Serial) || !cert.NotBefore.Equal(testFrom) {
		t.Errorf("serial %x, from %v", cert.SerialNumber, cert.NotBefore)
	}
	for name, change := range map[string]func(r *Request){
		"subject": func(r *Request) { r.Subject = testName("Device 8") },
		"key":     func(r *Request) { r.PublicKey = crypto.PublicKey(testKey("p256/device8").Public()) },
		"names":   func(r *Request) { r.SubjectAltNames = nil },
	} {
		other := r
		change(&other)
		if _, err := sub.Resume(leafProfile(), other, intent); !errors.Is(err, ErrOther) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := sub.Resume(deviceProfile(), r, intent); !errors.Is(err, ErrOther) {
		t.Errorf("another profile: %v", err)
	}
}

// BenchmarkIssue is the road of one device without the store; its parts show
// where the time goes.
func BenchmarkIssue(b *testing.B) {
	sub := authority(b, nil, rootProfile(), "Device Sub CA", testKey("p256/device"))
	profile, policy := deviceProfile(), must(NewRequestPolicy(strictDevice))
	for _, kind := range []string{"p256/bench", "rsa/bench"} {
		data := request{key: testKey(kind)}.build()
		parsed := must(ParseUnprovenRequest(data))
		v := must(policy.Vet(profile, deviceBase, parsed))
		r := v.Request("device", testFrom)
		name := strings.TrimSuffix(kind, "/bench")
		b.Run(name+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(ParseUnprovenRequest(data))
			}
		})
		b.Run(name+"/proof", func(b *testing.B) {
			for b.Loop() {
				if err := parsed.CheckProof(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/vet", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(policy.Vet(profile, deviceBase, parsed))
			}
		})
		b.Run(name+"/prepare", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				must(sub.Prepare(profile, r))
			}
		})
		b.Run(name+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				p := must(sub.Prepare(profile, r))
				b.StartTimer()
				must(sub.Sign(p))
			}
		})
		b.Run(name+"/bare sign and verify", func(b *testing.B) {
			tbs := must(sub.Prepare(profile, r)).draft.RawTBSCertificate
			for b.Loop() {
				must(sub.algorithm.Sign(sub.signer, tbs))
			}
		})
	}
}
