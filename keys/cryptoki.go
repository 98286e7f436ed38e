package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// cryptoki is what this package calls of a PKCS#11 library (PKCS#11 version
// 2.40, Section 5, whose words are used here). All methods may be called
// concurrently. An error of the library is an rv.
type cryptoki interface {
	initialize() error
	finalize() error
	restart() error // finalize and initialize, when no other call is under way
	info() (libraryInfo, error)
	slots() ([]uint, error) // with a token in them
	slotInfo(slot uint) (slotInfo, error)
	tokenInfo(slot uint) (tokenInfo, error)
	mechanisms(slot uint) ([]uint, error)
	mechanismInfo(slot, mechanism uint) (mechanismInfo, error)

	openSession(slot uint, write bool) (uint, error)
	closeSession(session uint) error
	closeAllSessions(slot uint) error
	login(session uint, pin []byte) error // an empty PIN: the token asks by itself
	logout(session uint) error

	find(session uint, template []attribute) ([]uint, error)
	get(session, object uint, types ...uint) ([][]byte, error)
	create(session uint, template []attribute) (uint, error)
	destroy(session, object uint) error
	generateKeyPair(session uint, m mechanism, public, private []attribute) (publicKey, privateKey uint, err error)
	unwrap(session uint, m mechanism, key uint, wrapped []byte, template []attribute) (uint, error)
	sign(session uint, m mechanism, key uint, data []byte) ([]byte, error)
}

type libraryInfo struct {
	manufacturer, description string
	major, minor              byte
}

type slotInfo struct {
	description, manufacturer string
}

type tokenInfo struct {
	label, manufacturer, model, serial string
	flags                              uint
	maxSessions, maxWriteSessions      uint
	freePublic, freePrivate            uint // octets
}

type mechanismInfo struct {
	minSize, maxSize uint // of keys: bits for RSA and EC
	flags            uint
}

// mechanism is CK_MECHANISM. At most one of the parameters is set.
type mechanism struct {
	kind uint
	pss  *pssParams
	oaep bool // SHA-1, no label: what every token can
}

type pssParams struct{ hash, mgf, salt uint }

// attribute is CK_ATTRIBUTE; a CK_ULONG in value is in the order of the machine.
type attribute struct {
	kind  uint
	value []byte
}

// The numbers of PKCS#11 that are used here. Those of Edwards curves are from
// version 3.0.
const (
	ckfTokenInitialized   = 0x400
	ckfWriteProtected     = 0x2
	ckfLoginRequired      = 0x4
	ckfUserPINInitialized = 0x8
	ckfProtectedPath      = 0x100
	ckfUserPINCountLow    = 0x10000
	ckfUserPINFinalTry    = 0x20000
	ckfUserPINLocked      = 0x40000
	ckfUserPINToBeChanged = 0x80000

	ckfSign            = 0x800 // of mechanisms
	ckfGenerateKeyPair = 0x10000
	ckfUnwrap          = 0x40000

	ckoCertificate = 1
	ckoPublicKey   = 2
	ckoPrivateKey  = 3
	ckoSecretKey   = 4

	ckkRSA       = 0
	ckkEC        = 3
	ckkAES       = 0x1f
	ckkECEdwards = 0x40

	ckaClass              = 0x0
	ckaToken              = 0x1
	ckaPrivate            = 0x2
	ckaLabel              = 0x3
	ckaValue              = 0x11
	ckaCertificateType    = 0x80
	ckaIssuer             = 0x81
	ckaSerialNumber       = 0x82
	ckaKeyType            = 0x100
	ckaSubject            = 0x101
	ckaID                 = 0x102
	ckaSensitive          = 0x103
	ckaEncrypt            = 0x104
	ckaDecrypt            = 0x105
	ckaWrap               = 0x106
	ckaUnwrap             = 0x107
	ckaSign               = 0x108
	ckaVerify             = 0x10a
	ckaDerive             = 0x10c
	ckaModulus            = 0x120
	ckaModulusBits        = 0x121
	ckaPublicExponent     = 0x122
	ckaPrivateExponent    = 0x123
	ckaPrime1             = 0x124
	ckaPrime2             = 0x125
	ckaExponent1          = 0x126
	ckaExponent2          = 0x127
	ckaCoefficient        = 0x128
	ckaExtractable        = 0x162
	ckaLocal              = 0x163
	ckaECParams           = 0x180
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202
	ckaAllowedMechanisms  = 0x40000600

	ckmRSAKeyPairGen       = 0x0
	ckmRSAPKCS             = 0x1
	ckmRSAOAEP             = 0x9
	ckmRSAPSS              = 0xd
	ckmSHA256RSAPKCS       = 0x40
	ckmSHA384RSAPKCS       = 0x41
	ckmSHA512RSAPKCS       = 0x42
	ckmSHA256RSAPSS        = 0x43
	ckmSHA384RSAPSS        = 0x44
	ckmSHA512RSAPSS        = 0x45
	ckmSHA1                = 0x220
	ckmSHA256              = 0x250
	ckmSHA384              = 0x260
	ckmSHA512              = 0x270
	ckmECKeyPairGen        = 0x1040
	ckmECDSA               = 0x1041
	ckmECDSASHA256         = 0x1044
	ckmECDSASHA384         = 0x1045
	ckmECDSASHA512         = 0x1046
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
	ckmAESKeyWrapPad       = 0x210a

	ckgMGF1SHA1   = 1
	ckgMGF1SHA256 = 2
	ckgMGF1SHA384 = 3
	ckgMGF1SHA512 = 4

	noLimit = ^uint(0) // CK_UNAVAILABLE_INFORMATION; 0 means unlimited
)

// rv is a return value of PKCS#11 other than CKR_OK.
type rv uint

// Error names the return value as the standard does.
func (r rv) Error() string {
	if name := rvNames[r]; name != "" {
		return "CKR_" + name
	}
	return fmt.Sprintf("CKR %#x", uint(r))
}

const (
	ckrHostMemory            rv = 0x2
	ckrGeneralError          rv = 0x5
	ckrFunctionFailed        rv = 0x6
	ckrAttributeReadOnly     rv = 0x10
	ckrAttributeSensitive    rv = 0x11
	ckrAttributeTypeInvalid  rv = 0x12
	ckrAttributeValueInvalid rv = 0x13
	ckrDeviceMemory          rv = 0x31
	ckrDeviceRemoved         rv = 0x32
	ckrKeyHandleInvalid      rv = 0x60
	ckrMechanismInvalid      rv = 0x70
	ckrObjectHandleInvalid   rv = 0x82
	ckrOperationActive       rv = 0x90
	ckrPINIncorrect          rv = 0xa0
	ckrPINInvalid            rv = 0xa1
	ckrPINLenRange           rv = 0xa2
	ckrPINExpired            rv = 0xa3
	ckrPINLocked             rv = 0xa4
	ckrSessionClosed         rv = 0xb0
	ckrSessionCount          rv = 0xb1
	ckrSessionHandleInvalid  rv = 0xb3
	ckrTemplateInconsistent  rv = 0xd1
	ckrTokenNotPresent       rv = 0xe0
	ckrTokenNotRecognized    rv = 0xe1
	ckrUserAlreadyLoggedIn   rv = 0x100
	ckrUserNotLoggedIn       rv = 0x101
	ckrNotInitialized        rv = 0x190
	ckrAlreadyInitialized    rv = 0x191
	ckrResourceExceeded      rv = 0x201
)

var rvNames = map[rv]string{
	ckrHostMemory: "HOST_MEMORY", 0x3: "SLOT_ID_INVALID", ckrGeneralError: "GENERAL_ERROR", ckrFunctionFailed: "FUNCTION_FAILED",
	0x7: "ARGUMENTS_BAD", ckrAttributeReadOnly: "ATTRIBUTE_READ_ONLY", ckrAttributeSensitive: "ATTRIBUTE_SENSITIVE",
	ckrAttributeTypeInvalid: "ATTRIBUTE_TYPE_INVALID", ckrAttributeValueInvalid: "ATTRIBUTE_VALUE_INVALID", 0x1b: "ACTION_PROHIBITED",
	0x20: "DATA_INVALID", 0x21: "DATA_LEN_RANGE", 0x30: "DEVICE_ERROR", ckrDeviceMemory: "DEVICE_MEMORY", ckrDeviceRemoved: "DEVICE_REMOVED",
	0x50: "FUNCTION_CANCELED", 0x54: "FUNCTION_NOT_SUPPORTED", ckrKeyHandleInvalid: "KEY_HANDLE_INVALID", 0x62: "KEY_SIZE_RANGE",
	0x63: "KEY_TYPE_INCONSISTENT", 0x68: "KEY_FUNCTION_NOT_PERMITTED", ckrMechanismInvalid: "MECHANISM_INVALID",
	0x71: "MECHANISM_PARAM_INVALID", ckrObjectHandleInvalid: "OBJECT_HANDLE_INVALID", ckrOperationActive: "OPERATION_ACTIVE",
	0x91: "OPERATION_NOT_INITIALIZED", ckrPINIncorrect: "PIN_INCORRECT", ckrPINInvalid: "PIN_INVALID", ckrPINLenRange: "PIN_LEN_RANGE",
	ckrPINExpired: "PIN_EXPIRED", ckrPINLocked: "PIN_LOCKED", ckrSessionClosed: "SESSION_CLOSED", ckrSessionCount: "SESSION_COUNT",
	ckrSessionHandleInvalid: "SESSION_HANDLE_INVALID", 0xb5: "SESSION_READ_ONLY", 0xd0: "TEMPLATE_INCOMPLETE",
	ckrTemplateInconsistent: "TEMPLATE_INCONSISTENT", ckrTokenNotPresent: "TOKEN_NOT_PRESENT", ckrTokenNotRecognized: "TOKEN_NOT_RECOGNIZED",
	0xe2: "TOKEN_WRITE_PROTECTED", ckrUserAlreadyLoggedIn: "USER_ALREADY_LOGGED_IN", ckrUserNotLoggedIn: "USER_NOT_LOGGED_IN",
	0x102: "USER_PIN_NOT_INITIALIZED", 0x110: "WRAPPED_KEY_INVALID", 0x112: "WRAPPED_KEY_LEN_RANGE", 0x130: "DOMAIN_PARAMS_INVALID",
	0x140: "CURVE_NOT_SUPPORTED", ckrNotInitialized: "CRYPTOKI_NOT_INITIALIZED", ckrAlreadyInitialized: "CRYPTOKI_ALREADY_INITIALIZED",
	ckrResourceExceeded: "TOKEN_RESOURCE_EXCEEDED",
}

// is reports whether an error is, or wraps, one of some return values.
func (r rv) is(err error, others ...rv) bool {
	var got rv
	return errors.As(err, &got) && (got == r || slices.Contains(others, got))
}

// isLost tells that a session, its login or its token went away, or that handles
// are of a time before.
func isLost(err error) bool {
	return ckrSessionHandleInvalid.is(err, ckrSessionClosed, ckrDeviceRemoved, ckrTokenNotPresent, ckrTokenNotRecognized,
		ckrUserNotLoggedIn, ckrNotInitialized, ckrKeyHandleInvalid, ckrObjectHandleInvalid)
}

// isBusy tells that the same call may succeed in a moment.
func isBusy(err error) bool {
	return ckrSessionCount.is(err, ckrDeviceMemory, ckrOperationActive, ckrResourceExceeded)
}

// ulongSize is that of CK_ULONG, an unsigned long of C.
const ulongSize = strconv.IntSize / 8

func putUlong(values ...uint) []byte {
	b := make([]byte, 0, ulongSize*len(values))
	for _, v := range values {
		if ulongSize == 4 {
			b = binary.NativeEndian.AppendUint32(b, uint32(v))
		} else {
			b = binary.NativeEndian.AppendUint64(b, uint64(v))
		}
	}
	return b
}

// getUlongs reads an array of CK_ULONG; ok is false for what is none.
func getUlongs(b []byte) (values []uint, ok bool) {
	if len(b)%ulongSize != 0 {
		return nil, false
	}
	for ; len(b) > 0; b = b[ulongSize:] {
		if ulongSize == 4 {
			values = append(values, uint(binary.NativeEndian.Uint32(b)))
		} else {
			values = append(values, uint(binary.NativeEndian.Uint64(b)))
		}
	}
	return values, true
}

func ulong(kind uint, values ...uint) attribute { return attribute{kind, putUlong(values...)} }

func boolean(kind uint, value bool) attribute {
	if value {
		return attribute{kind, []byte{1}}
	}
	return attribute{kind, []byte{0}}
}

func octets(kind uint, value []byte) attribute { return attribute{kind, value} }
