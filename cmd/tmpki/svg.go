package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"tmpki/ca"
	"tmpki/internal/durable"
	"tmpki/plan"
)

// The SVG's measures, in pixels.
const (
	boxWidth   = 252
	boxHeight  = 116
	gapX       = 18
	gapY       = 26
	indent     = 14 // of stacked boxes, to leave room for their line
	margin     = 28
	titleRoom  = 84
	legendRoom = 56
	maxRow     = 1950 // of hierarchies side by side, unless one alone is wider
	perRow     = 5    // boxes in a row of a UEFI variable
)

// svgStyle has no colours of states, which stand with their boxes: some viewers
// take no style sheets, and the picture should still make sense.
const svgStyle = `text{font-family:"DejaVu Sans",Verdana,Arial,sans-serif;font-size:11.5px;fill:#1f2328}
.h1{font-size:20px;font-weight:bold}.h2{font-size:15px;font-weight:bold}.n{font-size:13px;font-weight:bold}
.m{font-family:"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:10.5px;fill:#57606a}.s{fill:#57606a}.b{font-weight:bold}
path{fill:none;stroke:#8c959f;stroke-width:1.5}`

// svgCanvas is an SVG in the making: lines are under the boxes.
type svgCanvas struct {
	lines, boxes  strings.Builder
	width, height int
}

// drawSVG draws d as a file of its own: no scripts, no fonts, no links.
func drawSVG(d *plan.Drawing, now time.Time) []byte {
	c := &svgCanvas{}
	// 1. The hierarchies, side by side as far as the page goes.
	x, y, bottom := margin, titleRoom, titleRoom
	for _, h := range d.Hierarchies {
		blocks := newBlocks(h)
		width := -gapX
		for _, b := range blocks {
			width += b.width() + gapX
		}
		if x > margin && x+width > maxRow {
			x, y = margin, bottom+2*gapY
		}
		c.text(&c.boxes, x, y+18, "h2", h.Name)
		for _, b := range blocks {
			bottom = max(bottom, c.block(b, x, y+34))
			x += b.width() + gapX
		}
		x += 2 * gapX
	}
	// 2. UEFI.
	if len(d.Variables) > 0 {
		bottom = c.variables(d, margin, bottom+2*gapY)
	}
	// 3. Title and legend, now that the size is known.
	today := "as of " + now.Local().Format(time.DateOnly)
	c.text(&c.boxes, margin, 38, "h1", "PKI: "+d.Plan.Name+" plan")
	c.text(&c.boxes, margin, 60, "s", today+": "+stateCounts(d))
	c.legend(margin, bottom+gapY+10)
	c.width, c.height = max(c.width, 900)+margin, bottom+legendRoom+margin

	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="title desc">
<title id="title">%s</title>
<desc id="desc">%s</desc>
<style>%s</style>
<rect width="100%%" height="100%%" fill="#ffffff"/>
`, c.width, c.height, c.width, c.height, escapeXML("PKI: "+d.Plan.Name+" plan, "+today), escapeXML(drawingSummary(d)), svgStyle)
	b.WriteString(c.lines.String())
	b.WriteString(c.boxes.String())
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// drawingSummary says in a sentence what the picture shows, for those who don't
// see it.
func drawingSummary(d *plan.Drawing) string {
	var parts []string
	var walk func(nodes []*plan.Node)
	walk = func(nodes []*plan.Node) {
		for _, n := range nodes {
			issuer := "self-signed"
			if n.Issuer != nil {
				issuer = "issued by " + n.Issuer.Name
			}
			parts = append(parts, fmt.Sprintf("%s, %s, %s", n.Name, issuer, n.State))
			walk(n.Children)
		}
	}
	for _, h := range d.Hierarchies {
		walk(h.Roots)
		walk(h.Anchors)
	}
	for _, v := range d.Variables {
		var names []string
		for _, n := range v.Certificates {
			names = append(names, n.Name)
		}
		parts = append(parts, fmt.Sprintf("UEFI variable %s with %s, signed by %s, %s", v.ID(), strings.Join(names, " and "), v.Signer.Name, v.State))
	}
	return strings.Join(parts, "; ") + "."
}

// svgBlock is a node with all below it: sub CAs side by side, and what is no CA
// in a stack.
type svgBlock struct {
	node   *plan.Node
	spread []svgBlock
	stack  []*plan.Node
}

func newBlocks(h *plan.Hierarchy) []svgBlock {
	var blocks []svgBlock
	for _, root := range h.Roots {
		blocks = append(blocks, newBlock(root))
	}
	return blocks
}

func newBlock(n *plan.Node) svgBlock {
	b := svgBlock{node: n}
	for _, child := range n.Children {
		if child.Profile.CA() {
			b.spread = append(b.spread, newBlock(child))
		} else {
			b.stack = append(b.stack, child)
		}
	}
	b.stack = append(b.stack, n.Anchors...) // last, so that their line shows below the others'
	return b
}

func (b svgBlock) width() int {
	if len(b.spread) == 0 {
		return boxWidth
	}
	width := -gapX
	for _, s := range b.spread {
		width += s.width() + gapX
	}
	if len(b.stack) > 0 {
		width += gapX + boxWidth
	}
	return width
}

// block draws b with its upper left corner at x, y, and returns where it ends.
func (c *svgCanvas) block(b svgBlock, x, y int) int {
	left := x + (b.width()-boxWidth)/2
	c.box(b.node, left, y, boxWidth)
	bottom := y + boxHeight
	if len(b.spread) == 0 {
		return max(bottom, c.stack(b.stack, left, bottom))
	}
	top := bottom + gapY
	from := left + boxWidth/2
	for _, s := range b.spread {
		c.branch(from, y+boxHeight, x+s.width()/2)
		bottom = max(bottom, c.block(s, x, top))
		x += s.width() + gapX
	}
	if len(b.stack) > 0 {
		c.branch(from, y+boxHeight, x+indent/2)
		bottom = max(bottom, c.stack(b.stack, x, top-gapY/2))
	}
	return bottom
}

// branch draws the line from the lower side of an issuer to what it issues.
func (c *svgCanvas) branch(from, y, to int) {
	fmt.Fprintf(&c.lines, `<path d="M%d %dV%dH%dV%d"/>`+"\n", from, y, y+gapY/2, to, y+gapY)
}

// stack draws nodes one below the other, each on a line that begins at x, y.
func (c *svgCanvas) stack(nodes []*plan.Node, x, y int) int {
	top := y
	for _, n := range nodes {
		top += gapY / 2
		dashes := ""
		if n.TwinOf != nil {
			dashes = ` stroke-dasharray="2 4"`
		}
		fmt.Fprintf(&c.lines, `<path d="M%d %dV%dH%d"%s/>`+"\n", x+indent/2, y, top+boxHeight/2, x+indent, dashes)
		c.box(n, x+indent, top, boxWidth-indent)
		top += boxHeight
	}
	return top
}

// variables draws the UEFI variables in the order in which one signs the next.
func (c *svgCanvas) variables(d *plan.Drawing, x, y int) int {
	c.text(&c.boxes, x, y+18, "h2", "UEFI Secure Boot"+uefiRemark(d))
	y += 34
	bottom := y
	for i, v := range d.Variables {
		columns := min(len(v.Certificates), perRow)
		rows := (len(v.Certificates) + perRow - 1) / perRow
		width := columns*(boxWidth+gapX) + gapX
		height := 34 + rows*(boxHeight+gapX)
		fmt.Fprintf(&c.boxes, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="none" stroke="#8c959f"%s/>`+"\n", x, y, width, height, dashed(v.State))
		remark := "signed by " + v.Signer.Name
		if v.State == plan.StatePlanned {
			remark += ", " + string(v.State)
		}
		c.text(&c.boxes, x+gapX, y+22, "n", v.ID())
		c.text(&c.boxes, x+gapX+52, y+22, "s", remark)
		for j, n := range v.Certificates {
			c.box(n, x+gapX+j%perRow*(boxWidth+gapX), y+34+j/perRow*(boxHeight+gapX), boxWidth)
		}
		if i > 0 {
			fmt.Fprintf(&c.lines, `<path d="M%d %dH%dm-7 -5l7 5l-7 5"/>`+"\n", x-2*gapX, y+17, x-2)
		}
		x += width + 2*gapX
		bottom = max(bottom, y+height)
	}
	c.width = max(c.width, x-2*gapX)
	return bottom
}

// box draws one entry.
func (c *svgCanvas) box(n *plan.Node, x, y, width int) {
	b := &c.boxes
	c.width = max(c.width, x+width)
	colour := svgColour(n.State)
	fill := "#f6f8fa"
	if n.Profile.CA() {
		fill = "#ffffff"
	}
	fmt.Fprintf(b, "<g><title>%s</title>\n", escapeXML(tooltip(n)))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="%s" stroke-width="1.2"%s/>`+"\n", x, y, width, boxHeight, fill, colour, dashed(n.State))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="5" height="%d" rx="2" fill="%s"/>`+"\n", x, y, boxHeight, colour)
	room := width - 20
	c.text(b, x+13, y+19, "n", fit(n.Name, room, 8.4))
	c.text(b, x+13, y+36, "s", fit(n.Subject.CommonName(), room, 6.9))
	c.text(b, x+13, y+53, "m", n.KeyType.String())
	c.text(b, x+13, y+69, "m", fitMiddle(n.Key.String(), room, 6.4))
	c.text(b, x+13, y+86, "s", fit(strings.Join(nodeNotes(n), "; "), room, 6.9))
	fmt.Fprintf(b, `<text x="%d" y="%d" class="b" style="fill:%s">%s</text>`+"\n", x+13, y+106, colour, escapeXML(string(n.State)))
	end := expires(n)
	if n.Certificate != nil {
		end = "until " + end
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" class="s" text-anchor="end">%s</text>`+"\n</g>\n", x+width-9, y+106, escapeXML(end))
}

// tooltip has in full what may be cut in the box.
func tooltip(n *plan.Node) string {
	parts := append([]string{n.Name, n.Subject.String(), n.KeyType.String() + " at " + n.Key.String(), "key " + string(n.KeyState)}, nodeNotes(n)...)
	return strings.Join(append(parts, string(n.State)), "\n")
}

func (c *svgCanvas) text(b *strings.Builder, x, y int, class, s string) {
	if s != "" {
		fmt.Fprintf(b, `<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, class, escapeXML(ca.Printable(s)))
	}
}

func (c *svgCanvas) legend(x, y int) {
	for _, s := range []plan.State{plan.StateOK, plan.StateKeyOffline, plan.StateSoon, plan.StateExpired, plan.StateKeyMissing, plan.StatePlanned} {
		fmt.Fprintf(&c.boxes, `<rect x="%d" y="%d" width="12" height="12" rx="2" fill="%s"/>`+"\n", x, y, svgColour(s))
		c.text(&c.boxes, x+18, y+10, "s", string(s))
		x += 36 + 7*len(s)
	}
	fmt.Fprintf(&c.lines, `<path d="M%d %dh28"/><path d="M%d %dh28" stroke-dasharray="2 4"/>`+"\n", x, y+6, x+90, y+6)
	c.text(&c.boxes, x+34, y+10, "s", "issues")
	c.text(&c.boxes, x+124, y+10, "s", "has the same key")
}

func svgColour(s plan.State) string {
	switch s {
	case plan.StateOK:
		return "#1a7f37"
	case plan.StateSoon:
		return "#9a6700"
	case plan.StateKeyOffline:
		return "#0969da"
	case plan.StatePlanned:
		return "#6e7781"
	default:
		return "#cf222e"
	}
}

func dashed(s plan.State) string {
	if s == plan.StatePlanned {
		return ` stroke-dasharray="5 4"`
	}
	return ""
}

// fit cuts s to room pixels at so many pixels a character.
func fit(s string, room int, perRune float64) string {
	n := int(float64(room) / perRune)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return strings.TrimRight(string([]rune(s)[:n-1]), " ") + "…"
}

// fitMiddle is fit for what is told apart by its end, such as a path.
func fitMiddle(s string, room int, perRune float64) string {
	n := int(float64(room) / perRune)
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-n/2-1):])
}

// escapeXML escapes text for content and attributes.
func escapeXML(s string) string {
	var b strings.Builder
	// A strings.Builder takes everything.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// writeSVG writes the picture to a file, or to out for "-". It replaces a file
// only if that is an SVG: a slip of the hand must not cost a key.
func writeSVG(out io.Writer, path string, svg []byte) error {
	if path == "-" {
		_, err := out.Write(svg)
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.CreateFile(path, svg, 0o644)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("--svg: %q exists and is no file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	head, err := io.ReadAll(io.LimitReader(f, 512))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !strings.Contains(string(head), "<svg") {
		return fmt.Errorf("--svg: %q exists and is no SVG: it stays as it is", path)
	}
	return durable.WriteFile(path, svg, 0o644)
}
