package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tmpki/ca"
	"tmpki/plan"
)

func (a *app) treeCmd() *cobra.Command {
	var svg string
	cmd := &cobra.Command{
		Use:   "tree [--svg FILE] [DIR]",
		Short: "Both hierarchies and the UEFI keys as a picture",
		Long: `tree draws the PKI: who issues whom, with which key, where the key is, until
when, and in which state. It changes nothing and opens no key.

Before the first "tmpki apply" it shows what will be. With --svg it writes the
picture into a file for documents and browsers; a dash is standard output.`,
		Example: `  tmpki tree pki
  tmpki tree --svg pki.svg pki`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := a.existing(args)
			if err != nil {
				return err
			}
			now := time.Now()
			d, err := plan.Picture(cmd.Context(), dir, now)
			if err != nil {
				return err
			}
			out := a.cmd.OutOrStdout()
			if svg != "" {
				if err := writeSVG(out, svg, drawSVG(d, now)); err != nil {
					return err
				}
			}
			switch {
			case svg == "-":
				return nil
			case a.json:
				return a.printJSON(newTreeFacts(dir, d))
			case svg != "":
				a.printf("%s: written\n", ca.Printable(svg))
				return nil
			case a.quiet:
				return nil
			default:
				return printTree(out, d, terminalWidth(out), colour(out))
			}
		},
	}
	cmd.Flags().StringVar(&svg, "svg", "", "write the picture as SVG into `FILE`")
	return cmd
}

// terminalWidth returns the columns of a terminal, and 0 for anything else.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// treeLine is one line of the tree. One without a key is a heading or empty.
type treeLine struct {
	name, key, place, expires, note string
	state                           plan.State
}

// printTree draws d for people. Above 0, width is how many columns there are: if
// they are too few, the places go first, then the notes.
func printTree(out io.Writer, d *plan.Drawing, width int, colour bool) error {
	lines := treeLines(d)
	cells := func(l treeLine, places, notes bool) []string {
		row := []string{l.name, l.key}
		if places {
			row = append(row, l.place)
		}
		row = append(row, l.expires, string(l.state))
		if notes {
			row = append(row, l.note)
		}
		return row
	}
	// 1. Which columns, and how wide?
	var widths []int
	var places, notes bool
	for _, try := range [][2]bool{{true, true}, {false, true}, {false, false}} {
		places, notes = try[0], try[1]
		widths = nil
		total := 0
		for _, l := range lines {
			row := cells(l, places, notes)
			if widths == nil {
				widths = make([]int, len(row))
			}
			if l.state == "" {
				continue
			}
			for i, cell := range row {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
		for _, w := range widths {
			total += w + 2
		}
		if width <= 0 || total-2 <= width {
			break
		}
	}
	// 2. Write.
	var b strings.Builder
	for _, l := range lines {
		if l.state == "" {
			fmt.Fprintln(&b, paint(l.name, "\x1b[1m", colour))
			continue
		}
		var line strings.Builder
		for i, cell := range cells(l, places, notes) {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			if cell == string(l.state) {
				cell = paint(cell, stateColour(l.state), colour)
			}
			line.WriteString(cell + padding)
		}
		fmt.Fprintln(&b, strings.TrimRight(line.String(), " "))
	}
	fmt.Fprintf(&b, "\n%s\n", stateCounts(d))
	_, err := io.WriteString(out, b.String())
	return err
}

func paint(s, code string, colour bool) string {
	if !colour || s == "" {
		return s
	}
	return code + s + "\x1b[0m"
}

func stateColour(s plan.State) string {
	switch s {
	case plan.StateOK:
		return "\x1b[32m"
	case plan.StateSoon:
		return "\x1b[33m"
	case plan.StateKeyOffline:
		return "\x1b[36m"
	case plan.StatePlanned:
		return "\x1b[2m"
	default:
		return "\x1b[31m"
	}
}

// treeLines lists the lines of the whole picture.
func treeLines(d *plan.Drawing) []treeLine {
	var lines []treeLine
	for _, h := range d.Hierarchies {
		if len(lines) > 0 {
			lines = append(lines, treeLine{})
		}
		lines = append(lines, treeLine{name: ca.Printable(h.Name)})
		tops := append(append([]*plan.Node{}, h.Roots...), h.Anchors...)
		for i, n := range tops {
			lines = appendNode(lines, n, "", i == len(tops)-1)
		}
	}
	if d.Plan.UEFI == nil {
		return lines
	}
	lines = append(lines, treeLine{}, treeLine{name: "UEFI: PK → KEK → db" + uefiRemark(d)})
	for i, v := range d.Variables {
		branch, below := branches("", i == len(d.Variables)-1)
		l := treeLine{name: branch + "variable " + v.ID(), state: v.State, note: "signed by " + v.Signer.Name}
		if !v.Signed.IsZero() {
			l.note += " on " + v.Signed.Local().Format(time.DateOnly)
		}
		lines = append(lines, l)
		for j, n := range v.Certificates {
			branch, _ := branches(below, j == len(v.Certificates)-1)
			lines = append(lines, nodeLine(branch, n))
		}
	}
	return lines
}

// uefiRemark says how the UEFI part comes to be, as long as it isn't there.
func uefiRemark(d *plan.Drawing) string {
	for _, v := range d.Variables {
		if v.State != plan.StatePlanned {
			return ""
		}
	}
	switch d.Plan.UEFI.Create {
	case "never":
		return " (the plan says: never)"
	case "on-request":
		return " (on request: tmpki apply --platform-keys)"
	default:
		return ""
	}
}

// stateCounts says how many certificates are in which state.
func stateCounts(d *plan.Drawing) string {
	states := []plan.State{plan.StateOK, plan.StateKeyOffline, plan.StateSoon, plan.StateExpired, plan.StateNotYet, plan.StateKeyMissing, plan.StatePlanned}
	counts := map[plan.State]int{}
	for _, e := range d.Plan.Entries {
		counts[d.Node(e.Name).State]++
	}
	var parts []string
	for _, s := range states {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	return fmt.Sprintf("%d certificates: %s", len(d.Plan.Entries), strings.Join(parts, ", "))
}

// branches returns what stands before a node, and before those below it.
func branches(prefix string, last bool) (own, below string) {
	if last {
		return prefix + "└─ ", prefix + "   "
	}
	return prefix + "├─ ", prefix + "│  "
}

func appendNode(lines []treeLine, n *plan.Node, prefix string, last bool) []treeLine {
	branch, below := branches(prefix, last)
	lines = append(lines, nodeLine(branch, n))
	for i, child := range n.Children {
		lines = appendNode(lines, child, below, i == len(n.Children)-1)
	}
	return lines
}

func nodeLine(branch string, n *plan.Node) treeLine {
	l := treeLine{name: branch + n.Name, key: n.KeyType.String(), place: n.Key.String(), expires: expires(n), state: n.State}
	l.note = strings.Join(nodeNotes(n), "; ")
	return l
}

// expires is the day on which the certificate ends, or for how long it will be
// valid once it is made.
func expires(n *plan.Node) string {
	if n.Certificate == nil {
		return fmt.Sprintf("for %d days", int(n.Profile.Validity().Hours()/24))
	}
	return n.Certificate.NotAfter.Local().Format(time.DateOnly)
}

// nodeNotes says what else is worth knowing of an entry.
func nodeNotes(n *plan.Node) []string {
	var notes []string
	if n.TwinOf != nil {
		notes = append(notes, "anchor, twin of "+n.TwinOf.Name)
	}
	if g := generationNote(n.Entry); g != "" {
		notes = append(notes, g)
	}
	if len(n.Signs) > 0 {
		notes = append(notes, "signs "+strings.Join(n.Signs, ", "))
	}
	if n.Waits != "" {
		notes = append(notes, "waits for "+n.Waits)
	}
	for _, twin := range n.Anchors {
		notes = append(notes, "anchor: "+twin.Name)
	}
	if n.Custody != plan.Online && n.KeyState == plan.KeyHere && n.TwinOf == nil {
		notes = append(notes, "key is here, not "+string(n.Custody))
	}
	return notes
}

// generationNote says which generation an entry is, if it is not the first and only.
func generationNote(e *plan.Entry) string {
	switch {
	case e.Generations == (plan.Generations{Newest: 1, Active: 1, Oldest: 1}):
		return ""
	case e.Kind == plan.Cross:
		return fmt.Sprintf("cross-certificate of %s by %s", e.TwinOf.Name, e.Issuer.Name)
	case e.IsOld():
		return fmt.Sprintf("generation %d, old", e.Generation)
	case e.Active != nil:
		return fmt.Sprintf("generation %d, waits", e.Generation)
	default:
		return fmt.Sprintf("generation %d", e.Generation)
	}
}
