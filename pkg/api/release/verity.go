package release

import (
	"encoding/hex"
	"fmt"
)

// Verity says how the kernel checks each block of the root file system as it is
// read: a dm-verity hash tree of hash type 1 with SHA-256. The ID depends on all
// of it, so whoever knows the ID knows the root hash.
type Verity struct {
	Path          string `json:"path"`      // of the tree, one of the manifest's files
	RootHash      string `json:"root_hash"` // hex
	Salt          string `json:"salt"`      // hex; of our builder the SHA-256 of the data
	DataBlockSize int64  `json:"data_block_size"`
	HashBlockSize int64  `json:"hash_block_size"`
}

// check says what is not sound. Block sizes and lengths that this program does
// not know are for the initrd of that release to know.
func (v *Verity) check(m Manifest) error {
	if v == nil {
		return nil
	}
	root, err := hex.DecodeString(v.RootHash)
	if err != nil || len(root) == 0 {
		return fmt.Errorf("%w: verity has no sound root hash", ErrManifest)
	}
	if _, err := hex.DecodeString(v.Salt); err != nil {
		return fmt.Errorf("%w: verity has no sound salt", ErrManifest)
	}
	if v.DataBlockSize <= 0 || v.HashBlockSize <= 0 {
		return fmt.Errorf("%w: verity has no sound block sizes", ErrManifest)
	}
	if _, ok := m.File(v.Path); !ok {
		return fmt.Errorf("%w: verity names %q, which is none of the files", ErrManifest, v.Path)
	}
	return nil
}
