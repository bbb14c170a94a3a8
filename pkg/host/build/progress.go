package build

import "fmt"

// Progress shows what the builder is doing.
type Progress interface {
	// Step begins a step; it ends with Done or with the next Step.
	Step(name string) Step
	// Warn shows something the user should know.
	Warn(text string)
}

// A Step is under way.
type Step interface {
	Bytes(done, total int64)
	Done(result string)
}

// Quiet shows nothing.
type Quiet struct{}

func (Quiet) Step(string) Step   { return Quiet{} }
func (Quiet) Warn(string)        {}
func (Quiet) Bytes(int64, int64) {}
func (Quiet) Done(string)        {}

func (b *builder) step(name string) Step { return b.Progress.Step(name) }

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
