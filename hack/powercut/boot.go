package main

import (
	"context"

	"github.com/kedgeos/kedge/hack/powercut/record"
	"github.com/kedgeos/kedge/hack/powercut/replay"
)

func (o options) boots(ctx context.Context, r *record.Recording, l *replay.Log, cuts []replay.Cut) (int, error) {
	return 0, nil
}
