package uefi

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"tmpki/cms"
	"tmpki/spki"
)

// WIN_CERTIFICATE_UEFI_GUID (UEFI 2.10, Section 32.2.4).
const (
	winCertHeaderSize = 24 // dwLength, wRevision, wCertificateType, CertType
	winCertRevision   = 0x0200
	winCertTypeGUID   = 0x0ef1
)

// Update is a new value of a variable, to be signed.
type Update struct {
	Variable Variable

	// Append adds the value to the one that the firmware has. Entries that are
	// there already stay as they are.
	Append bool

	// Time must be later than that of every update before, but for appends. It
	// is in whole seconds; see NextTime.
	Time time.Time

	// Value is the whole new value, or what is to be appended. An empty value
	// deletes the variable; deleting PK opens the platform (setup mode).
	Value SignatureDatabase
}

// SignVariable signs an update and returns EFI_VARIABLE_AUTHENTICATION_2 with
// the value behind it (UEFI 2.10, Section 8.2.2), which is an .auth file. The
// signer is PK for PK and KEK, and one of KEK for db and dbx; a first PK signs
// itself. Its certificate is given in DER.
//
// It refuses what the firmware would refuse: keys that are not RSA of 2048,
// 3072 or 4096 bits, values that Variable.Check refuses, appending nothing, and
// appending to PK.
func SignVariable(u Update, signer crypto.Signer, certificate []byte) ([]byte, error) {
	owner, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("signing %s: the signer's certificate: %v", u.Variable.Name, err)
	}
	if err := checkKey(owner); err != nil {
		return nil, fmt.Errorf("signing %s: %w", u.Variable.Name, err)
	}
	if err := u.Variable.Check(u.Value); err != nil {
		return nil, fmt.Errorf("signing %w", err)
	}
	if u.Append && len(u.Value) == 0 {
		return nil, fmt.Errorf("signing %s: nothing to append", u.Variable.Name)
	}
	if u.Append && u.Variable.Name == "PK" {
		return nil, errors.New("signing PK: it holds one certificate, so nothing can be appended")
	}
	efiTime, err := marshalTime(u.Time)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", u.Variable.Name, err)
	}
	payload, err := u.Value.Marshal()
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", u.Variable.Name, err)
	}
	who := cms.Signer{Key: signer, Certificate: certificate, Algorithm: firmwareAlgorithm()}
	signature, err := cms.Sign(who, u.Variable.message(u.Append, efiTime, payload), cms.Options{
		Bare:           true,
		NoAttributes:   true,
		NullParameters: true,
		Certificates:   [][]byte{certificate},
	})
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", u.Variable.Name, err)
	}
	return slices.Concat(efiTime, winCertHeader(len(signature)), signature, payload), nil
}

// firmwareAlgorithm is the only one that firmware takes for variables.
func firmwareAlgorithm() spki.SignatureAlgorithm {
	return spki.SignatureAlgorithm{Scheme: spki.PKCS1v15, Hash: crypto.SHA256}
}

// winCertHeader returns what stands before a signature of so many octets.
func winCertHeader(signatureSize int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(winCertHeaderSize+signatureSize))
	b = binary.LittleEndian.AppendUint16(b, winCertRevision)
	b = binary.LittleEndian.AppendUint16(b, winCertTypeGUID)
	return append(b, certTypePKCS7[:]...)
}

// Auth is a parsed .auth file. It does not say which variable it is for, nor
// whether it is an append: only the signature covers that.
type Auth struct {
	Time       time.Time // in UTC, as the specification has it
	SignedData *cms.SignedData
	Value      SignatureDatabase // empty: deletes the variable

	efiTime, signature, payload []byte // as found
}

// ParseAuth reads an .auth file: EFI_VARIABLE_AUTHENTICATION_2 and the value. It
// refuses other certificate types, a ContentInfo around the signature, an
// EFI_TIME with anything but date and time, and values that
// ParseSignatureLists refuses.
func ParseAuth(b []byte) (*Auth, error) {
	if len(b) < timeSize+winCertHeaderSize {
		return nil, fmt.Errorf("authenticated variable: %d octets are too few for a header", len(b))
	}
	efiTime, header := b[:timeSize], b[timeSize:timeSize+winCertHeaderSize]
	length := int64(binary.LittleEndian.Uint32(header[0:4]))
	revision := binary.LittleEndian.Uint16(header[4:6])
	certificateType := binary.LittleEndian.Uint16(header[6:8])
	switch guid := GUID(header[8:24]); {
	case length <= winCertHeaderSize || length > int64(len(b)-timeSize):
		return nil, fmt.Errorf("authenticated variable: dwLength is %d, outside %d to %d", length, winCertHeaderSize+1, len(b)-timeSize)
	case revision != winCertRevision:
		return nil, fmt.Errorf("authenticated variable: wRevision is %#04x, not %#04x", revision, winCertRevision)
	case certificateType != winCertTypeGUID:
		return nil, fmt.Errorf("authenticated variable: wCertificateType is %#04x, not %#04x", certificateType, winCertTypeGUID)
	case guid != certTypePKCS7:
		return nil, fmt.Errorf("authenticated variable: CertType is %v, not EFI_CERT_TYPE_PKCS7_GUID", guid)
	}
	a := &Auth{
		efiTime:   bytes.Clone(efiTime),
		signature: bytes.Clone(b[timeSize+winCertHeaderSize : timeSize+length]),
		payload:   bytes.Clone(b[timeSize+length:]),
	}
	var err error
	if a.Time, err = parseTime(a.efiTime); err != nil {
		return nil, fmt.Errorf("authenticated variable: %w", err)
	}
	if a.SignedData, err = cms.ParseBare(a.signature); err != nil {
		return nil, fmt.Errorf("authenticated variable: %w", err)
	}
	if a.Value, err = ParseSignatureLists(a.payload); err != nil {
		return nil, fmt.Errorf("authenticated variable: %w", err)
	}
	return a, nil
}

// Verify checks that a is an update of v, appended or not, signed with the key
// of a certificate that the firmware trusts for it. It wants the signature in
// the form that SignVariable makes, and the signer to be that certificate
// itself: EDK II would take leaves below it too.
func (a *Auth) Verify(v Variable, appendWrite bool, certificate []byte) error {
	// 1. The certificate is one that the firmware can use, and in the message.
	trusted, err := x509.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("verifying %s: the trusted certificate: %v", v.Name, err)
	}
	if err := checkKey(trusted); err != nil {
		return fmt.Errorf("verifying %s: %w", v.Name, err)
	}
	if !slices.ContainsFunc(a.SignedData.Certificates, func(der []byte) bool { return bytes.Equal(der, certificate) }) {
		return fmt.Errorf("verifying %s: the certificate of %q is not in the message", v.Name, trusted.Subject)
	}

	// 2. The signature has the only form that all firmware takes.
	if n := len(a.SignedData.Signers); n != 1 {
		return fmt.Errorf("verifying %s: %d signers, not 1", v.Name, n)
	}
	signer, err := a.SignedData.SignerOf(certificate)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", v.Name, err)
	}
	switch {
	case a.SignedData.Content != nil:
		return fmt.Errorf("verifying %s: the signature is not detached", v.Name)
	case signer.SignedAttributes != nil:
		return fmt.Errorf("verifying %s: the signature has signed attributes", v.Name)
	case signer.Issuer == nil:
		return fmt.Errorf("verifying %s: the signer is named by its key, not by issuer and serial", v.Name)
	case signer.Algorithm != firmwareAlgorithm():
		return fmt.Errorf("verifying %s: the signature is %v, but firmware takes %v only", v.Name, signer.Algorithm, firmwareAlgorithm())
	}

	// 3. It is over this very update, which the firmware would store.
	pub, err := spki.ParsePublicKey(trusted.RawSubjectPublicKeyInfo)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", v.Name, err)
	}
	if err := a.SignedData.Verify(signer, pub, v.message(appendWrite, a.efiTime, a.payload)); err != nil {
		return fmt.Errorf("verifying %s: %w", v.Name, err)
	}
	if err := v.Check(a.Value); err != nil {
		return fmt.Errorf("verifying %w", err)
	}
	return nil
}
