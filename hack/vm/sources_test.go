package vm

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/registry"
)

// listen serves what a story needs from this host, until its end.
func listen(ts *script, h http.Handler) (port int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(listener)
	l := labOf(ts)
	l.closers = append(l.closers, func() { server.Close() })
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// serveRegistry serves an empty registry: the guest's name for it goes into a
// variable, this host's into another, with _HERE behind the name. It may stall
// as serveStalling does.
func serveRegistry(ts *script, args []string) error {
	if len(args) != 1 && len(args) != 3 {
		return errors.New("usage: registry VARIABLE [BYTES TIMES]")
	}
	folder := ts.MkAbs("registry-blobs")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	blobs := registry.NewDiskBlobHandler(folder)
	h := registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0)))
	if len(args) == 3 {
		var err error
		if h, err = stalls(h, isBlob, args[1], args[2]); err != nil {
			return err
		}
	}
	port, err := listen(ts, h)
	if err != nil {
		return err
	}
	ts.Setenv(args[0], fmt.Sprintf("%s:%d", hostInNAT, port))
	ts.Setenv(args[0]+"_HERE", fmt.Sprintf("127.0.0.1:%d", port))
	return nil
}

// serveStalling serves a folder as serve does, but the first answers of more
// than so many bytes stop there, without an end.
func serveStalling(ts *script, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: stall VARIABLE DIR BYTES TIMES")
	}
	h, err := stalls(http.FileServer(http.Dir(ts.MkAbs(args[1]))), isImage, args[2], args[3])
	if err != nil {
		return err
	}
	port, err := listen(ts, h)
	if err != nil {
		return err
	}
	ts.Setenv(args[0], fmt.Sprintf("http://%s:%d", hostInNAT, port))
	return nil
}

func isImage(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, ".iso") }

func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// stalls makes the first answers to such requests stop after so many bytes; an
// answer that is shorter counts for none.
func stalls(h http.Handler, such func(*http.Request) bool, bytes, times string) (http.Handler, error) {
	after, err := strconv.Atoi(bytes)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(times)
	if err != nil {
		return nil, err
	}
	var left atomic.Int64
	left.Store(int64(n))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if such(r) {
			w = &stalling{w, r, after, &left}
		}
		h.ServeHTTP(w, r)
	}), nil
}

// stalling is an answer that stops.
type stalling struct {
	http.ResponseWriter
	r     *http.Request
	left  int
	times *atomic.Int64 // that an answer still stops
}

// Write implements io.Writer.
func (s *stalling) Write(p []byte) (int, error) {
	n := max(min(s.left, len(p)), 0)
	if n == len(p) || s.times.Add(-1) < 0 {
		s.left -= len(p)
		return s.ResponseWriter.Write(p)
	}
	if _, err := s.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	s.ResponseWriter.(http.Flusher).Flush()
	<-s.r.Context().Done()
	return n, s.r.Context().Err()
}
