package keys

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAsk answers the prompts on a pseudo terminal.
func TestAsk(t *testing.T) {
	for _, tt := range []struct {
		name    string
		isNew   bool
		answers []string
		want    string
	}{
		{"open", false, []string{secret}, ""},
		{"new", true, []string{secret, secret}, ""},
		{"mistyped", true, []string{secret, secret + "x"}, "differ"},
		{"empty", false, []string{""}, "it is empty"},
		{"empty twice", true, []string{"", ""}, "it is empty"},
		{"too long", false, []string{strings.Repeat("x", 1025)}, "more than 1024"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			master, tty := openPTY(t)
			shown := make(chan string, 1)
			go func() {
				var all strings.Builder
				r := bufio.NewReader(master)
				for _, answer := range tt.answers {
					prompt, err := r.ReadString(':')
					all.WriteString(prompt)
					if err != nil {
						break
					}
					// The prompt is written before the echo goes off, as in all
					// such programs: wait like a person.
					time.Sleep(50 * time.Millisecond)
					fmt.Fprintln(master, answer)
				}
				rest, _ := io.ReadAll(r) // EIO once tty is closed
				shown <- all.String() + string(rest)
			}()
			p, err := ask(tty, "root\x1b[2J.key", tt.isNew)
			tty.Close()
			checkError(t, err, tt.want)
			if err == nil && string(p.state().secret) != secret {
				t.Error("another passphrase is read")
			}
			text := <-shown
			if strings.Contains(text, secret) || strings.Contains(text, "\x1b") {
				t.Errorf("the terminal shows %q", text)
			}
			if !strings.Contains(text, "assphrase for") {
				t.Errorf("the terminal shows no prompt: %q", text)
			}
		})
	}
	_, err := ask(must(os.Open(os.DevNull)), "x", false)
	checkError(t, err, "asking for a passphrase")
}

func must(f *os.File, err error) *os.File {
	if err != nil {
		panic(err)
	}
	return f
}

func openPTY(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}
