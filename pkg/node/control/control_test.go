package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// machine writes down what it is asked.
type machine struct{ log strings.Builder }

func (m *machine) note(format string, args ...any) error {
	fmt.Fprintf(&m.log, format+"\n", args...)
	return nil
}

func (m *machine) Services() []supervise.Status {
	return []supervise.Status{{Name: "kube", State: supervise.Running, Pid: 7, Since: time.Unix(1, 0).UTC()}}
}
func (m *machine) Start(name string) error {
	if name == "nobody" {
		return fmt.Errorf("%s: %w", name, supervise.ErrUnknown)
	}
	return m.note("start %s", name)
}
func (m *machine) Stop(name string) error     { return m.note("stop %s", name) }
func (m *machine) Restart(name string) error  { return m.note("restart %s", name) }
func (m *machine) Power(a power.Action) error { return m.note("power %s", a) }
func (m *machine) Boot() boot.Record          { return boot.Record{Mode: "live", ID: "0123"} }

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "init.sock")
	ctx, cancel := context.WithCancel(t.Context())
	var m machine
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, path, &m) }()
	for {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm() == 0o600 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c := NewClient(path)
	if got, err := c.Services(ctx); err != nil || !reflect.DeepEqual(got, m.Services()) {
		t.Errorf("Services = %+v, %v", got, err)
	}
	if got, err := c.Boot(ctx); err != nil || got.ID != "0123" {
		t.Errorf("Boot = %+v, %v", got, err)
	}
	for _, call := range []func() error{
		func() error { return c.Start(ctx, "kube") },
		func() error { return c.Stop(ctx, "kube") },
		func() error { return c.Restart(ctx, "sshd") },
		func() error { return c.Power(ctx, power.PowerOff) },
		func() error { return c.Power(ctx, power.Reboot) },
	} {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	if want := "start kube\nstop kube\nrestart sshd\npower poweroff\npower reboot\n"; m.log.String() != want {
		t.Errorf("asked:\n%swant:\n%s", m.log.String(), want)
	}
	for want, err := range map[string]error{
		"init: nobody: no such service": c.Start(ctx, "nobody"),
		"init: 404 page not found":      c.Power(ctx, power.Halt),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
