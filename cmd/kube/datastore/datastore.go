// Package datastore serves a SQLite database as etcd on a local socket, by kine.
package datastore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	_ "github.com/k3s-io/kine/pkg/drivers/sqlite" // the only driver of this version
	kineserver "github.com/k3s-io/kine/pkg/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// etcdVersion is what kine says it is; the API server asks for features by it.
const etcdVersion = "3.5.13"

// busyTimeout, in milliseconds, is how long a lock of somebody else is waited for:
// a server that is just ending still writes its log back.
const busyTimeout = "30000"

// sqliteOptions: a write-ahead log that is synced at each transaction, so that a
// power cut loses nothing that the API server has confirmed, as with etcd. With
// NORMAL, kine's own choice, it loses up to half a minute.
const sqliteOptions = "?_journal_mode=WAL&_busy_timeout=" + busyTimeout + "&_synchronous=FULL&_txlock=immediate&_pragma=wal_autocheckpoint(4000)"

// compactTimeout is for one batch of old revisions. Kine ends the whole program
// when it is over, so that a slow disk must not get there; batches are small
// because nobody else writes meanwhile.
const compactTimeout = 10 * time.Minute

// connections are how many requests read the database at once. Without a limit
// a crowd, such as all nodes of a large cluster after a restart, opens a file for
// each until there are no more.
const connections = 32

// Start opens or makes dir/state.db and serves it on the unix socket at path,
// which only root may open. It returns when the socket accepts connections;
// stopped gets one value when serving ends.
func Start(ctx context.Context, dir, socket string) (stopped <-chan error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := create(filepath.Join(dir, "state.db")); err != nil {
		return nil, fmt.Errorf("create datastore: %w", err)
	}
	_, backend, err := drivers.New(ctx, &sync.WaitGroup{}, &drivers.Config{
		Endpoint:             "sqlite://" + filepath.Join(dir, "state.db") + sqliteOptions,
		ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxIdle: 2, MaxOpen: connections},
		CompactInterval:      5 * time.Minute, CompactTimeout: compactTimeout,
		CompactMinRetain: 1000, CompactBatchSize: 250, PollBatchSize: 500,
	})
	if err != nil {
		return nil, fmt.Errorf("open datastore %s: %w", dir, err)
	}
	if err := backend.Start(ctx); err != nil {
		return nil, fmt.Errorf("start datastore %s: %w", dir, err)
	}
	listener, err := listen(socket)
	if err != nil {
		return nil, err
	}
	g := grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.MaxRecvMsgSize(2<<20), grpc.MaxSendMsgSize(1<<31-1), grpc.MaxConcurrentStreams(1<<32-1))
	kineserver.New(backend, "unix", 5*time.Second, etcdVersion).Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(listener) }()
	return done, nil
}

func listen(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(socket, 0o600)
}

// noFormerTable stands for a table of kine's first releases. Kine counts its rows
// and, when there are none, forgets the count of its own table halfway: that
// reader stays for ever, and the write-ahead log is never written back. The view
// has one row to count, and none to take over.
const noFormerTable = "CREATE VIEW IF NOT EXISTS key_value AS SELECT NULL AS id, NULL AS name, NULL AS value, 0 AS ttl"

// create makes an empty database of small pages when there is none. An update
// touches a page of the table and of each of its indexes, so that the renewal
// of a lease costs the disk ten pages. The size of a page cannot be changed
// later, once the log is on.
func create(file string) error {
	statements := noFormerTable
	if st, err := os.Stat(file); err != nil || st.Size() == 0 {
		statements = "PRAGMA page_size = 1024; VACUUM; " + statements
	}
	db, err := sql.Open("sqlite", file+"?_busy_timeout="+busyTimeout)
	if err != nil {
		return err
	}
	_, err = db.Exec(statements)
	return errors.Join(err, db.Close())
}
