package plan

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/internal/fileset"
)

// trustKind are the names of the files that TrustFiles makes.
var trustKind = []string{
	"efi/*.esl", "efi/*.auth", "efi/*/*.esl", "efi/*/*.auth",
	"kernel/system_trusted_keys.pem", "ima/*.der",
	"device/ssig_rootca.cert", "guestos/ca/*", "backend/*.pem",
}

// TrustFiles derives the files that anchors are deployed in, each in the format of
// its consumer:
//
//	efi/VAR.esl, efi/VAR.auth        signature lists and signed updates, of a platform in efi/PLATFORM
//	kernel/system_trusted_keys.pem   CONFIG_SYSTEM_TRUSTED_KEYS
//	ima/x509_ima.der                 CONFIG_IMA_X509_PATH; each further signer in a file of its own
//	device/ssig_rootca.cert          tokens/ssig_rootca.cert of a device
//	guestos/ca/SHA1                  tokens/ca of a device
//	backend/NAME.pem, crl.pem        CAfile and CRLfile of a TLS server
func (p *PKI) TrustFiles(anchors []TrustAnchor) (*fileset.Set, error) {
	set := &fileset.Set{Kind: trustKind}
	for i, a := range anchors {
		if a.File == "" || slices.ContainsFunc(anchors[:i], a.shares) {
			continue
		}
		var certs []*ca.Certificate
		for _, o := range anchors[i:] {
			if o.shares(a) {
				certs = append(certs, o.Certificate)
			}
		}
		var err error
		switch a.Form {
		case FormESL:
			err = p.addVariable(set, a.Variable)
		case FormDER:
			// Several are of one key, and the kernel knows signers by their keys.
			err = set.Add(a.File, certs[len(certs)-1].Raw)
		case FormCertificate:
			err = set.Add(a.File, ca.MarshalPEM(certs...))
		default:
			err = fmt.Errorf("%s: unknown form %q", a.File, a.Form)
		}
		if err != nil {
			return nil, err
		}
	}
	return set, p.addCRLs(set, anchors)
}

// addCRLs adds the CRLs of backends' anchors, as far as they are made, in one file:
// a server that checks any must have all. Of a file that is not what its
// authority has signed, whoever relies on it would learn too late.
func (p *PKI) addCRLs(set *fileset.Set, anchors []TrustAnchor) error {
	var text bytes.Buffer
	var done []*Entry
	for _, a := range anchors {
		if a.Consumer != ForBackend || a.Entry.CRL == nil || slices.Contains(done, a.Entry) {
			continue
		}
		done = append(done, a.Entry)
		for partition := range a.Entry.CRL.Partitions {
			file := a.Entry.CRL.File(partition, false)
			data, _, err := durable.ReadFile(filepath.Join(p.Dir, filepath.FromSlash(file)), 2*ca.MaxCRL)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			crl, err := ca.ParseCRL(data)
			if err == nil {
				err = crl.CheckSignature(p.Have.Certificates[a.Entry.Name].Key)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			if err := pem.Encode(&text, &pem.Block{Type: "X509 CRL", Bytes: crl.Raw}); err != nil {
				return err
			}
		}
	}
	if text.Len() == 0 {
		return nil
	}
	return set.Add("backend/crl.pem", text.Bytes())
}

// shares reports whether two anchors stand in one file.
func (a TrustAnchor) shares(o TrustAnchor) bool { return a.File == o.File }

// addVariable adds the value of a variable and the update that puts it into the
// firmware.
func (p *PKI) addVariable(set *fileset.Set, v *Variable) error {
	list, err := v.database(p.Have)
	if err != nil {
		return err
	}
	signed, ok := p.Have.Variables[v.ID()]
	if !ok {
		return fmt.Errorf("variable %s is not made yet: %s", v.ID(), howToMake(v))
	}
	if err := set.Add(v.file("esl"), list); err != nil {
		return err
	}
	return set.Add(v.file("auth"), signed.Raw)
}
