//go:build !cgo

package keys

// loadCryptoki is nil in programs that were built with CGO_ENABLED=0: a PKCS#11
// library is C, and without cgo nothing can call it.
var loadCryptoki func(path string) (cryptoki, error)
