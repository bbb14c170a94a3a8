// Package datastore gives the API server its etcd interface: kine on a SQLite
// file, served on a unix socket that only root can open.
//
// A commit is written to the write-ahead log and synced at the checkpoints
// only. After a power cut the file is sound, but the last seconds may be
// missing.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	_ "github.com/k3s-io/kine/pkg/drivers/sqlite" // registers itself
	kineserver "github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// parameters of SQLite. Small pages make small writes: an update of a lease
// touches a page of the table and of each of six indexes.
const parameters = "?_pragma=page_size(1024)&_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate&_pragma=wal_autocheckpoint(4096)"

// Store is a datastore that answers.
type Store struct {
	URL  string // for --etcd-servers
	grpc *grpc.Server
	wg   sync.WaitGroup
}

// Start opens dir/state.db, made when absent, and serves it on dir/kine.sock.
// It runs until ctx ends; Wait then returns once the file is closed.
func Start(ctx context.Context, dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make datastore folder: %w", err)
	}
	s := &Store{}
	_, backend, err := drivers.New(ctx, &s.wg, &drivers.Config{
		Endpoint:             "sqlite://" + filepath.Join(dir, "state.db") + parameters,
		ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxIdle: 2},
		CompactInterval:      5 * time.Minute,
		CompactTimeout:       5 * time.Second,
		CompactMinRetain:     1000,
		CompactBatchSize:     1000,
		PollBatchSize:        500,
	})
	if err != nil {
		return nil, fmt.Errorf("open datastore in %s: %w", dir, err)
	}
	if err := backend.Start(ctx); err != nil {
		return nil, fmt.Errorf("start datastore in %s: %w", dir, err)
	}
	listener, err := listen(filepath.Join(dir, "kine.sock"))
	if err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.MaxRecvMsgSize(2<<20), grpc.MaxSendMsgSize(1<<31-1), grpc.MaxConcurrentStreams(1<<32-1))
	kineserver.New(backend, "unix", 5*time.Second, "3.5.13").Register(s.grpc)
	go func() { <-ctx.Done(); s.grpc.Stop() }()
	s.wg.Go(func() { _ = s.grpc.Serve(listener) }) // ends with ctx
	s.URL = "unix://" + listener.Addr().String()
	return s, nil
}

// Wait returns when the file is closed.
func (s *Store) Wait() { s.wg.Wait() }

// listen makes the socket in a folder that is closed to others, so that it is
// never open to them.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for the API server: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close socket to others: %w", err), l.Close())
	}
	return l, nil
}
