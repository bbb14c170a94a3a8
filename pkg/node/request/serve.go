// Package request answers what a pod of the cluster asks of this machine's agent
// (api/upgradesocket): it takes requests from the socket, refuses those that are
// not sound, and lets one long piece of work at a time go on in the background.
//
// What the verbs do to the machine is the Machine's matter, which is where every
// rule is: a caller can ask for an upgrade, and allow nothing that the machine's
// own configuration does not.
package request

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	ask "github.com/kedgeos/kedge/pkg/api/upgradesocket"
)

// Socket is where to answer, and for whom.
type Socket struct {
	Path  string
	Group int // that may ask beside root; -1 for none
}

// Serve answers on the socket until ctx ends, and then until what goes on in the
// background has ended. The folder stays.
func Serve(ctx context.Context, s Socket, d *Desk) error {
	defer d.Wait()
	l, err := s.listen()
	if err != nil {
		return fmt.Errorf("open socket %s: %w", s.Path, err)
	}
	server := &http.Server{Handler: d.handler(ctx), ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.Path, err)
	}
	return nil
}

// listen makes the socket, so that nobody else can ever connect: the folder is
// closed before the socket is there.
func (s Socket) listen() (net.Listener, error) {
	folder := filepath.Dir(s.Path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", s.Path)
	if err != nil {
		return nil, err
	}
	if err := s.open(folder); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// open lets the group in.
func (s Socket) open(folder string) error {
	if s.Group < 0 {
		return os.Chmod(s.Path, 0o600)
	}
	for _, path := range []string{s.Path, folder} {
		if err := os.Chown(path, -1, s.Group); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(s.Path, 0o660), os.Chmod(folder, 0o750))
}

// maxRequest bounds a request, in bytes.
const maxRequest = 64 << 10

// handler answers the verbs; what goes on in the background ends with ctx.
func (d *Desk) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		d.answer(r.Context(), w, http.StatusOK, nil)
	})
	verb := func(name string, do func(r *http.Request) error) {
		mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			d.answer(r.Context(), w, http.StatusAccepted, do(r))
		})
	}
	verb("stage", func(r *http.Request) error {
		s, err := read[ask.Stage](r)
		if err != nil {
			return err
		}
		return d.stage(ctx, s)
	})
	verb("snapshot", func(r *http.Request) error {
		s, err := read[ask.Snapshot](r)
		if err != nil {
			return err
		}
		return d.snapshot(ctx, s)
	})
	verb("activate", func(r *http.Request) error {
		a, err := read[ask.Activate](r)
		if err != nil {
			return err
		}
		return d.activate(ctx, a)
	})
	verb("confirm", func(r *http.Request) error {
		c, err := read[ask.Confirm](r)
		if err != nil {
			return err
		}
		return d.confirm(ctx, c)
	})
	verb("rollback", func(r *http.Request) error {
		b, err := read[ask.Rollback](r)
		if err != nil {
			return err
		}
		return d.rollback(ctx, b)
	})
	verb("cancel", func(r *http.Request) error { return d.cancel(ctx) })
	return mux
}

// read reads a request; a field that is not known is one that would not be
// heeded.
func read[T any](r *http.Request) (v T, err error) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return v, &ask.Error{Reason: ask.Invalid, Message: fmt.Sprintf("read request: %v", err)}
	}
	return v, nil
}

// answer writes the status, or why something was refused.
func (d *Desk) answer(ctx context.Context, w http.ResponseWriter, code int, err error) {
	var s ask.Status
	if err == nil {
		s, err = d.Status(ctx)
	}
	var body any = s
	if err != nil {
		no := d.errorOf(err)
		body, code = no, http.StatusConflict
		if no.Reason == ask.Invalid {
			code = http.StatusBadRequest
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // an error means that the asker has gone
}

// errorOf makes an error one of the socket.
func (d *Desk) errorOf(err error) *ask.Error {
	var e *ask.Error
	if errors.As(err, &e) {
		return e
	}
	e = d.Machine.Explain(err)
	if errors.Is(err, context.Canceled) {
		e.Reason = ask.Interrupted
	}
	return e
}
