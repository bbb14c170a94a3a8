package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"
)

// ErrNoAgent means that the agent does not answer.
var ErrNoAgent = errors.New("the agent does not answer")

// A Source gives the answers of the socket.
type Source interface {
	Status(context.Context) Status
	Config(context.Context) []Value
}

// Serve answers on the socket at path until ctx ends.
func Serve(ctx context.Context, path string, s Source) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return errors.Join(err, l.Close())
	}
	server := &http.Server{Handler: handler(s), ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

func handler(s Source) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, s.Status(r.Context())) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, r *http.Request) { answer(w, s.Config(r.Context())) })
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the asker has gone
}

// A Client asks the agent. The zero value asks the one of this machine.
type Client struct{ Socket string }

// Status asks how the node is. The error wraps ErrNoAgent when nobody answers.
func (c Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/v1/status", &s)
}

// Config asks for the effective configuration. The error wraps ErrNoAgent when
// nobody answers.
func (c Client) Config(ctx context.Context) ([]Value, error) {
	var v []Value
	return v, c.get(ctx, "/v1/config", &v)
}

func (c Client) get(ctx context.Context, path string, v any) error {
	socket := c.Socket
	if socket == "" {
		socket = Socket
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask agent at %s: %w: %w", socket, ErrNoAgent, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask agent for %s: answered %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("read answer of agent: %w", err)
	}
	return nil
}
