package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tmpki/plan"
	"tmpki/spki"
)

// buildProgram builds the program as it ships, and reports its size.
func buildProgram(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "tmpki")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// BenchmarkDevelopmentPKI makes the RSA-4096 development PKI with UEFI keys.
// x_keygen is its time as a multiple of the key generation inside it, on all
// cores: the limit is 1.2.
func BenchmarkDevelopmentPKI(b *testing.B) {
	for range b.N {
		dir := filepath.Join(b.TempDir(), "pki")
		start := time.Now()
		var keysDone time.Duration
		_, err := plan.Generate(context.Background(), dir, spki.KeyType{}, plan.Options{
			Actor:  "bench",
			Now:    time.Now,
			Demand: plan.Demand{PlatformKeys: true},
			Progress: func(_, _ int, s plan.Step) {
				if s.Kind == plan.GenerateKey {
					keysDone = time.Since(start)
				}
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start))/float64(keysDone), "x_keygen")
	}
}

// BenchmarkProcess runs the program and measures it from outside: seconds of CPU
// and peak memory in MiB of one run; the size of the program in MiB.
func BenchmarkProcess(b *testing.B) {
	program := buildProgram(b)
	info, err := os.Stat(program)
	if err != nil {
		b.Fatal(err)
	}
	allEC, err := os.ReadFile("../../plan/testdata/all-ec.yaml")
	if err != nil {
		b.Fatal(err)
	}
	p384 := bytes.ReplaceAll(allEC, []byte("P-256"), []byte("P-384"))
	measure := func(b *testing.B, prepare func(dir string) *exec.Cmd) {
		var cpu time.Duration
		var peak int64
		for range b.N {
			cmd := prepare(filepath.Join(b.TempDir(), "pki"))
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v: %v\n%s", cmd, err, out)
			}
			cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		}
		b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(peak)/1024, "MiB-peak")
		b.ReportMetric(float64(info.Size())/(1<<20), "MiB-program")
	}
	b.Run("p384", func(b *testing.B) {
		measure(b, func(dir string) *exec.Cmd {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, plan.FileName), p384, 0o600); err != nil {
				b.Fatal(err)
			}
			return exec.Command(program, "apply", dir)
		})
	})
	b.Run("rsa4096", func(b *testing.B) {
		measure(b, func(dir string) *exec.Cmd {
			cmd := exec.Command(program, "generate", dir)
			cmd.Env = append(os.Environ(), "DO_PLATFORM_KEYS=y")
			return cmd
		})
	})
}
