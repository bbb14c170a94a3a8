package main

import (
	"context"
	"fmt"
	"io"

	"github.com/kedgeos/kedge/pkg/cli"
	"github.com/kedgeos/kedge/pkg/node/boot"
)

// damagedText says what a machine does whose state cannot be used, and the way
// out; "" when its state is as it should be.
func damagedText(r boot.Record) string {
	if r.StateDamage == "" {
		return ""
	}
	return fmt.Sprintf("DAMAGED, all is in memory and Kubernetes does not run; %s: %s. %s", r.StateDevice, r.StateDamage, boot.StateAdvice)
}

// errDamaged refuses a reset that needs the state it would empty.
func errDamaged(r boot.Record) error {
	return cli.Hint(fmt.Errorf("reset: the state on %s cannot be used: %s", r.StateDevice, r.StateDamage),
		"\"kedge reset --format\" makes a new file system there; what could be read of the configuration, the keys and the name is kept")
}

// formatState gives a damaged state up.
func formatState(ctx context.Context, w io.Writer, r boot.Record) error {
	fmt.Fprintf(w, "making a new state file system on %s\n", r.StateDevice)
	return boot.FormatState(ctx, r.StateDevice, "/var")
}
