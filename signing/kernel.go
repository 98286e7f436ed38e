package signing

import (
	"bytes"
	"context"
	"crypto/x509"
	"runtime"

	"tmpki/artifact/ima"
	"tmpki/artifact/module"
	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/internal/tree"
	"tmpki/keys"
)

// TreeOptions say how many files are signed at once.
type TreeOptions struct {
	As       string // "" for the plan's default
	Progress func(done, total int)
}

// SignModules signs kernel modules in place: files, and all modules below
// directories. What is returned is what tree.Run says.
func (s *Session) SignModules(ctx context.Context, paths []string, o TreeOptions) (*Signer, []tree.Result, error) {
	signer, err := s.Signer("module", o.As, "")
	if err != nil {
		return nil, nil, err
	}
	results, err := module.SignFiles(ctx, paths, signer.Key, signer.Certificate().Certificate, s.treeOptions(ctx, "module", signer, o))
	return signer, results, err
}

// SignIMA signs files for IMA, in security.ima or beside the file.
func (s *Session) SignIMA(ctx context.Context, paths []string, place ima.Place, o TreeOptions) (*Signer, []tree.Result, error) {
	signer, err := s.Signer("ima", o.As, "")
	if err != nil {
		return nil, nil, err
	}
	results, err := ima.SignFiles(ctx, paths, signer.Key, signer.Certificate().Certificate, place, s.treeOptions(ctx, "ima", signer, o))
	return signer, results, err
}

func (s *Session) treeOptions(ctx context.Context, artifact string, signer *Signer, o TreeOptions) tree.Options {
	workers := 0 // one for each core
	if k := keys.InToken(signer.Key); k != nil {
		// A token signs elsewhere: while it does, others are read and verified.
		workers = k.Parallel() + runtime.GOMAXPROCS(0)
	}
	return tree.Options{
		Workers:  workers,
		Progress: o.Progress,
		Record: func(results []tree.Result) error {
			var list []Signed
			for _, r := range results {
				list = append(list, Signed{artifact, r.Path, r.SHA256, r.Size})
			}
			return s.record(ctx, signer, list...)
		},
	}
}

// VerifyModule verifies a module as a kernel does that has the trust anchors in
// its keyring.
func (s *Verifier) VerifyModule(path string) Verdict {
	v := Verdict{File: path}
	data, err := readLimited(path, module.MaxSize)
	if err != nil {
		v.Err = err
		return v
	}
	signer, err := module.Verify(data, s.keyring())
	v.found(signer, err)
	return v
}

// VerifyIMA verifies a file with security.ima, or FILE.sig, as a kernel does that
// has the trust anchors in .ima.
func (s *Verifier) VerifyIMA(path string, place ima.Place) Verdict {
	v := Verdict{File: path}
	signature, err := ima.Load(path, place)
	if err != nil {
		v.Err = err
		return v
	}
	file, _, err := durable.OpenRegular(path, maxFile)
	if err != nil {
		v.Err = err
		return v
	}
	defer file.Close()
	signer, err := ima.Verify(file, signature, s.keyring())
	v.found(signer, err)
	return v
}

func (s *Verifier) keyring() []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range s.Trust {
		out = append(out, c.Certificate)
	}
	return out
}

// found fills in the signer, who is its own anchor in a keyring.
func (v *Verdict) found(signer *x509.Certificate, err error) {
	v.Err = err
	if signer == nil {
		return
	}
	c, parseErr := ca.ParseCertificate(bytes.Clone(signer.Raw))
	if parseErr == nil {
		v.Signer, v.Chain = c, []*ca.Certificate{c}
	}
}
