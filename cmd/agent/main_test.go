package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kedgeos/kedge/pkg/api/config"
	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/control"
	"github.com/kedgeos/kedge/pkg/node/status"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kedge": main})
}

// TestScript runs the stories in testdata. An agent and a PID 1 that are made
// up answer them; what PID 1 was asked stands in the file "asked".
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(env *testscript.Env) error {
		ctx, cancel := context.WithCancel(context.Background())
		agent, pid1 := filepath.Join(env.WorkDir, "agent.sock"), filepath.Join(env.WorkDir, "init.sock")
		var served sync.WaitGroup
		served.Go(func() { _ = status.Serve(ctx, agent, node{}) })
		served.Go(func() { _ = control.Serve(ctx, pid1, &fakeInit{asked: filepath.Join(env.WorkDir, "asked")}) })
		env.Defer(func() { cancel(); served.Wait() })
		env.Setenv("KEDGE_AGENT_SOCKET", agent)
		env.Setenv("KEDGE_INIT_SOCKET", pid1)
		env.Setenv("KEDGE_LOG_FOLDER", env.WorkDir)
		for _, socket := range []string{agent, pid1} {
			for _, err := os.Stat(socket); err != nil; _, err = os.Stat(socket) {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	}})
}

// node is a machine in good health with one bad key.
type node struct{}

func (node) Status(context.Context) status.Status {
	return status.Status{
		Version: "0.1.0", Mode: "live", Hostname: "till-7", Online: true,
		Links:    []status.Link{{Name: "eth0", Carrier: true, Addresses: []string{"192.0.2.77/24"}}},
		Node:     status.Node{Name: "till-7", Role: "server", Address: "192.0.2.77", Ready: true, Kubernetes: "v1.36.3"},
		Login:    status.Login{User: "kedge", Keys: 1},
		Services: []status.Service{{Name: "kube", State: "running", Pid: 311}},
		Sources:  []string{"config.yaml"},
		Skipped:  []config.Problem{{File: "config.yaml", Line: 1, Column: 1, Key: "hostnam", Message: "unknown key", Nearest: "hostname"}},
	}
}

func (node) Config(context.Context) []status.Value {
	return []status.Value{{Key: "hostname", Value: "till-7", Source: "config.yaml", Line: 2}, {Key: "kedge.token", Value: config.Mask, Source: "kernel command line"}}
}

// fakeInit knows one service, kube, and writes down what it is asked.
type fakeInit struct{ asked string }

func (f *fakeInit) note(line string) error {
	file, err := os.OpenFile(f.asked, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(line + "\n")
	return err
}

func (f *fakeInit) service(verb, name string) error {
	if name != "kube" {
		return supervise.ErrUnknown
	}
	return f.note(verb + " " + name)
}

func (f *fakeInit) Services() []supervise.Status { return nil }
func (f *fakeInit) Start(name string) error      { return f.service("start", name) }
func (f *fakeInit) Stop(name string) error       { return f.service("stop", name) }
func (f *fakeInit) Restart(name string) error    { return f.service("restart", name) }
func (f *fakeInit) Power(a power.Action) error   { return f.note(string(a)) }
func (f *fakeInit) Boot() boot.Record            { return boot.Record{} }
