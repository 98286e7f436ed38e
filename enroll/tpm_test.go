package enroll

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

// Requests for keys that never left a TPM are signed like any other.
func TestSignTPM(t *testing.T) {
	tooltest.Need(t, "openssl", "swtpm", "tpm2.so")
	work := t.TempDir()
	env := append(os.Environ(), "TPM2OPENSSL_TCTI="+startTPM(t, work), "TSS2_LOG=all+NONE")
	dir := newPKI(t, "ec:P-256")
	r := open(t, dir, "device")
	for n, options := range [][]string{
		{"-algorithm", "RSA", "-pkeyopt", "bits:2048"},
		{"-algorithm", "EC", "-pkeyopt", "group:P-256"},
	} {
		tpm := []string{"-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2"}
		run := func(command string, args ...string) {
			t.Helper()
			cmd := exec.Command("openssl", append(append([]string{command}, tpm...), args...)...)
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("openssl %s: %v\n%s", command, err, out)
			}
		}
		key, file := filepath.Join(work, fmt.Sprint(n, ".key")), filepath.Join(work, fmt.Sprint(n, ".csr"))
		run("genpkey", append(options, "-out", key)...)
		run("req", "-new", "-key", key, "-subj", "/C=DE/O=Fraunhofer/CN=TPM device", "-addext", "subjectAltName=URI:UUID:"+testUUID(n), "-out", file)
		if text, err := os.ReadFile(key); err != nil || !bytes.Contains(text, []byte("TSS2 PRIVATE KEY")) {
			t.Fatalf("the key is not in the TPM: %s, %v", text, err)
		}
		request, err := os.ReadFile(file)
		must(t, err)
		one := signed(t, r, request)
		if one.UUID != testUUID(n) || one.Certificate.UUID() != testUUID(n) || one.CommonName != "TPM device" {
			t.Errorf("%+v", one)
		}
		cert := filepath.Join(work, fmt.Sprint(n, ".cert"))
		text, err := r.PEM(one.Certificate, Leaf)
		must(t, err)
		must(t, os.WriteFile(cert, text, 0o600))
		tooltest.Run(t, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-attime", fmt.Sprint(testNow.Unix()),
			"-CAfile", filepath.Join(dir, "gen_rootca.cert"), "-untrusted", filepath.Join(dir, "device_subca.cert"), cert)
	}
	checkStore(t, dir)
}

// startTPM starts a software TPM and returns how the TSS reaches it.
func startTPM(t *testing.T, dir string) string {
	t.Helper()
	for range 5 { // somebody may take the ports before the TPM does
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		port := listener.Addr().(*net.TCPAddr).Port
		must(t, listener.Close())
		state := filepath.Join(dir, fmt.Sprint("tpm", port))
		must(t, os.Mkdir(state, 0o700))
		cmd := exec.Command(tooltest.Path(t, "swtpm"), "socket", "--tpm2", "--tpmstate", "dir="+state, "--flags", "not-need-init,startup-clear",
			"--server", fmt.Sprintf("type=tcp,port=%d", port), "--ctrl", fmt.Sprintf("type=tcp,port=%d", port+1))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		must(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for range 100 {
			select {
			case err := <-ended:
				t.Logf("swtpm at port %d: %v: %s", port, err, &stderr)
				goto again
			case <-time.After(50 * time.Millisecond):
			}
			// The control channel takes more than one connection, the other doesn't.
			if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port+1)); err == nil {
				conn.Close()
				t.Cleanup(func() {
					cmd.Process.Kill()
					<-ended
				})
				return fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", port)
			}
		}
		cmd.Process.Kill()
		<-ended
	again:
	}
	t.Fatal("no software TPM starts")
	return ""
}
