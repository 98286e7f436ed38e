package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"

	"tmpki/ca"
	"tmpki/keys"
	"tmpki/spki"
	"tmpki/uefi"
)

// recognize finds out what data is, and describes it. source is its name, of
// which the ending counts only for what is wrong with it.
func recognize(source string, data []byte) (*shown, error) {
	fail := func(err error) (*shown, error) { return nil, fmt.Errorf("%q: %w", source, err) }
	s := &shown{Source: ca.Printable(source)}
	switch {
	case len(data) > maxShown:
		crl, err := describeCRL(data) // nothing else may be so large
		if len(data) > ca.MaxCRL || err != nil {
			return fail(fmt.Errorf("larger than %d octets: too large to show, and no CRL", maxShown))
		}
		s.Items = []item{crl}
		return s, nil
	case len(data) == 0:
		return fail(errors.New("an empty file"))
	}
	var err error
	isPEM := bytes.Contains(data, []byte("-----BEGIN "))
	if isPEM {
		s.Items, err = recognizePEM(data)
	} else {
		var i item
		i, err = recognizeBinary(filepath.Ext(source), data)
		s.Items = []item{i}
	}
	if err != nil {
		return fail(err)
	}
	certs := certificatesOf(s.Items)
	if len(certs) > 1 {
		s.Chain = newChainFacts(certs)
	}
	if isPEM && len(certs) == len(s.Items) {
		sum := sha1.Sum(data)
		s.FileSHA1 = hex.EncodeToString(sum[:])
	}
	return s, nil
}

func certificatesOf(items []item) []*ca.Certificate {
	var certs []*ca.Certificate
	for _, i := range items {
		if c, ok := i.(*certificateFacts); ok {
			certs = append(certs, c.certificate)
		}
	}
	return certs
}

// recognizePEM reads a file of PEM blocks, such as a chain, or a key with its
// certificate.
func recognizePEM(data []byte) ([]item, error) {
	begins := bytes.Count(data, []byte("-----BEGIN "))
	if begins > ca.MaxChain {
		return nil, fmt.Errorf("%d PEM blocks, more than %d", begins, ca.MaxChain)
	}
	var items []item
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		begins--
		i, err := recognizeBlock(block)
		if err != nil {
			return nil, err
		}
		if i != nil {
			items = append(items, i)
		}
	}
	// pem.Decode passes over a block that it can't read.
	if begins != 0 || len(items) == 0 {
		return nil, errors.New("a PEM block is malformed or cut off")
	}
	return items, nil
}

// recognizeBlock describes one PEM block, or returns nil for one without content
// of its own.
func recognizeBlock(block *pem.Block) (item, error) {
	switch block.Type {
	case "CERTIFICATE":
		c, err := ca.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return newCertificateFacts(c), nil
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		return describeRequest(block.Bytes)
	case "X509 CRL":
		return describeCRL(block.Bytes)
	case "PUBLIC KEY":
		return describePublicKey(block.Bytes)
	case "EC PARAMETERS": // openssl ecparam -genkey puts it before the key
		return nil, nil
	case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return describePrivateKey(pem.EncodeToMemory(block))
	default:
		return nil, fmt.Errorf("a PEM block %q is none that can be shown", clip(block.Type, 40))
	}
}

// recognizeBinary describes what is not PEM: DER, or one of the two formats of
// UEFI.
func recognizeBinary(ending string, data []byte) (item, error) {
	// 1. By the ending, since then the error says what is wrong.
	switch ending {
	case ".p12", ".pfx":
		d, err := keys.DescribePKCS12(data)
		return newPKCS12Facts(d), err
	case ".auth":
		return describeAuth(data)
	case ".esl":
		return describeSignatureLists(data)
	}
	// 2. DER. crypto/x509 tells the structures apart; package ca may still have
	// a reason why it can't show one.
	hint := ""
	if data[0] == 0x30 {
		_, err := x509.ParseCertificate(data)
		hint = fmt.Sprintf(" (read as a certificate: %v)", err)
		if err == nil {
			c, err := ca.ParseCertificate(data)
			if err != nil {
				return nil, err
			}
			return newCertificateFacts(c), nil
		}
		if _, err := x509.ParseCertificateRequest(data); err == nil {
			return describeRequest(data)
		}
		if _, err := x509.ParseRevocationList(data); err == nil {
			return describeCRL(data)
		}
		if r, err := ca.ParseOCSPRequest(data); err == nil {
			return describeOCSPRequest(r), nil
		}
		if r, err := ca.ParseOCSPResponse(data); err == nil {
			return describeOCSPResponse(r), nil
		}
		if _, err := spki.ParsePublicKey(data); err == nil {
			return describePublicKey(data)
		}
		if d, err := keys.DescribePKCS12(data); err == nil {
			return newPKCS12Facts(d), nil
		}
		for _, label := range []string{"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"} {
			block := pem.EncodeToMemory(&pem.Block{Type: label, Bytes: data})
			if _, err := keys.Describe(block); err == nil {
				return describePrivateKey(block)
			}
		}
	}
	// 3. UEFI.
	if _, err := uefi.ParseAuth(data); err == nil {
		return describeAuth(data)
	}
	if _, err := uefi.ParseSignatureLists(data); err == nil {
		return describeSignatureLists(data)
	}
	return nil, fmt.Errorf("a file of %d octets that is no certificate, request, CRL, key, .esl or .auth%s", len(data), hint)
}
