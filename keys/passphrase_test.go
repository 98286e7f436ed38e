package keys

import (
	"bytes"
	"crypto"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// TestPassphraseIsNeverPrinted prints it in each way that a program may.
func TestPassphraseIsNeverPrinted(t *testing.T) {
	p := passphrase(t)
	if _, err := p.derive(kdf{salt: "s", keyLength: 32, prf: crypto.SHA256, iterations: 1}); err != nil {
		t.Fatal(err) // so that there are derived keys, too
	}
	type nested struct {
		Exported   *Passphrase
		unexported *Passphrase
		value      Passphrase
	}
	values := []any{p, *p, &p, nested{p, p, *p}, &nested{p, p, *p}, []*Passphrase{p}, []Passphrase{*p},
		map[string]*Passphrase{"p": p}, fmt.Errorf("with %v: %w", p, errors.New("x"))}

	var shown strings.Builder
	for _, v := range values {
		for _, flags := range []string{"", "+", "#", "-", " ", "0", "80", ".3"} {
			for verb := rune('A'); verb <= 'z'; verb++ {
				fmt.Fprintf(&shown, "%"+flags+string(verb)+"\n", v)
			}
		}
		fmt.Fprint(&shown, v)
		if data, err := json.Marshal(v); err == nil {
			shown.Write(data)
		}
		if data, err := xml.Marshal(v); err == nil {
			shown.Write(data)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
			slog.New(handler).Info("m", "v", v)
		}
	}
	octets := fmt.Sprint([]byte(secret))
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret),
		octets[1 : len(octets)-1], strings.ReplaceAll(fmt.Sprintf("%#v", []byte(secret)), "[]byte", "")} {
		if i := strings.Index(shown.String(), form); i >= 0 {
			t.Errorf("shown as %q", shown.String()[max(0, i-40):i+len(form)])
		}
	}
	for _, got := range []string{p.String(), p.GoString(), fmt.Sprint(p), fmt.Sprintf("%x", *p), fmt.Sprintf("%#v", p)} {
		if got != "[passphrase]" {
			t.Errorf("printed as %q", got)
		}
	}
	if data, err := json.Marshal(p); err != nil || string(data) != `"[passphrase]"` {
		t.Errorf("JSON %s, %v", data, err)
	}
}

// TestDerivedOnce opens and writes from many goroutines.
func TestDerivedOnce(t *testing.T) {
	p, err := NewPassphrase([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			data, err := MarshalPEM(ec, p)
			if err == nil {
				_, err = ParsePEM(data, p)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(p.state().derived); n != 1 {
		t.Errorf("%d keys were derived", n)
	}
	k := kdf{salt: "x", keyLength: 32, prf: crypto.SHA256, iterations: 1}
	one, err1 := p.derive(k)
	k.salt = "y"
	two, err2 := p.derive(k)
	if err := errors.Join(err1, err2); err != nil || bytes.Equal(one, two) {
		t.Errorf("another salt derives the same key (%v)", err)
	}
}

func TestNewPassphrase(t *testing.T) {
	for _, tt := range []struct {
		secret []byte
		want   string
	}{
		{nil, "empty"},
		{[]byte{}, "empty"},
		{[]byte("x"), ""},
		{make([]byte, MaxPassphrase), ""},
		{make([]byte, MaxPassphrase+1), "1025 octets"},
	} {
		_, err := NewPassphrase(tt.secret)
		checkError(t, err, tt.want)
	}
	// The caller may wipe or reuse its copy.
	buffer := []byte(secret)
	p, err := NewPassphrase(buffer)
	if err != nil {
		t.Fatal(err)
	}
	clear(buffer)
	if string(p.state().secret) != secret {
		t.Error("the passphrase shares memory with the caller")
	}
	// One that NewPassphrase did not make is no passphrase.
	ec, err := testEC()
	if err != nil {
		t.Fatal(err)
	}
	_, err = MarshalPEM(ec, &Passphrase{})
	checkError(t, err, "not made by NewPassphrase")
	_, err = ParsePEM(mustPEM(t, ec, passphrase(t)), &Passphrase{})
	checkError(t, err, "not made by NewPassphrase")
}
