package boot

import (
	"os"
	"strings"

	"github.com/kedgeos/kedge/pkg/sys/block"
)

// Where an image lies in the initial RAM file system when "kedge install
// --takeover" started this kernel from within another system.
const (
	TakeoverDir   = "/takeover"
	TakeoverImage = TakeoverDir + "/kedge.iso"
)

// takeover mounts the root from the image in memory and tells whether that went
// well. What stands against it is said, and then a medium is looked for.
func (i *initrd) takeover(source Source) bool {
	info, err := os.Stat(TakeoverImage)
	if err != nil {
		return false
	}
	i.say("started from within another system, with the image in memory")
	if err := i.mountTakeover(info.Size(), source.ID); err != nil {
		i.say("image in memory: " + err.Error())
		return false
	}
	return true
}

// mountTakeover mounts the image of size bytes. The loop device keeps it when
// the initial RAM file system is emptied.
func (i *initrd) mountTakeover(size int64, id string) error {
	i.load(initrdModules)
	device, err := block.AttachLoop(TakeoverImage)
	if err != nil {
		return err
	}
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := Judge(f, size, id); err != nil {
		return err
	}
	return i.mountMedium(block.Device{Name: strings.TrimPrefix(device, "/dev/"), Path: device, Size: size, ReadOnly: true}, id)
}
