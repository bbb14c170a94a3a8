package boot

import (
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/sys/block"
)

// Where an image lies in the initial RAM file system when "kedge install
// --takeover" started this kernel from within another system.
const (
	TakeoverDir   = "/takeover"
	TakeoverImage = TakeoverDir + "/kedge.iso"
)

// takeover mounts the root from the image in memory, if there is one. The loop
// device keeps the image when the initial RAM file system is emptied.
func (i *initrd) takeover(source Source) (found bool, err error) {
	info, err := os.Stat(TakeoverImage)
	if err != nil {
		return false, nil
	}
	i.load(initrdModules)
	device, err := block.AttachLoop(TakeoverImage)
	if err != nil {
		return true, err
	}
	f, err := os.Open(device)
	if err != nil {
		return true, err
	}
	defer f.Close()
	if err := Judge(f, info.Size(), source.ID); err != nil {
		return true, fmt.Errorf("image in memory: %w", err)
	}
	i.say("started from within another system, with the image in memory")
	return true, i.mountMedium(block.Device{Name: device[len("/dev/"):], Path: device, Size: info.Size(), ReadOnly: true}, source.ID)
}
