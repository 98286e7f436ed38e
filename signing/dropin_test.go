package signing

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/plan"
)

func passphrase(text string) func() (*keys.Passphrase, error) {
	return func() (*keys.Passphrase, error) { return keys.NewPassphrase([]byte(text)) }
}

func TestDropIn(t *testing.T) {
	s := newSession(t)
	pki := s.PKI.Dir
	other := t.TempDir() // keys and certificates of no PKI that we know
	chain := func(name string) []*ca.Certificate {
		c, err := s.PKI.Chain(s.PKI.Plan.Entry(name))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	cml, guest, rsa := chain("ssig_cml"), chain("guestos_debos"), chain("config_rsa")
	cmlKey := keyFile(t, other, "cml.key", s.key(t, "ssig_cml"), "")
	locked := keyFile(t, other, "locked.key", s.key(t, "config_rsa"), "secret")
	leaf, sub, root := pemFile(t, other, "leaf", cml[0]), pemFile(t, other, "sub", cml[1]), pemFile(t, other, "root", cml[2])
	rsaChain := pemFile(t, other, "rsa", rsa...)
	ec := newKey(t, "ec:P-256", 0)
	ecCert := pemFile(t, other, "ec", issue(t, ec, nil, nil, opts{name: "EC"}))
	link := filepath.Join(other, "link.key")
	if err := os.Symlink(filepath.Join(pki, "ssig_cml.key"), link); err != nil {
		t.Fatal(err)
	}

	for _, row := range []struct {
		name    string
		d       DropIn
		content string
		now     time.Time
		certs   []*ca.Certificate // what NAME.cert then holds
		records int
		want    string
	}{
		{"key of the PKI", DropIn{Key: pki + "/ssig_cml.key", Certs: []string{pki + "/ssig_cml.cert"}}, text, now, cml[:2], 1, ""},
		{"container config", DropIn{Key: pki + "/ssig_cml.key", Certs: []string{pki + "/ssig_cml.cert"}}, containerText, now, cml[:2], 1, ""},
		{"file: URI", DropIn{Key: "file:" + pki + "/ssig_cml.key", Certs: []string{pki + "/ssig_cml.cert"}}, text, now, cml[:2], 1, ""},
		{"link to a key of the PKI", DropIn{Key: link, Certs: []string{pki + "/ssig_cml.cert"}}, text, now, cml[:2], 1, ""},
		{"encrypted key of the PKI", DropIn{Key: pki + "/guestos_debos.key", Certs: []string{pki + "/guestos_debos.cert"}, Passphrase: passphrase(testPassphrase)}, text, now, guest[:2], 1, ""},
		{"as CMS", DropIn{Key: pki + "/ssig_cml.key", Certs: []string{pki + "/ssig_cml.cert"}, CMS: true}, text, now, nil, 1, ""},
		{"foreign key", DropIn{Key: cmlKey, Certs: []string{leaf, sub}}, text, now, cml[:2], 0, ""},
		{"foreign key, leaf alone", DropIn{Key: cmlKey, Certs: []string{leaf}}, text, now, cml[:1], 0, ""},
		{"root included", DropIn{Key: cmlKey, Certs: []string{leaf, sub, root}}, text, now, cml[:2], 0, ""},
		{"issuers in another order", DropIn{Key: cmlKey, Certs: []string{leaf, root, sub}}, text, now, cml[:2], 0, ""},
		{"overlapping files", DropIn{Key: cmlKey, Certs: []string{pki + "/ssig_cml.cert", sub, root, leaf, sub}}, text, now, cml[:2], 0, ""},
		{"overlapping files, as CMS", DropIn{Key: cmlKey, Certs: []string{pki + "/ssig_cml.cert", root, sub}, CMS: true}, text, now, nil, 0, ""},
		{"passphrase", DropIn{Key: locked, Certs: []string{rsaChain}, Passphrase: passphrase("secret")}, text, now, rsa[:2], 0, ""},

		{"wrong passphrase", DropIn{Key: locked, Certs: []string{rsaChain}, Passphrase: passphrase("guess")}, text, now, nil, 0, keys.ErrPassphraseWrong.Error()},
		{"no passphrase", DropIn{Key: locked, Certs: []string{rsaChain}}, text, now, nil, 0, keys.ErrPassphraseNeeded.Error()},
		{"key of another", DropIn{Key: cmlKey, Certs: []string{rsaChain}}, text, now, nil, 0, "cml.key is not the key of C=DE, O=OSS Release, OU=Development, CN=Configs with rsaEncryption, the first certificate"},
		{"key of another entry", DropIn{Key: pki + "/ssig_subca_cml.key", Certs: []string{leaf, sub}}, text, now, nil, 0, "is not the key of"},
		{"leaf not first", DropIn{Key: cmlKey, Certs: []string{sub, leaf}}, text, now, nil, 0, "is not the key of C=DE, O=OSS Release, OU=Development, CN=GyroidOS CML Signing Sub CA, the first certificate"},
		{"certificate of another chain", DropIn{Key: cmlKey, Certs: []string{leaf, sub, pki + "/backend.cert"}}, text, now, nil, 0, "CN=GyroidOS Backend Certificate is not in the chain of"},
		{"gap in the chain", DropIn{Key: cmlKey, Certs: []string{leaf, root}}, text, now, nil, 0, "CN=GyroidOS Software Signing Root CA is not in the chain of"},
		{"expired", DropIn{Key: cmlKey, Certs: []string{leaf, sub}}, text, cml[0].NotAfter, nil, 0, "not in date"},
		{"not valid yet", DropIn{Key: cmlKey, Certs: []string{leaf, sub}}, text, now.AddDate(0, 0, -1), nil, 0, "not in date"},
		{"EC key", DropIn{Key: keyFile(t, other, "ec.key", ec, ""), Certs: []string{ecCert}}, text, now, nil, 0, "can't verify configs with a key of type ec:P-256"},
		{"signer of something else", DropIn{Key: pki + "/ssig.key", Certs: []string{pki + "/ssig.cert"}}, text, now, nil, 0, "ssig signs efi, module, ima, not guestos"},
		{"device", DropIn{Key: pki + "/device_1.key", Certs: []string{pemFile(t, other, "device", chain("device_1")...)}, Passphrase: passphrase(testPassphrase)}, text, now, nil, 0, "device_1 signs no artifacts"},
		{"foreign certificate of a key in the PKI", DropIn{Key: pki + "/ssig.key", Certs: []string{
			pemFile(t, other, "mine", issue(t, s.key(t, "ssig"), nil, nil, opts{name: "Mine"}))}}, text, now, nil, 0, "CN=Mine is no certificate of that PKI"},
		{"PKCS#11", DropIn{Key: "pkcs11:token=root;object=cml?module-path=/none.so", Certs: []string{leaf, sub}}, text, now, nil, 0, `opening key "pkcs11:token=root;object=cml?module-path=/none.so"`},
		{"unknown kind of URI", DropIn{Key: "tpm:1", Certs: []string{leaf, sub}}, text, now, nil, 0, "no such file"},
		{"no key", DropIn{Key: other + "/none.key", Certs: []string{leaf, sub}}, text, now, nil, 0, "none.key: no such file"},
		{"certificate for a key", DropIn{Key: leaf, Certs: []string{leaf, sub}}, text, now, nil, 0, keys.ErrCertificate.Error()},
		{"no certificate", DropIn{Key: cmlKey, Certs: []string{other + "/none.cert"}}, text, now, nil, 0, "none.cert: no such file"},
		{"key for a certificate", DropIn{Key: cmlKey, Certs: []string{cmlKey}}, text, now, nil, 0, "a PRIVATE KEY stands where a certificate should"},
		{"neither kind of config", DropIn{Key: cmlKey, Certs: []string{leaf, sub}}, "name: \"x\"\n", now, nil, 0, "neither a container config nor a GuestOS config"},
		{"empty config", DropIn{Key: cmlKey, Certs: []string{leaf, sub}}, "", now, nil, 0, "neither a container config nor a GuestOS config"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			row.d.Conf = write(t, dir, "debos-1.conf", []byte(row.content))
			before, held := len(signatures(t, pki)), files(t, dir)
			err := SignDropIn(t.Context(), row.d, "builder", row.now)
			if n := len(signatures(t, pki)) - before; n != row.records {
				t.Errorf("%d entries in the ledger, not %d", n, row.records)
			}
			if row.want != "" {
				refused(t, err, row.want)
				if len(files(t, dir)) != len(held) {
					t.Error("files are left behind")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !row.d.CMS && !bytes.Equal(read(t, base(row.d.Conf)+".cert"), ca.MarshalPEM(row.certs...)) {
				t.Errorf("NAME.cert:\n%s", read(t, base(row.d.Conf)+".cert"))
			}
			kind, err := configKind([]byte(row.content))
			if err != nil {
				t.Fatal(err)
			}
			v := Verifier{Trust: []*ca.Certificate{cml[2], guest[2]}, Time: now}
			if err := v.VerifyConfig(t.Context(), kind, row.d.Conf, row.d.CMS).Err; err != nil && len(row.certs) != 1 {
				t.Error(err)
			}
		})
	}
	d := DropIn{Conf: write(t, other, "debos", []byte(text)), Key: cmlKey, Certs: []string{leaf, sub}}
	refused(t, SignDropIn(t.Context(), d, "builder", now), "a config is named NAME.conf")
}

// TestDropInBelow signs with a key that the plan has in a directory of its own.
func TestDropInBelow(t *testing.T) {
	s := newSession(t)
	pki := s.PKI.Dir
	keyDir := filepath.Join(pki, "keys")
	if err := errors.Join(os.Mkdir(keyDir, 0o700), os.Rename(filepath.Join(pki, "ssig_cml.key"), filepath.Join(keyDir, "ssig_cml.key"))); err != nil {
		t.Fatal(err)
	}
	d := DropIn{Conf: write(t, t.TempDir(), "debos-1.conf", []byte(text)), Key: filepath.Join(keyDir, "ssig_cml.key"), Certs: []string{filepath.Join(pki, "ssig_cml.cert")}}
	if err := SignDropIn(t.Context(), d, "builder", now); err != nil {
		t.Fatal(err)
	}
	if list := signatures(t, pki); len(list) != 1 || list[0].Actor != "builder" || list[0].Detail["signer"] != "ssig_cml" {
		t.Errorf("recorded: %v", list)
	}
}

// TestDropInRecordsFirst has a ledger that takes nothing.
func TestDropInRecordsFirst(t *testing.T) {
	s := newSession(t)
	dir := t.TempDir()
	d := DropIn{Conf: write(t, dir, "debos-1.conf", []byte(text)), Key: filepath.Join(s.PKI.Dir, "ssig_cml.key"), Certs: []string{filepath.Join(s.PKI.Dir, "ssig_cml.cert")}}
	spoil(t, s)
	unchanged(t, dir, func() { refused(t, SignDropIn(t.Context(), d, "builder", now), plan.StoreName) })
}

// TestSameOctets holds both roads to one signer against each other: with PKCS#1
// v1.5, which draws nothing at random, the files are the same.
func TestSameOctets(t *testing.T) {
	s := newSession(t)
	var made []map[string]string
	for i := range 2 {
		dir := t.TempDir()
		conf := write(t, dir, "debos-1.conf", []byte(text))
		var err error
		if i == 0 {
			_, err = s.SignConfig(t.Context(), conf, ConfigOptions{Artifact: "guestos", As: "config_rsa"})
		} else {
			chain, chainErr := s.PKI.Chain(s.PKI.Plan.Entry("config_rsa"))
			if chainErr != nil {
				t.Fatal(chainErr)
			}
			err = SignDropIn(t.Context(), DropIn{Conf: conf, Key: filepath.Join(s.PKI.Dir, "config_rsa.key"), Certs: []string{pemFile(t, t.TempDir(), "chain", chain...)}}, "builder", now)
		}
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, files(t, dir))
	}
	if fmt.Sprint(made[0]) != fmt.Sprint(made[1]) {
		t.Error("the files differ")
	}
}
