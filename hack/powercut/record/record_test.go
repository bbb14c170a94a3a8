package record

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kedgeos/kedge/hack/powercut/replay"
)

func story() Recording {
	return Recording{Size: 200, Small: 100, Marks: []Mark{
		{0, Phase, "install", "", nil},
		{3, Phase, "life", "", nil},
		{3, Good, "", "", []string{"a"}},
		{4, Slot, "b", "one", nil},
		{5, Slot, "a", "two", nil},
		{5, Grown, "", "", nil},
		{7, Slot, "b", "", nil},
		{7, Good, "", "", []string{"a", "b"}},
	}}
}

// TestPromised: what is promised of a thing holds until something else is.
func TestPromised(t *testing.T) {
	r := story()
	for at, want := range map[int]string{
		2: "[]",
		3: "[{3 good   [a]}]",
		4: "[{3 good   [a]} {4 slot b one []}]",
		6: "[{3 good   [a]} {4 slot b one []} {5 slot a two []} {5 grown   []}]",
		9: "[{5 slot a two []} {5 grown   []} {7 slot b  []} {7 good   [a b]}]",
	} {
		if got := fmt.Sprint(r.Promised(at)); got != want {
			t.Errorf("after %d events %s, want %s", at, got, want)
		}
	}
	if r.SizeAt(4) != 100 || r.SizeAt(5) != 200 {
		t.Errorf("sizes %d, %d", r.SizeAt(4), r.SizeAt(5))
	}
	if got, want := fmt.Sprint(r.Phases(9)), fmt.Sprint([]replay.Phase{{Name: "install", From: 0, To: 3}, {Name: "life", From: 3, To: 9}}); got != want {
		t.Errorf("phases %s, want %s", got, want)
	}
}

func TestCopySparse(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	data := make([]byte, 300<<10)
	data[5], data[200<<10] = 1, 2
	if err := os.WriteFile(from, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CopySparse(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy differs: %v", err)
	}
}
