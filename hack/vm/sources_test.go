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
// variable, this host's into another, with _HERE behind the name.
func serveRegistry(ts *script, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: registry VARIABLE")
	}
	folder := ts.MkAbs("registry-blobs")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	blobs := registry.NewDiskBlobHandler(folder)
	port, err := listen(ts, registry.New(registry.WithBlobHandler(blobs), registry.Logger(log.New(io.Discard, "", 0))))
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
	after, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	times, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	var left atomic.Int64
	left.Store(int64(times))
	files := http.FileServer(http.Dir(ts.MkAbs(args[1])))
	port, err := listen(ts, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".iso") && left.Add(-1) >= 0 {
			w = &stalling{w, r, after}
		}
		files.ServeHTTP(w, r)
	}))
	if err != nil {
		return err
	}
	ts.Setenv(args[0], fmt.Sprintf("http://%s:%d", hostInNAT, port))
	return nil
}

// stalling is an answer that stops.
type stalling struct {
	http.ResponseWriter
	r    *http.Request
	left int
}

// Write implements io.Writer.
func (s *stalling) Write(p []byte) (int, error) {
	n := min(s.left, len(p))
	s.left -= n
	if _, err := s.ResponseWriter.Write(p[:n]); err != nil || n == len(p) {
		return n, err
	}
	s.ResponseWriter.(http.Flusher).Flush()
	<-s.r.Context().Done()
	return n, s.r.Context().Err()
}
