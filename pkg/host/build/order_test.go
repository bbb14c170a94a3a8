package build

import (
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/host/rootfs"
)

func TestPackOrder(t *testing.T) {
	b := &builder{
		recipe: &Recipe{
			Programs: []Program{{Name: "agent"}, {Name: "kube", Module: "cmd/kube"}},
			Images:   []Image{{Name: "kedge.local/pause:v1"}},
		},
		lock: Lock{Packages: []Locked{{Name: "bash"}, {Name: "zlib1g"}}},
	}
	tree := rootfs.New()
	for _, f := range [][2]string{
		{"etc/issue", "overlay"}, {"usr/bin/bash", "bash"}, {"usr/bin/kedge", "agent"}, {"usr/bin/kube", "kube"},
		{"usr/lib/libz.so", "zlib1g"}, {"usr/lib/modules/6.0/a.ko", "modules"}, {"usr/share/bash/x", "bash"}, {"usr/share/pause.tar", "kedge.local/pause:v1"},
	} {
		if err := tree.File(f[0], 0o644, rootfs.Bytes([]byte(f[0])), f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Symlink("usr/bin/sh", "bash", "recipe"); err != nil {
		t.Fatal(err)
	}
	order := b.packOrder(tree)
	var files []string
	for _, p := range order {
		if e, _ := tree.Get(p); e.Mode.IsRegular() {
			files = append(files, p)
		} else if len(files) > 0 {
			t.Errorf("%s comes behind a file", p)
		}
	}
	want := "usr/bin/bash usr/share/bash/x usr/lib/libz.so usr/lib/modules/6.0/a.ko usr/share/pause.tar usr/bin/kube usr/bin/kedge etc/issue"
	if got := strings.Join(files, " "); got != want {
		t.Errorf("order is\n%s\nwant\n%s", got, want)
	}
	slices.Sort(order)
	if !slices.Equal(order, tree.Paths()) {
		t.Error("the order is of other paths than the tree has")
	}
}
