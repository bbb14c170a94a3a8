package build

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/kedgeos/kedge/pkg/api/release"
	"github.com/kedgeos/kedge/pkg/format/verity"
)

// buildVerity makes the hash tree over the root, by which the kernel checks each
// block that it reads. The tree has no superblock: what one says stands in the
// manifest. The salt is the digest of the root, so that the same root has the
// same tree, and no other root has one with the same blocks in it.
func (b *builder) buildVerity(squashfs string) (file string, v release.Verity, err error) {
	step := b.step("build root.verity")
	fail := func(err error) (string, release.Verity, error) {
		return "", release.Verity{}, fmt.Errorf("build root.verity: %w", err)
	}
	size, sum, err := digest(squashfs)
	if err != nil {
		return fail(err)
	}
	salt, err := hex.DecodeString(sum)
	if err != nil {
		return fail(err)
	}
	data, err := os.Open(squashfs)
	if err != nil {
		return fail(err)
	}
	defer data.Close()
	var tree bytes.Buffer
	root, _, err := verity.Build(data, size, salt, &tree)
	if err != nil {
		return fail(err)
	}
	file, err = b.cache.make("verity", NewKey("verity 1").Add(sum), func(temporary string) error {
		return os.WriteFile(temporary, tree.Bytes(), 0o644)
	})
	if err != nil {
		return fail(err)
	}
	step.Done(megabytes(int64(tree.Len())))
	return file, release.Verity{
		Path: release.VerityPath, RootHash: hex.EncodeToString(root[:]), Salt: sum,
		DataBlockSize: verity.BlockSize, HashBlockSize: verity.BlockSize,
	}, nil
}
