package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tmpki/spki"
)

// algorithmFacts is one algorithm that was tried.
type algorithmFacts struct {
	Algorithm string `json:"algorithm"`
	Works     bool   `json:"works"`
	Error     string `json:"error,omitempty"`
}

// rateFacts is how fast a key signs.
type rateFacts struct {
	Algorithm string  `json:"algorithm"`
	Parallel  int     `json:"parallel"`
	Seconds   float64 `json:"seconds"`
	Count     int64   `json:"signatures"`
	PerSecond float64 `json:"per_second"`
}

func (a *app) keyTestCmd() *cobra.Command {
	var seconds float64
	var parallel int
	cmd := &cobra.Command{
		Use:   "test [--seconds N] [--parallel N] URI|NAME",
		Short: "Does a key sign, and how fast?",
		Long: `test signs something random with each algorithm that the key may be used with,
verifies the signatures outside of the token, and then measures how many it makes
in a second. Nothing of it is recorded. It exits with 1 if one does not verify.`,
		Example: `  tmpki key test ssig
  tmpki key test --seconds 5 --parallel 16 'pkcs11:token=prod;object=ssig'`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if parallel < 1 || parallel > 1000 {
				return usagef("--parallel %d: use 1 to 1000", parallel)
			}
			if !(seconds >= 0 && seconds <= 3600) {
				return usagef("--seconds %v: use 0 to 3600", seconds)
			}
			r, err := a.keyRef(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			signer, err := r.open()
			if err != nil {
				return err
			}
			list, err := tryAlgorithms(signer)
			var rate *rateFacts
			if err == nil && seconds > 0 {
				rate, err = signingRate(cmd.Context(), signer, time.Duration(seconds*float64(time.Second)), parallel)
			}
			if a.json {
				return errors.Join(a.printJSON(map[string]any{"uri": r.uri.String(), "key": newKeyFacts(signer.Public()), "algorithms": list, "rate": rate}), err)
			}
			if a.quiet {
				return err
			}
			w := tabwriter.NewWriter(a.cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, f := range list {
				verdict := "ok"
				if !f.Works {
					verdict = "FAILED: " + visible(f.Error)
				}
				fmt.Fprintf(w, "%s\t%s\n", f.Algorithm, verdict)
			}
			if rate != nil {
				fmt.Fprintf(w, "%s\t%.0f signatures/s, %d at a time\n", rate.Algorithm, rate.PerSecond, rate.Parallel)
			}
			return errors.Join(w.Flush(), err)
		},
	}
	cmd.Flags().Float64Var(&seconds, "seconds", 1, "how long the rate is measured, in `seconds`; 0: not at all")
	cmd.Flags().IntVar(&parallel, "parallel", 2*runtime.GOMAXPROCS(0), "how many signatures are asked for at a `time`")
	return cmd
}

// tryAlgorithms signs and verifies with each algorithm that a key may be used
// with. It returns an error if one of them fails.
func tryAlgorithms(signer crypto.Signer) ([]algorithmFacts, error) {
	message := make([]byte, 32)
	if _, err := rand.Read(message); err != nil {
		return nil, err
	}
	list := []algorithmFacts{}
	var failed error
	for _, alg := range algorithmsOf(signer) {
		f := algorithmFacts{Algorithm: alg.String(), Works: true}
		if _, err := alg.Sign(signer, message); err != nil { // which verifies
			f.Works, f.Error = false, err.Error()
			failed = errors.New("the key does not work with each algorithm that it is for")
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		failed = errors.New("the key may be used with no algorithm that this program knows")
	}
	return list, failed
}

// signingRate counts signatures of the key's usual algorithm. It does not verify
// them, which would measure this machine.
func signingRate(ctx context.Context, signer crypto.Signer, d time.Duration, parallel int) (*rateFacts, error) {
	t, err := spki.KeyTypeOf(signer.Public())
	if err != nil {
		return nil, err
	}
	alg, err := spki.DefaultAlgorithm(t, 0)
	if err != nil {
		return nil, err
	}
	if list := algorithmsOf(signer); len(list) == 1 || t.Kind == spki.RSA && list[0].Scheme == spki.PSS {
		alg = list[0]
	}
	data := make([]byte, 32)
	opts := crypto.SignerOpts(alg.Hash)
	if alg.Hash != 0 {
		data = make([]byte, alg.Hash.Size())
	}
	if alg.Scheme == spki.PSS {
		opts = &rsa.PSSOptions{SaltLength: alg.SaltLength, Hash: alg.Hash}
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var count atomic.Int64
	var workers sync.WaitGroup
	errs := make([]error, parallel)
	start := time.Now()
	for i := range parallel {
		workers.Go(func() {
			for ctx.Err() == nil {
				if _, errs[i] = signer.Sign(rand.Reader, data, opts); errs[i] != nil {
					cancel()
					return
				}
				count.Add(1)
			}
		})
	}
	workers.Wait()
	took := time.Since(start).Seconds()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &rateFacts{alg.String(), parallel, took, count.Load(), float64(count.Load()) / took}, nil
}
