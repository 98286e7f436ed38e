package main

import (
	"fmt"
	"io"
	"os"
	"time"

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

	begun time.Time // of a batch
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

// requests shows how far a batch is, of which the total is known in requests, or in
// octets, or not at all.
func (p *progress) requests(done, total, read, size int64) {
	if p.bars == nil {
		return
	}
	if total == 0 {
		total = size
	}
	if p.bar == nil {
		decorators := []decor.Decorator{decor.Any(func(decor.Statistics) string { return " " + p.now })}
		if total > 0 {
			decorators = append(decorators, decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 1}))
		}
		p.bar = p.bars.AddBar(total, mpb.BarRemoveOnComplete(), mpb.AppendDecorators(decorators...))
		p.begun = time.Now()
	}
	if done%64 != 0 {
		return
	}
	p.now = fmt.Sprintf("%d requests, %.0f/s, remaining ", done, float64(done)/time.Since(p.begun).Seconds())
	if total == size {
		done = read
	}
	if total > 0 {
		p.bar.SetCurrent(min(done, total-1)) // it ends when the batch ends
	}
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
	p.bars = nil
}
