package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

type source struct{}

func (source) Status(context.Context) Status { return ready() }
func (source) Config(context.Context) []Value {
	return []Value{{"hostname", "till-7", "config.yaml", 1}}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	c := Client{Socket: path}
	if _, err := c.Status(context.Background()); !errors.Is(err, ErrNoAgent) {
		t.Errorf("nobody there: %v, want ErrNoAgent", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // left behind by an earlier agent
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, path, source{}) }()
	var got Status
	for {
		var err error
		if got, err = c.Status(context.Background()); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if !reflect.DeepEqual(got, ready()) {
		t.Errorf("Status = %+v", got)
	}
	if values, err := c.Config(context.Background()); err != nil || len(values) != 1 || values[0].Line != 1 {
		t.Errorf("Config = %v, %v", values, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket mode %v, %v", info.Mode(), err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
