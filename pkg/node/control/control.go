// Package control is the local socket through which the agent, and whoever is
// root, asks PID 1 for the state of services and for power.
//
// It is HTTP with JSON bodies over a Unix socket:
//
//	GET  /v1/services                       []supervise.Status
//	POST /v1/services/NAME/start|stop|restart
//	POST /v1/power/reboot|poweroff
//	GET  /v1/boot                           boot.Record
//
// An answer that is not 2xx has a body {"error": "…"}.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kedgeos/kedge/pkg/node/boot"
	"github.com/kedgeos/kedge/pkg/node/supervise"
	"github.com/kedgeos/kedge/pkg/sys/power"
)

// Path is where the socket of PID 1 stands.
const Path = "/run/kedge/init.sock"

// Init is the part of PID 1 that can be asked.
type Init interface {
	Services() []supervise.Status
	Start(service string) error
	Stop(service string) error
	Restart(service string) error
	Power(power.Action) error // begins; it does not wait for the end
	Boot() boot.Record
}

// Handler answers requests.
func Handler(i Init) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/services", func(w http.ResponseWriter, _ *http.Request) { reply(w, i.Services(), nil) })
	mux.HandleFunc("GET /v1/boot", func(w http.ResponseWriter, _ *http.Request) { reply(w, i.Boot(), nil) })
	for verb, do := range map[string]func(string) error{"start": i.Start, "stop": i.Stop, "restart": i.Restart} {
		mux.HandleFunc("POST /v1/services/{name}/"+verb, func(w http.ResponseWriter, r *http.Request) {
			reply(w, struct{}{}, do(r.PathValue("name")))
		})
	}
	for _, action := range []power.Action{power.Reboot, power.PowerOff} {
		mux.HandleFunc("POST /v1/power/"+string(action), func(w http.ResponseWriter, _ *http.Request) {
			reply(w, struct{}{}, i.Power(action))
		})
	}
	return mux
}

type failure struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, value any, err error) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case errors.Is(err, supervise.ErrUnknown):
		w.WriteHeader(http.StatusNotFound)
	case errors.Is(err, supervise.ErrClosed):
		w.WriteHeader(http.StatusServiceUnavailable)
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	}
	if err != nil {
		value = failure{err.Error()}
	}
	json.NewEncoder(w).Encode(value)
}

// Serve answers on a socket at path, which only root may open, until ctx ends.
func Serve(ctx context.Context, path string, i Init) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return err
	}
	server := &http.Server{Handler: Handler(i), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// A Client asks PID 1.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path; "" means Path.
func NewClient(path string) *Client {
	if path == "" {
		path = Path
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Services returns the status of all services, by name.
func (c *Client) Services(ctx context.Context) ([]supervise.Status, error) {
	var all []supervise.Status
	return all, c.call(ctx, http.MethodGet, "/v1/services", &all)
}

// Start starts a service.
func (c *Client) Start(ctx context.Context, service string) error {
	return c.call(ctx, http.MethodPost, "/v1/services/"+service+"/start", nil)
}

// Stop stops a service and waits for its end.
func (c *Client) Stop(ctx context.Context, service string) error {
	return c.call(ctx, http.MethodPost, "/v1/services/"+service+"/stop", nil)
}

// Restart stops a service and starts it again.
func (c *Client) Restart(ctx context.Context, service string) error {
	return c.call(ctx, http.MethodPost, "/v1/services/"+service+"/restart", nil)
}

// Power begins to restart or switch off the machine.
func (c *Client) Power(ctx context.Context, action power.Action) error {
	return c.call(ctx, http.MethodPost, "/v1/power/"+string(action), nil)
}

// Boot returns how this boot went so far.
func (c *Client) Boot(ctx context.Context) (boot.Record, error) {
	var r boot.Record
	return r, c.call(ctx, http.MethodGet, "/v1/boot", &r)
}

func (c *Client) call(ctx context.Context, method, path string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://init"+path, nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask init: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("ask init: %w", err)
	}
	if response.StatusCode >= 300 {
		var f failure
		if json.Unmarshal(body, &f) != nil || f.Error == "" {
			f.Error = string(bytes.TrimSpace(body))
		}
		return fmt.Errorf("init: %s", f.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}
