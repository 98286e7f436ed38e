package uefi

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tmpki/internal/tooltest"
	"tmpki/spki"
)

const testOwner = "11111111-2222-3333-4444-555566667777"

// The platform's own lists hold the certificates that they should.
func TestParsePlatformLists(t *testing.T) {
	for _, c := range []struct {
		list         string
		certificates []string
	}{
		{"PK.esl", []string{"PK.crt"}},
		{"KEK.esl", []string{"KEK.crt"}},
		{"DB.esl", []string{"DB.crt", "ssig_subca.cert"}},
		{"ssig_subca.esl", []string{"ssig_subca.cert"}},
	} {
		db := database(t, c.list)
		entries := db.Entries()
		if len(db) != len(c.certificates) || len(entries) != len(c.certificates) {
			t.Fatalf("%s: %d lists, %d entries", c.list, len(db), len(entries))
		}
		for i, e := range entries {
			if !bytes.Equal(e.Certificate(), certificate(t, c.certificates[i])) || e.Hash() != nil || e.TypeName() != "x509" {
				t.Errorf("%s: entry %d is %s, not %s", c.list, i, e.TypeName(), c.certificates[i])
			}
		}
		if b, err := db.Marshal(); err != nil || !bytes.Equal(b, readFile(t, c.list)) {
			t.Errorf("%s is written otherwise, %v", c.list, err)
		}
	}
}

func TestListIsCertToEFISigList(t *testing.T) {
	for _, name := range []string{"signer.crt", "other.crt", "PK.crt", "ssig_subca.cert"} {
		var db SignatureDatabase
		if added, err := db.AddCertificate(guid(t, testOwner), certificate(t, name)); !added || err != nil {
			t.Fatalf("%s: %v, %v", name, added, err)
		}
		got, err := db.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "esl")
		tooltest.Run(t, "cert-to-efi-sig-list", "-g", testOwner, "testdata/"+name, out)
		sameFile(t, out, got)
	}
}

func TestListIsHashToEFISigList(t *testing.T) {
	want := database(t, "hashes.esl")
	var db SignatureDatabase
	for _, e := range want.Entries() {
		if e.TypeName() != "sha256" || e.Certificate() != nil {
			t.Fatalf("hashes.esl holds %s", e.TypeName())
		}
		if added, err := db.AddHash(e.Owner, [32]byte(e.Hash())); !added || err != nil {
			t.Fatal(added, err)
		}
	}
	if len(db) != 1 || len(db[0].Signatures) != 2 {
		t.Errorf("the hashes stand in %d lists", len(db))
	}
	if b, err := db.Marshal(); err != nil || !bytes.Equal(b, readFile(t, "hashes.esl")) {
		t.Errorf("got %x, %v", b, err)
	}
}

// efitools finds our certificates in a database of all kinds of entries.
func TestSigListToCertsReadsOurs(t *testing.T) {
	db := database(t, "DB.esl")
	for _, e := range append(database(t, "hashes.esl").Entries(), database(t, "signer.esl").Entries()...) {
		if _, err := db.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	b, err := db.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "out")
	tooltest.Run(t, "sig-list-to-certs", writeFile(t, "esl", b), base)
	for i, name := range []string{"DB.crt", "ssig_subca.cert"} {
		sameFile(t, base+"-"+string(rune('0'+i))+".der", certificate(t, name))
	}
}

func TestAddKnowsDuplicates(t *testing.T) {
	db := database(t, "DB.esl")
	before, err := db.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, owner := range []GUID{db[0].Signatures[0].Owner, NewGUID()} {
		if added, err := db.AddCertificate(owner, certificate(t, "DB.crt")); added || err != nil {
			t.Fatalf("added again: %v, %v", added, err)
		}
	}
	sum := [32]byte{1}
	if added, err := db.AddHash(NewGUID(), sum); !added || err != nil {
		t.Fatal(added, err)
	}
	if added, err := db.AddHash(NewGUID(), sum); added || err != nil {
		t.Fatalf("added again: %v, %v", added, err)
	}
	after, err := db.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(after[:len(before)], before) || len(after) != len(before)+28+48 {
		t.Fatal("what was there has changed")
	}
}

// A database that is added to does not change a copy of it.
func TestAddLeavesCopiesAlone(t *testing.T) {
	var db SignatureDatabase
	for i := range byte(5) {
		db.AddHash(GUID{}, [32]byte{i})
	}
	a, b := slices.Clone(db), slices.Clone(db)
	a.AddHash(GUID{}, [32]byte{100})
	b.AddHash(GUID{}, [32]byte{200})
	if got := a.Entries()[5].Data[0]; got != 100 {
		t.Fatalf("the copy holds %d", got)
	}
}

func TestAddRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		entry Entry
		err   string
	}{
		{"EC", Entry{CertX509, Signature{Data: certificate(t, "ec.crt")}}, "firmware can't use a key of type ec:P-256"},
		{"PSS", Entry{CertX509, Signature{Data: certificate(t, "pss.crt")}}, "firmware can't use a key of type rsa-pss:2048"},
		{"Ed25519", Entry{CertX509, Signature{Data: certificate(t, "ed25519.crt")}}, "firmware can't use a key of type ed25519"},
		{"RSA 1024", Entry{CertX509, Signature{Data: certificate(t, "rsa1024.crt")}}, "RSA key of 1024 bits"},
		{"RSA 8192", Entry{CertX509, Signature{Data: certificate(t, "rsa8192.crt")}}, "RSA key of 8192 bits"},
		{"PEM", Entry{CertX509, Signature{Data: readFile(t, "PK.crt")}}, "not a certificate in DER"},
		{"nothing", Entry{Type: CertX509}, "0 octets are not a certificate"},
		{"other DER", Entry{CertX509, Signature{Data: []byte{0x30, 0}}}, "not a certificate"},
		{"SHA-1 hash", Entry{CertSHA256, Signature{Data: make([]byte, 20)}}, "hash of 20 octets"},
		{"certificate's hash without time", Entry{CertX509SHA256, Signature{Data: make([]byte, 32)}}, "of 32 octets"},
		{"unknown type", Entry{GlobalVariable, Signature{Data: make([]byte, 32)}}, "is not supported"},
	} {
		var db SignatureDatabase
		if added, err := db.Add(c.entry); added || err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, %v, want %q", c.name, added, err, c.err)
		}
		if len(db) != 0 {
			t.Errorf("%s: the database has changed", c.name)
		}
	}
}

func TestCheckKeyType(t *testing.T) {
	for s, ok := range map[string]bool{
		"rsa:2048": true, "rsa:3072": true, "rsa:4096": true,
		"rsa-pss:4096": false, "ec:P-256": false, "ec:P-384": false, "ed25519": false,
	} {
		keyType, err := spki.ParseKeyType(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckKeyType(keyType); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	if CheckKeyType(spki.KeyType{}) == nil {
		t.Error("no key at all is taken")
	}
}

func TestParseSignatureListsRefuses(t *testing.T) {
	// put writes a 32-bit field of the list that starts at an octet.
	put := func(list, field int, value uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[list+field:], value)
			return b
		}
	}
	second := len(readFile(t, "DB.esl")) - len(readFile(t, "ssig_subca.esl"))
	for _, c := range []struct {
		name, file string
		spoil      func(b []byte) []byte
		err        string
	}{
		{"trailing octet", "DB.esl", func(b []byte) []byte { return append(b, 0) }, "1 octets are too few"},
		{"trailing zeros", "DB.esl", func(b []byte) []byte { return append(b, make([]byte, 28)...) }, "SignatureListSize is 0"},
		{"one octet missing", "DB.esl", func(b []byte) []byte { return b[:len(b)-1] }, "outside 28"},
		{"header cut", "DB.esl", func(b []byte) []byte { return b[:second+27] }, "27 octets are too few"},
		{"only a header", "DB.esl", func(b []byte) []byte { return b[:28] }, "outside 28 to the 28"},
		{"list size 0", "PK.esl", put(0, 16, 0), "SignatureListSize is 0"},
		{"list size without header", "PK.esl", put(0, 16, 27), "SignatureListSize is 27"},
		{"list size beyond the end", "PK.esl", put(0, 16, 1438), "SignatureListSize is 1438"},
		{"list size 2^32-1", "PK.esl", put(0, 16, 1<<32-1), "SignatureListSize is 4294967295"},
		{"list size one less", "PK.esl", put(0, 16, 1436), "no multiple"},
		{"list size into the next list", "DB.esl", put(0, 16, uint32(second+28)), "no multiple"},
		{"empty list", "PK.esl", func(b []byte) []byte { return put(0, 16, 28)(b[:28]) }, "the list is empty"},
		{"signature header", "PK.esl", put(0, 20, 16), "SignatureHeaderSize is 16"},
		{"signature header 2^32-1", "PK.esl", put(0, 20, 1<<32-1), "SignatureHeaderSize is 4294967295"},
		{"signature size 0", "PK.esl", put(0, 24, 0), "SignatureSize is 0"},
		{"signature size of an owner", "PK.esl", put(0, 24, 16), "SignatureSize is 16"},
		{"signature size one more", "PK.esl", put(0, 24, 1410), "no multiple"},
		{"signature size 2^32-1", "PK.esl", put(0, 24, 1<<32-1), "no multiple"},
		{"signature size of a hash, for a certificate", "hashes.esl", func(b []byte) []byte { copy(b, CertX509[:]); return b }, "not a certificate"},
		{"unknown type", "PK.esl", func(b []byte) []byte { b[0] ^= 1; return b }, "is not supported"},
		{"certificate as a hash", "PK.esl", func(b []byte) []byte { copy(b, CertSHA256[:]); return b }, "a SHA-256 hash of 1393 octets"},
		{"hash as a certificate's hash", "hashes.esl", func(b []byte) []byte { copy(b, CertX509SHA256[:]); return b }, "of 32 octets"},
		{"certificate that is too long inside", "PK.esl", func(b []byte) []byte { b[47]++; return b }, "not a certificate in DER"},
		{"certificate that is too short inside", "PK.esl", func(b []byte) []byte { b[47]--; return b }, "not a certificate in DER"},
		{"certificate with indefinite length", "PK.esl", func(b []byte) []byte { b[45] = 0x80; return b }, "not a certificate in DER"},
		{"list of a missing certificate", "PK.esl", func(b []byte) []byte { return put(0, 24, 16)(put(0, 16, 44)(b[:44])) }, "without room for data"},
		{"second list broken", "DB.esl", put(second, 16, 1), "signature list 2"},
		{"too large", "PK.esl", func([]byte) []byte { return make([]byte, MaxDatabaseSize+1) }, "are more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := ParseSignatureLists(c.spoil(readFile(t, c.file)))
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, %v, want %q", db, err, c.err)
			}
		})
	}
}

func TestMarshalRefuses(t *testing.T) {
	hash := Signature{Data: make([]byte, 32)}
	for name, db := range map[string]SignatureDatabase{
		"empty list":   {{Type: CertSHA256}},
		"two sizes":    {{CertX509, []Signature{{Data: []byte{0x30, 0}}, {Data: []byte{0x30, 2, 5, 0}}}}},
		"unknown type": {{GlobalVariable, []Signature{hash}}},
		"wrong size":   {{CertX509SHA256, []Signature{hash}}},
		"too large":    {{CertSHA256, slices.Repeat([]Signature{hash}, MaxDatabaseSize/48)}},
	} {
		if b, err := db.Marshal(); err == nil {
			t.Errorf("%s: written in %d octets", name, len(b))
		}
	}
}

func TestEmptyDatabase(t *testing.T) {
	db, err := ParseSignatureLists(nil)
	if err != nil || len(db) != 0 {
		t.Fatal(db, err)
	}
	if b, err := db.Marshal(); err != nil || len(b) != 0 {
		t.Fatal(b, err)
	}
}

func FuzzParseSignatureLists(f *testing.F) {
	seeds(f, "*.esl")
	f.Fuzz(func(t *testing.T, b []byte) {
		db, err := ParseSignatureLists(b)
		if err != nil {
			return
		}
		again, err := db.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is written back as %x", b, again)
		}
		for _, e := range db.Entries() {
			if (e.Certificate() == nil) == (e.Hash() == nil) {
				t.Fatalf("an entry of type %s is neither certificate nor hash, or both", e.TypeName())
			}
			checkEntry(e)
		}
	})
}
