// Package verity builds and checks dm-verity hash trees.
//
// It knows one form of them: hash type 1, SHA-256, data and hash blocks of
// 4096 bytes, no superblock. Each hash block holds 128 digests of the blocks
// one level below, the last one of a level filled up with zeros; a digest is
// over the salt and then the block. The tree lies in its file from the top
// level, one block, down to level 0, whose digests are of data blocks. The
// root hash is the digest of the top block; data of a single block has no tree
// and its root hash is the digest of that block.
//
// Offsets and sizes are bytes; only names that end in Blocks or Block count
// blocks. Where tree, root hash and salt are kept is for the caller.
//
// Source: Linux Documentation/admin-guide/device-mapper/verity.rst; cryptsetup
// wiki, DMVerity; veritysetup format --no-superblock writes the same bytes.
package verity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
)

// BlockSize is the size of data and hash blocks in bytes.
const BlockSize = 4096

// MaxSalt is the longest salt in bytes that veritysetup takes.
const MaxSalt = 256

// ErrMismatch means that a block does not have the digest it should have.
var ErrMismatch = errors.New("digest does not match")

// TreeSize returns the size in bytes of the tree over size bytes of data.
func TreeSize(size int64) int64 {
	var sum int64
	for _, n := range levels(size) {
		sum += n
	}
	return sum
}

// levels returns the size in bytes of each level of the tree, level 0 first.
func levels(size int64) []int64 {
	var all []int64
	for blocks := size / BlockSize; blocks > 1; {
		blocks = (blocks + perBlock - 1) / perBlock
		all = append(all, blocks*BlockSize)
	}
	return all
}

const perBlock = BlockSize / sha256.Size // digests in a hash block

// Build reads size bytes of data and writes their tree to w. It returns the
// root hash and the size of the tree in bytes. The tree is held in memory, 8
// MiB for each GiB of data, and w is written to only when all data were read.
// Data that end early give io.ErrUnexpectedEOF.
func Build(data io.Reader, size int64, salt []byte, w io.Writer) (root [32]byte, hashBytes int64, err error) {
	if err := check(size, salt); err != nil {
		return root, 0, err
	}
	level, err := hashBlocks(data, size, salt)
	if err != nil {
		return root, 0, fmt.Errorf("read data: %w", err)
	}
	var tree [][]byte
	for range levels(size) {
		level = pad(level)
		tree = append(tree, level)
		if level, err = hashBlocks(bytes.NewReader(level), int64(len(level)), salt); err != nil {
			return root, 0, err
		}
	}
	copy(root[:], level)
	for i := len(tree) - 1; i >= 0; i-- {
		n, err := w.Write(tree[i])
		hashBytes += int64(n)
		if err != nil {
			return root, hashBytes, fmt.Errorf("write hash tree: %w", err)
		}
	}
	return root, hashBytes, nil
}

// Verify checks size bytes of data and their tree against the root hash, from
// the root down. The error wraps ErrMismatch and names the first bad block of
// the highest bad level; only the levels above it are known to be good.
// Anything else it returns is an error of reading. It needs twice the memory
// of level 0, which is size/128.
func Verify(data io.ReaderAt, size int64, tree io.ReaderAt, root [32]byte, salt []byte) error {
	if err := check(size, salt); err != nil {
		return err
	}
	want := root[:]
	sizes := levels(size)
	var at int64
	for i := len(sizes) - 1; i >= 0; i-- {
		level := make([]byte, sizes[i])
		if _, err := io.ReadFull(io.NewSectionReader(tree, at, sizes[i]), level); err != nil {
			return fmt.Errorf("read hash tree: %w", short(err))
		}
		got, err := hashBlocks(bytes.NewReader(level), sizes[i], salt)
		if err != nil {
			return err
		}
		if bad := differ(got, want); bad >= 0 {
			return fmt.Errorf("verify hash tree: block at byte %d: %w", at+bad, ErrMismatch)
		}
		want, at = level, at+sizes[i]
	}
	got, err := hashBlocks(io.NewSectionReader(data, 0, size), size, salt)
	if err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	if bad := differ(got, want); bad >= 0 {
		return fmt.Errorf("verify data: block at byte %d: %w", bad, ErrMismatch)
	}
	return nil
}

// An Option is an optional parameter of the target, as the kernel spells it.
type Option string

// What the kernel does beyond failing the read. It takes one of the first two
// at most.
const (
	PanicOnCorruption   Option = "panic_on_corruption"
	RestartOnCorruption Option = "restart_on_corruption"
	CheckAtMostOnce     Option = "check_at_most_once" // only the first read of a block
)

// Table returns the parameters of a device-mapper target of type verity. The
// devices are paths or MAJOR:MINOR; dataBlocks is the size of the data and
// hashStartBlock the place of the tree on hashDevice, both in blocks.
func Table(dataDevice, hashDevice string, dataBlocks, hashStartBlock int64, root [32]byte, salt []byte, options ...Option) string {
	hexSalt := "-"
	if len(salt) > 0 {
		hexSalt = fmt.Sprintf("%x", salt)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "1 %s %s %d %d %d %d sha256 %x %s", dataDevice, hashDevice, BlockSize, BlockSize, dataBlocks, hashStartBlock, root, hexSalt)
	if len(options) > 0 {
		fmt.Fprintf(&b, " %d", len(options))
	}
	for _, o := range options {
		fmt.Fprintf(&b, " %s", o)
	}
	return b.String()
}

func check(size int64, salt []byte) error {
	if size <= 0 {
		return fmt.Errorf("hash data: size is %d bytes", size)
	}
	if size%BlockSize != 0 {
		return fmt.Errorf("hash data: size of %d bytes is not a multiple of %d", size, BlockSize)
	}
	if len(salt) > MaxSalt {
		return fmt.Errorf("hash data: salt of %d bytes, at most %d are allowed", len(salt), MaxSalt)
	}
	return nil
}

// differ returns the offset of the first block in whose digest got differs
// from want, or -1. Want may go on with padding.
func differ(got, want []byte) int64 {
	for i := 0; i < len(got); i += sha256.Size {
		if !bytes.Equal(got[i:i+sha256.Size], want[i:i+sha256.Size]) {
			return int64(i / sha256.Size * BlockSize)
		}
	}
	return -1
}

// pad fills digests up with zeros to whole blocks.
func pad(digests []byte) []byte {
	return append(digests, make([]byte, (BlockSize-len(digests)%BlockSize)%BlockSize)...)
}

// short says that an end of file was too early.
func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
