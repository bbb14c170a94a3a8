package verity

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Corrupted tells from the status of a target of type verity whether the kernel
// met a block without its digest since the device was made: its first word is
// "V" for none and "C" for one.
func Corrupted(status string) bool {
	word, _, _ := strings.Cut(status, " ")
	return word == "C"
}

// A Block is one that does not have its digest: of the data, or of the tree.
// Number counts blocks from the start of their device.
type Block struct {
	Tree   bool
	Number int64
}

func (b Block) String() string {
	if b.Tree {
		return fmt.Sprintf("block %d of the hash tree", b.Number)
	}
	return fmt.Sprintf("block %d", b.Number)
}

// told is how the kernel names a bad block in its log (verity_handle_err in
// drivers/md/dm-verity-target.c). It stops after a hundred of them.
var told = regexp.MustCompile(`device-mapper: verity: (\S+): (data|metadata) block (\d+) is corrupted`)

// BadBlocks returns the bad blocks that the kernel's log names for a data device,
// given as in the target's parameters (MAJOR:MINOR), each once, in their order.
func BadBlocks(log, dataDevice string) []Block {
	var blocks []Block
	for _, m := range told.FindAllStringSubmatch(log, -1) {
		n, err := strconv.ParseInt(m[3], 10, 64)
		b := Block{m[2] == "metadata", n}
		if err == nil && m[1] == dataDevice && !slices.Contains(blocks, b) {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// DataDevice returns the data device in the parameters of a target, "" when
// there is none.
func DataDevice(table string) string {
	if f := strings.Fields(table); len(f) > 1 {
		return f[1]
	}
	return ""
}
