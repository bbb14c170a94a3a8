package datastore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
