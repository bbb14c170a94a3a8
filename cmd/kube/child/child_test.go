package child

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The test program is its own child: with mark set it leaves a trace and ends
// or stays, as asked.
func TestMain(m *testing.M) {
	mark, ask := os.Getenv("CHILD_MARK"), os.Getenv("CHILD_ASK")
	if mark == "" {
		os.Exit(m.Run())
	}
	f, err := os.CreateTemp(mark, "run-")
	if err != nil {
		os.Exit(3)
	}
	f.Close()
	if ask == "stay" {
		time.Sleep(time.Hour)
	}
	os.Exit(1)
}

func runs(t *testing.T, dir string) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "run-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func keep(t *testing.T, ask string) (dir string, stop context.CancelFunc, ended chan struct{}) {
	dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ended = make(chan struct{})
	go func() {
		Keep(ctx, Command{Name: "part", Args: []string{"part"}, Env: []string{"CHILD_MARK=" + dir, "CHILD_ASK=" + ask}}, time.Second)
		close(ended)
	}()
	return dir, cancel, ended
}

func TestKeepStartsAgain(t *testing.T) {
	dir, _, _ := keep(t, "end")
	wait(t, "the part was not started again", func() bool { return runs(t, dir) >= 2 })
}

func TestKeepEndsWithItsContext(t *testing.T) {
	dir, stop, ended := keep(t, "stay")
	wait(t, "the part was not started", func() bool { return runs(t, dir) == 1 })
	stop()
	wait(t, "Keep did not return", func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	if n := runs(t, dir); n != 1 {
		t.Errorf("the part ran %d times", n)
	}
}
