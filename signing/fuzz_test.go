package signing

import (
	"bytes"
	"testing"

	"tmpki/ca"
)

// FuzzVerifyConfig looks for a config that passes and that nobody has signed: if
// one is accepted, its octets are those of one that was.
func FuzzVerifyConfig(f *testing.F) {
	s := newSession(f)
	v := Verifier{Trust: []*ca.Certificate{s.cert(f, "ssig_rootca")}, Time: now}
	var signed [][]byte
	for _, name := range []string{"ssig_cml", "config_rsa"} {
		chain, err := s.PKI.Chain(s.PKI.Plan.Entry(name))
		if err != nil {
			f.Fatal(err)
		}
		content := []byte(text)
		algorithm := pss
		if name == "config_rsa" {
			content, algorithm = []byte(containerText), pkcs1
		}
		sig, err := algorithm.Sign(s.key(f, name), content)
		if err != nil {
			f.Fatal(err)
		}
		signed = append(signed, content)
		cert := ca.MarshalPEM(chain[:2]...)
		f.Add(content, sig, cert)
		f.Add(content, sig, ca.MarshalPEM(chain...))
		f.Add(content, sig, append([]byte("text\n"), cert...))
		f.Add(content[1:], sig, cert)
		f.Add(content, sig[1:], cert)
		f.Add(content, sig, cert[:len(cert)-40])
		p7s, err := signCMS(content, &Signer{Key: s.key(f, name), Chain: chain}, now)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, p7s, cert)
		// Without good seeds the fuzzer would find nothing, and be content.
		if _, _, err := verifyConfig(content, sig, cert, v.chain); err != nil {
			f.Fatal(err)
		}
		if _, _, err := verifyCMS(content, p7s, v.chain); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, content, sig, cert []byte) {
		ours := false
		for _, c := range signed {
			ours = ours || bytes.Equal(c, content)
		}
		for i := range 2 {
			var leaf *ca.Certificate
			var chain []*ca.Certificate
			var err error
			if i == 0 {
				leaf, chain, err = verifyConfig(content, sig, cert, v.chain)
			} else {
				leaf, chain, err = verifyCMS(content, sig, v.chain)
			}
			if err != nil {
				continue
			}
			if !ours || leaf == nil || len(chain) != 3 || !chain[0].Equal(leaf) || !chain[2].Equal(v.Trust[0]) {
				t.Errorf("accepted %q from %v", content, leaf)
			}
		}
	})
}
