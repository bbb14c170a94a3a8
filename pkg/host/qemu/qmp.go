package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Control is a QMP connection. Its methods may be called from any goroutine.
type Control struct {
	conn io.ReadWriteCloser

	asking  sync.Mutex // one question at a time
	answers chan message

	mu     sync.Mutex
	events []Event
	closed error
	change chan struct{}
	ended  chan struct{}
}

// An Event is something QEMU tells unasked, such as SHUTDOWN or RESET.
type Event struct {
	Name string
	Data json.RawMessage
}

type message struct {
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
	Event  string
	Data   json.RawMessage
	QMP    json.RawMessage
}

// DialControl connects to QEMU's control socket and waits until it takes
// commands.
func DialControl(ctx context.Context, path string) (*Control, error) {
	var conn net.Conn
	err := retry(ctx, 50*time.Millisecond, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU: %w", err)
	}
	c := newControl(conn)
	if _, err := c.Command(ctx, "qmp_capabilities", nil); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// retry calls f every pause until it succeeds or ctx ends.
func retry(ctx context.Context, pause time.Duration, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

func newControl(conn io.ReadWriteCloser) *Control {
	c := &Control{conn: conn, answers: make(chan message, 1), change: make(chan struct{}), ended: make(chan struct{})}
	go c.read()
	return c
}

func (c *Control) read() {
	d := json.NewDecoder(c.conn)
	for {
		var m message
		if err := d.Decode(&m); err != nil {
			c.end(err)
			return
		}
		switch {
		case m.Event != "":
			c.note(Event{m.Event, m.Data})
		case m.Return != nil || m.Error != nil:
			c.answers <- m
		}
	}
}

func (c *Control) note(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
	close(c.change)
	c.change = make(chan struct{})
}

func (c *Control) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = err
	close(c.change)
	close(c.answers)
	close(c.ended)
}

// Close ends the connection, not the machine.
func (c *Control) Close() error { return c.conn.Close() }

// Command runs one QMP command and returns its answer.
func (c *Control) Command(ctx context.Context, name string, args map[string]any) (json.RawMessage, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	question := map[string]any{"execute": name}
	if args != nil {
		question["arguments"] = args
	}
	b, err := json.Marshal(question)
	if err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		return nil, fmt.Errorf("QEMU %s: %w", name, err)
	}
	select {
	case m, ok := <-c.answers:
		switch {
		case !ok:
			return nil, fmt.Errorf("QEMU %s: %w", name, errGone)
		case m.Error != nil:
			return nil, fmt.Errorf("QEMU %s: %s", name, m.Error.Desc)
		}
		return m.Return, nil
	case <-ctx.Done():
		c.conn.Close() // its late answer would be taken for the next one's
		return nil, fmt.Errorf("QEMU %s: %w", name, context.Cause(ctx))
	}
}

var errGone = errors.New("QEMU has ended")

// Count returns how many events of this name came so far.
func (c *Control) Count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count(name)
}

func (c *Control) count(name string) int {
	n := 0
	for _, e := range c.events {
		if e.Name == name {
			n++
		}
	}
	return n
}

// WaitEvent waits until n events of this name have come in all.
func (c *Control) WaitEvent(ctx context.Context, name string, n int) error {
	for {
		c.mu.Lock()
		got, closed, change := c.count(name), c.closed, c.change
		c.mu.Unlock()
		switch {
		case got >= n:
			return nil
		case closed != nil:
			return fmt.Errorf("wait for QEMU's %s: %w", name, errGone)
		}
		select {
		case <-change:
		case <-ctx.Done():
			return fmt.Errorf("wait for QEMU's %s: %w", name, context.Cause(ctx))
		}
	}
}

// guestShutdown tells, once QEMU has ended, whether the guest itself asked for
// the end.
func (c *Control) guestShutdown() bool {
	<-c.ended
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		var data struct{ Guest bool }
		if e.Name == "SHUTDOWN" && json.Unmarshal(e.Data, &data) == nil && data.Guest {
			return true
		}
	}
	return false
}
