package datastore

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// start serves the datastore in dir until the end of the test, or until stop.
func start(t *testing.T, dir string) (c *clientv3.Client, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	socket := filepath.Join(t.TempDir(), "socket")
	if _, err := Start(ctx, dir, socket); err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Cleanup(cancel)
	return c, cancel
}

// The write-ahead log is written back while the datastore is in use, from its
// first start on and after another, so that it does not fill the disk.
func TestLogIsWrittenBack(t *testing.T) {
	const most = 16 << 20 // bytes, four times what it is to be
	dir := t.TempDir()
	for round := range 2 {
		c, stop := start(t, dir)
		log := func() int64 {
			st, err := os.Stat(filepath.Join(dir, "state.db-wal"))
			if err != nil {
				t.Fatal(err)
			}
			return st.Size()
		}
		begun := log() // the whole database went through it, to be packed
		value := strings.Repeat("x", 8000)
		for i := range 3000 {
			key := fmt.Sprintf("/registry/%d/%d", round, i)
			r, err := c.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision(key), "=", 0)).Then(clientv3.OpPut(key, value)).Commit()
			if err != nil || !r.Succeeded {
				t.Fatal(r, err)
			}
		}
		if now := log(); now > max(begun, most) {
			t.Errorf("round %d: the log has %d bytes, and had %d", round, now, begun)
		}
		got, err := c.Get(t.Context(), fmt.Sprintf("/registry/%d/2999", round))
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
			t.Errorf("round %d: %d values, %v", round, len(got.Kvs), err)
		}
		stop()
	}
}

// A server that is just ending holds the database; the next one waits for it.
func TestLockIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "state.db")
	if err := create(file); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", file+"?_txlock=exclusive")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	lock, err := other.Begin()
	if err != nil {
		t.Fatal(err)
	}
	created := make(chan error)
	go func() { created <- create(file) }()
	select {
	case err := <-created:
		t.Errorf("created beside the lock of another: %v", err)
		return
	case <-time.After(300 * time.Millisecond):
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-created; err != nil {
		t.Error(err)
	}
}
