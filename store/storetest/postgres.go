// Package storetest runs a private PostgreSQL server for tests of what stands on
// package store.
package storetest

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tmpki/internal/tooltest"
)

// T is what a test of Go and a script have in common.
type T interface {
	tooltest.T
	Cleanup(func())
}

// Server is a PostgreSQL server that listens on a socket in a directory of its own,
// and on no port.
type Server struct {
	Dir string // of the socket

	bin       string
	databases atomic.Int64
	process   *exec.Cmd
	gone      chan struct{}
	log       bytes.Buffer
}

// Start starts a server, which ends with the test. Where PostgreSQL is missing, the
// test is skipped, or fails in CI. What it keeps is not synced: power cuts are for
// others to test.
func Start(t T) *Server {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	tooltest.Need(t, "initdb")
	postgres, err := filepath.EvalSymlinks(tooltest.Path(t, "postgres")) // its neighbours stand beside it
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{bin: filepath.Dir(postgres)}
	dir, err := os.MkdirTemp("", "pg") // short: a socket's path has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.Dir = dir
	if err := s.own(dir); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if out, err := s.command("initdb", "-D", data, "-U", "tmpki", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions").CombinedOutput(); err != nil {
		t.Fatal(fmt.Sprintf("initdb: %v\n%s", err, out))
	}
	s.Restart(t)
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server again after Stop.
func (s *Server) Restart(t T) {
	s.process = s.command("postgres", "-D", filepath.Join(s.Dir, "data"), "-k", s.Dir, "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "full_page_writes=off", "-c", "max_connections=60", "-c", "shared_buffers=128MB")
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	s.gone = gone
	process := s.process
	go func() {
		process.Wait()
		close(gone)
	}()
	for range 600 {
		if s.command("pg_isready", "-q", "-h", s.Dir).Run() == nil {
			return
		}
		select {
		case <-gone:
			t.Fatal(fmt.Sprintf("postgres ended:\n%s", s.log.String()))
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("postgres does not begin to answer")
}

// Stop ends the server and the sessions on it.
func (s *Server) Stop() {
	s.process.Process.Signal(syscall.SIGINT)
	<-s.gone
}

// URL makes an empty database and returns its URL.
func (s *Server) URL(t T) string {
	if t, ok := t.(testing.TB); ok {
		t.Helper()
	}
	name := fmt.Sprintf("pki%d", s.databases.Add(1))
	if out, err := s.command("createdb", "-h", s.Dir, "-U", "tmpki", name).CombinedOutput(); err != nil {
		t.Fatal(fmt.Sprintf("createdb: %v\n%s", err, out))
	}
	return "postgres://tmpki@/" + name + "?host=" + url.QueryEscape(s.Dir)
}

// command is a program of PostgreSQL, which refuses to run as root.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	if uid, gid, ok := other(); ok {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	}
	return cmd
}

// own gives the directory to whom the server runs as.
func (s *Server) own(dir string) error {
	uid, gid, ok := other()
	if !ok {
		return nil
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(uid), int(gid))
}

// other is the user that the server runs as if we are root.
func other() (uid, gid uint32, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		id, err1 := strconv.ParseUint(u.Uid, 10, 32)
		group, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(id), uint32(group), true
		}
	}
	return 65534, 65534, true
}
