package main

import (
	"errors"
	"testing"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/storage"
)

func TestHoldText(t *testing.T) {
	optional := storage.Failure{Item: config.Storage{Path: "/var/a"}, Err: errors.New("gone")}
	required := storage.Failure{Index: 1, Item: config.Storage{Path: "/var/b", Required: true}, Err: errors.New("no such disk")}
	for _, c := range []struct {
		failures []storage.Failure
		want     string
	}{
		{nil, ""},
		{[]storage.Failure{optional}, ""},
		{[]storage.Failure{optional, required}, "Kubernetes is not started until required storage is there: /var/b (no such disk)"},
	} {
		if got := holdText(c.failures); got != c.want {
			t.Errorf("holdText = %q, want %q", got, c.want)
		}
	}
}
