package upgradesocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// ErrNoAgent means that nobody answers on the socket.
var ErrNoAgent = errors.New("the agent does not answer")

// A Client asks the agent. The zero value asks the one of this machine.
type Client struct{ Socket string }

// Status asks how upgrades stand. The errors of all verbs wrap ErrNoAgent when
// nobody answers, and are an *Error when the agent says no.
func (c Client) Status(ctx context.Context) (Status, error) {
	return c.do(ctx, http.MethodGet, "status", nil)
}

// Stage asks for releases to be brought.
func (c Client) Stage(ctx context.Context, s Stage) (Status, error) {
	return c.do(ctx, http.MethodPost, "stage", s)
}

// Activate asks for the trial of what is staged.
func (c Client) Activate(ctx context.Context, a Activate) (Status, error) {
	return c.do(ctx, http.MethodPost, "activate", a)
}

// Confirm lets a trial come to its end.
func (c Client) Confirm(ctx context.Context, r Confirm) (Status, error) {
	return c.do(ctx, http.MethodPost, "confirm", r)
}

// Rollback asks to go back.
func (c Client) Rollback(ctx context.Context, r Rollback) (Status, error) {
	return c.do(ctx, http.MethodPost, "rollback", r)
}

// Snapshot asks for the datastore to be saved.
func (c Client) Snapshot(ctx context.Context, s Snapshot) (Status, error) {
	return c.do(ctx, http.MethodPost, "snapshot", s)
}

// Cancel ends what goes on in the background, and forgets what is staged.
func (c Client) Cancel(ctx context.Context) (Status, error) {
	return c.do(ctx, http.MethodPost, "cancel", struct{}{})
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 1 << 20

func (c Client) do(ctx context.Context, method, verb string, body any) (s Status, err error) {
	socket := c.Socket
	if socket == "" {
		socket = Path
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return s, err
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent/v1/"+verb, content)
	if err != nil {
		return s, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return s, fmt.Errorf("ask agent at %s: %w: %w", socket, ErrNoAgent, err)
	}
	defer resp.Body.Close()
	answer := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		var no Error
		if err := answer.Decode(&no); err != nil || no.Message == "" {
			return s, fmt.Errorf("ask agent for %s: answered %s", verb, resp.Status)
		}
		return s, fmt.Errorf("ask agent for %s: %w", verb, &no)
	}
	if err := answer.Decode(&s); err != nil {
		return s, fmt.Errorf("read answer of agent: %w", err)
	}
	return s, nil
}
