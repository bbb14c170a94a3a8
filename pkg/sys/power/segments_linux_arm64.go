package power

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"github.com/u-root/u-root/pkg/boot/linux"
	"github.com/u-root/u-root/pkg/dt"
)

// loadSegments hands kernel and archive to the running kernel in memory, placed
// where its memory is free: Debian's kernel for arm64 takes no files.
//
// Sources: kexec_load(2); Linux, Documentation/arch/arm64/booting.rst.
func loadSegments(kernel, initrd *os.File, cmdline string) error {
	known, err := kexec.MemoryMapFromIOMem()
	if err != nil {
		return fmt.Errorf("read /proc/iomem: %w", err)
	}
	var ram []span
	for _, r := range known.RAM() {
		ram = append(ram, span{uint64(r.Start), uint64(r.End())})
	}
	all, gaps := between(ram)
	if all.end == 0 {
		return errors.New("/proc/iomem tells of no memory")
	}
	tree, err := dt.ReadFile("/sys/firmware/fdt")
	if err != nil {
		return fmt.Errorf("read /sys/firmware/fdt: %w", err)
	}
	if !describesMemory(tree) {
		// UEFI tells the kernel of its memory, and will tell the next one; that one
		// forgets then what this node says, which is for the placement alone.
		tree.RootNode.Children = append(tree.RootNode.Children, dt.NewNode(fmt.Sprintf("memory@%x", all.start), dt.WithProperty(
			dt.PropertyString("device_type", "memory"), dt.PropertyRegion("reg", all.start, all.end-all.start))))
	}
	var written bytes.Buffer
	if _, err := tree.Write(&written); err != nil {
		return fmt.Errorf("write device tree: %w", err)
	}
	var taken kexec.Ranges
	for _, g := range gaps {
		taken = append(taken, kexec.RangeFromInterval(uintptr(g.start), uintptr(g.end)))
	}
	err = linux.KexecLoad(kernel, initrd, cmdline, bytes.NewReader(written.Bytes()), taken)
	var refused kexec.ErrKexec
	if errors.As(err, &refused) {
		return refused.Errno
	}
	return err
}

// describesMemory tells whether a device tree has a node for memory.
func describesMemory(tree *dt.FDT) bool {
	_, found := tree.RootNode.Find(func(n *dt.Node) bool {
		p, has := n.LookProperty("device_type")
		if !has {
			return false
		}
		kind, err := p.AsString()
		return err == nil && kind == "memory"
	})
	return found
}
