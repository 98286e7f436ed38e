package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

// tlsServer runs openssl s_server in dir for one connection. It returns its address,
// and a function that waits for its end and returns what it said.
func tlsServer(t *testing.T, dir string, args ...string) (address string, said func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev"}, args...)...)
	cmd.Dir = dir
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	for address == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			cmd.Wait()
			t.Fatalf("openssl s_server %q: %v\n%s", args, err, &text)
		}
		address, _ = strings.CutPrefix(strings.TrimSpace(line), "ACCEPT ")
		if !strings.Contains(line, "ACCEPT") {
			address = ""
		}
	}
	said = sync.OnceValue(func() string {
		rest, _ := io.ReadAll(lines)
		cmd.Wait()
		return string(rest) + text.String()
	})
	return address, said
}

// talk connects openssl s_client with a server and reports whether what it sent came
// back, reversed, and what both said.
func talk(t *testing.T, dir string, server, client []string) (bool, string) {
	t.Helper()
	address, said := tlsServer(t, dir, server...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-connect", address, "-quiet"}, client...)...)
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	cmd.Stderr = &text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(stdin, "hello\n")
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	stdin.Close()
	cmd.Process.Kill()
	cmd.Wait()
	return line == "olleh\n", fmt.Sprintf("server:\n%sclient:\n%s", said(), &text)
}

// TestTLS connects devices and backends with OpenSSL, each side with the anchors and
// CRLs of the export, before and after revocations.
func TestTLS(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "openssl")
	dir := t.TempDir()
	mustFixture(t, "rsa", filepath.Join(dir, "pki"))
	run := func(args ...string) { t.Helper(); must(t, dir, "tmpki", append([]string{"--pki", "pki"}, args...)...) }
	request := func(name, san, kind string, options ...string) {
		t.Helper()
		args := []string{"req", "-new", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name, "-newkey", kind}
		if san != "" {
			args = append(args, "-addext", "subjectAltName="+san)
		}
		must(t, dir, "openssl", append(args, options...)...)
	}
	export := func() {
		t.Helper()
		run("crl", "--all")
		run("trust", "export", "--for", "backend", "-o", "anchors")
		// OpenSSL takes CRLs from its file of certificates, and by -CRL a single one. A
		// client needs those of the root and of the backends' CA.
		must(t, dir, "sh", "-c", `cd anchors/backend && for f in gen_rootca device_subca; do cat $f.pem crl.pem >../../$f.trust; done
			cd ../.. && for a in gen_rootca backend_subca; do openssl crl -inform DER -in pki/crl/$a.crl; done | cat anchors/backend/gen_rootca.pem - >client.trust`)
	}
	// 1. Two servers, one with the key type of the plan's backend, and clients.
	const uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca42"
	run("issue", "backend", "--name", "pss", "--san", "dns:backend.example", "-o", "pss.cert")
	request("ec", "DNS:backend.example", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
	run("issue", "backend", "--name", "ec", "--csr", "ec.csr", "-o", "ec.cert")
	for _, n := range []string{"1", "2"} {
		request("device"+n, "URI:UUID:"+uuid+n, "rsa:2048")
		run("device", "sign", "-o", "device"+n+".cert", "device"+n+".csr")
	}
	request("user", "", "rsa:2048")
	run("issue", "user", "--name", "user", "--csr", "user.csr", "-o", "user.cert")
	export()
	// 2. Who talks with whom. Every server wants a certificate of its client and
	// checks CRLs, and so does every client.
	server := func(name, key, trust string, more ...string) []string {
		return append([]string{"-cert", name + ".cert", "-cert_chain", name + ".cert", "-key", key, "-Verify", "5", "-verify_return_error",
			"-CAfile", trust + ".trust"}, more...)
	}
	pss, ec := server("pss", "pki/pss.key", "gen_rootca", "-crl_check_all"), server("ec", "ec.key", "gen_rootca", "-crl_check_all")
	narrow := server("ec", "ec.key", "device_subca", "-partial_chain", "-crl_check")
	client := func(name string) []string {
		return []string{"-cert", name + ".cert", "-cert_chain", name + ".cert", "-key", name + ".key"}
	}
	host := func(name string) []string {
		return []string{"-servername", name, "-verify_hostname", name, "-verify_return_error",
			"-CAfile", "client.trust", "-crl_check_all"}
	}
	type row struct {
		name           string
		server, client []string
		want           string // the reason; "": they talk
	}
	try := func(rows ...row) {
		t.Helper()
		for _, r := range rows {
			ok, text := talk(t, dir, r.server, r.client)
			if ok != (r.want == "") || !strings.Contains(text, r.want) {
				t.Errorf("%s: talked %v, want %q:\n%s", r.name, ok, r.want, text)
			}
		}
	}
	try(
		row{"a server with a PSS key", pss, append(host("backend.example"), client("device1")...), ""},
		row{"a server with an EC key", ec, append(host("backend.example"), client("device1")...), ""},
		row{"another device", ec, append(host("backend.example"), client("device2")...), ""},
		row{"another host name", ec, append(host("evil.example"), client("device1")...), "hostname mismatch"},
		row{"a device as a server", server("device2", "device2.key", "gen_rootca", "-crl_check_all"), append(host("backend.example"), client("device1")...), "unsuitable certificate purpose"},
		row{"no certificate", ec, host("backend.example"), "peer did not return a certificate"},
		row{"a backend as a client", ec, append(host("backend.example"), client("ec")...), "unsuitable certificate purpose"},
		row{"a user, by the root", ec, append(host("backend.example"), client("user")...), ""},
		row{"a device, by the sub CA alone", narrow, append(host("backend.example"), client("device1")...), ""},
		row{"a user, by the sub CA of devices alone", narrow, append(host("backend.example"), client("user")...), "self-signed certificate in certificate chain"},
	)
	// 3. After revocation, once the new CRLs are there.
	run("revoke", "--reason", "keyCompromise", uuid+"1")
	export()
	try(
		row{"a revoked device", ec, append(host("backend.example"), client("device1")...), "certificate revoked"},
		row{"a revoked device, by the sub CA alone", narrow, append(host("backend.example"), client("device1")...), "certificate revoked"},
		row{"the other device", ec, append(host("backend.example"), client("device2")...), ""},
	)
	run("revoke", "--reason", "superseded", "backend/ec")
	export()
	try(
		row{"a revoked server", ec, append(host("backend.example"), client("device2")...), "certificate revoked"},
		row{"the other server", pss, append(host("backend.example"), client("device2")...), ""},
	)
	run("revoke", "--yes", "--reason", "cACompromise", "device_subca")
	export()
	try(row{"below a revoked sub CA", pss, append(host("backend.example"), client("device2")...), "certificate revoked"})
}
