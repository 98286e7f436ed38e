package main

import (
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"tmpki/plan"
)

// progress is a bar on a terminal, and nothing in a pipe.
type progress struct {
	bars *mpb.Progress
	bar  *mpb.Bar
	now  string
}

func (a *app) newProgress() *progress {
	if a.quiet || a.json || !term.IsTerminal(int(os.Stderr.Fd())) {
		return &progress{}
	}
	return &progress{bars: mpb.New(mpb.WithOutput(io.Writer(os.Stderr)), mpb.WithWidth(40))}
}

// step is a plan.Options.Progress.
func (p *progress) step(done, total int, s plan.Step) {
	if p.bars == nil {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(int64(total), mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.CountersNoUnit("%d/%d ")),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + p.now })))
	}
	p.now = string(s.Kind) + " " + s.Name()
	p.bar.SetCurrent(int64(done))
}

// files shows how many of many files are done.
func (p *progress) files(done, total int) {
	if p.bars == nil {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(int64(total), mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.CountersNoUnit("%d/%d files ")),
			mpb.AppendDecorators(decor.AverageETA(decor.ET_STYLE_GO)))
	}
	p.bar.SetCurrent(int64(done))
}

// count shows how many of an unknown number are done.
func (p *progress) count(done int) {
	if p.bars == nil {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(0, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.CurrentNoUnit("%d done ")),
			mpb.AppendDecorators(decor.AverageSpeed(0, "%.0f/s")))
	}
	p.bar.SetTotal(int64(done)+1, false)
	p.bar.SetCurrent(int64(done))
}

// bytes shows how much of a long read is done.
func (p *progress) bytes(done, total int64) {
	if p.bars == nil {
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.CountersKibiByte("% .1f / % .1f ")),
			mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), " % .1f")))
	}
	p.bar.SetCurrent(done)
}

// close takes the bar away, finished or not.
func (p *progress) close() {
	if p.bars == nil {
		return
	}
	if p.bar != nil {
		p.bar.Abort(true)
	}
	p.bars.Wait()
}
