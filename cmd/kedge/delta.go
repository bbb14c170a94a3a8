package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/host/delta"
)

func deltaCommand() *cli.Command {
	var top int
	return &cli.Command{
		Name: "delta", Usage: "OLD NEW", Short: "say what a machine with the old image must fetch of the new one, and of which files",
		Flags: func(f *flag.FlagSet) { f.IntVar(&top, "top", topParts, "`number` of parts to name, the largest first") },
		Run: func(_ context.Context, env cli.Env) error {
			if len(env.Args) != 3 {
				return cli.Usagef("delta: name two images, the old one first")
			}
			known, err := delta.Read(env.Args[1])
			if err != nil {
				return imageHint(err)
			}
			return printDelta(env.Stdout, known, env.Args[2], top)
		},
	}
}

// topParts is how many parts are named when nobody asks for another number.
const topParts = 12

// printDelta says what a machine lacks of an image.
func printDelta(w io.Writer, known delta.Known, image string, top int) error {
	r, err := delta.Compare(known, image)
	if err != nil {
		return imageHint(err)
	}
	fmt.Fprintf(w, "fetch %.1f of %.1f MB, %.2f %%: %d of %d chunks, and an index of %.0f kB\n",
		float64(r.Fetch+r.Index)/1e6, float64(r.Size)/1e6, r.Percent(), r.Missing, r.Chunks, float64(r.Index)/1e3)
	for _, p := range r.Parts[:min(top, len(r.Parts))] {
		fmt.Fprintf(w, "%12d of %-11d %s\n", p.Fetch, p.Size, p.Name)
	}
	return nil
}
