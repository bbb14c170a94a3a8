// Package table reads and writes GUID partition tables.
//
// It knows bytes, not devices: callers pass an io.ReaderAt or io.WriterAt and
// the size of the disk, and tell the kernel about a new table themselves.
// Offsets and sizes are int64 bytes. GUIDs are text in the usual mixed-endian
// order; Read returns them in upper case.
//
// Headers and entries are go-diskfs' work. The checks before a write, and the
// protective MBR, which in go-diskfs is wrong above 2 TiB, are done here.
//
// Source: UEFI Specification 2.10, sections 5.2.3 and 5.3.
package table

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// ErrNoTable means that a disk has no GUID partition table.
var ErrNoTable = errors.New("no GUID partition table")

// A Partition is one entry of a table.
type Partition struct {
	Index       int    // number of the partition, from 1 to 128
	Name        string // at most 36 UTF-16 units
	Type, ID    string // GUIDs
	Start, Size int64  // in bytes, multiples of the sector
	Attributes  uint64 // bits, section 5.3.3
}

const (
	entries   = 128
	entrySize = 128 // bytes
	nameUnits = 36
)

// Write writes a protective MBR and both copies of the table on a disk of size
// bytes. Sector is the logical block size in bytes, 512 or 4096. Every GUID
// must be set, so equal arguments give equal bytes. The partitions may come in
// any order; their contents and the boot code in the first 446 bytes are left
// alone.
//
// The backup is written before the primary table and the protective MBR last,
// with a Sync after each write where disk has one: a failure leaves the old
// table, the new one, or on an empty disk none. Nothing is written when the
// arguments are wrong.
func Write(disk io.WriterAt, size int64, sector int, diskID string, parts []Partition) error {
	if err := check(size, sector, diskID, parts); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	t := gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, GUID: diskID}
	for _, p := range parts {
		t.Partitions = append(t.Partitions, &gpt.Partition{
			Index: p.Index, Name: p.Name, Type: gpt.Type(p.Type), GUID: p.ID, Attributes: p.Attributes,
			Start: uint64(p.Start) / uint64(sector), Size: uint64(p.Size),
		})
	}
	size -= size % int64(sector)
	b := backing{w: disk, size: size}
	if err := t.Write(b, size); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	if err := writeProtective(b, size/int64(sector)); err != nil {
		return fmt.Errorf("write protective MBR: %w", err)
	}
	return nil
}

// Read returns the used entries of the table on a disk of size bytes, in
// order of their numbers. Sector is the logical block size in bytes. A damaged
// primary table is replaced by its backup, silently. The error wraps
// ErrNoTable when there is no protective MBR or no header with a signature, as
// for Linux; other errors mean that both copies are damaged, or come from
// disk.
func Read(disk io.ReaderAt, size int64, sector int) ([]Partition, error) {
	_, parts, err := ReadID(disk, size, sector)
	return parts, err
}

// ReadID is Read, and returns the unique ID of the disk too.
func ReadID(disk io.ReaderAt, size int64, sector int) (diskID string, parts []Partition, err error) {
	if err := checkSector(size, sector); err != nil {
		return "", nil, fmt.Errorf("read partition table: %w", err)
	}
	size -= size % int64(sector)
	if err := probe(disk, size, sector); err != nil {
		return "", nil, fmt.Errorf("read partition table: %w", err)
	}
	t, err := gpt.Read(backing{r: disk, size: size}, sector, sector)
	if err != nil {
		return "", nil, fmt.Errorf("read partition table: %w", err)
	}
	for _, p := range t.Partitions {
		if p.Start < 1 || p.End < p.Start || p.End >= uint64(size)/uint64(sector) {
			return "", nil, fmt.Errorf("read partition table: partition %d goes from sector %d to %d of %d", p.Index, p.Start, p.End, size/int64(sector))
		}
		parts = append(parts, Partition{
			Index: p.Index, Name: p.Name, Type: string(p.Type), ID: p.GUID, Attributes: p.Attributes,
			Start: int64(p.Start) * int64(sector), Size: int64(p.Size),
		})
	}
	return t.GUID, parts, nil
}

func checkSector(size int64, sector int) error {
	if sector != 512 && sector != 4096 {
		return fmt.Errorf("sectors of %d bytes", sector)
	}
	if first, end := usable(size, sector); end <= first {
		return fmt.Errorf("disk of %d bytes is too small for one", size)
	}
	return nil
}

// usable returns where partitions may start and must end, in bytes: between
// the protective MBR, header and entries, and the backup of the latter two.
func usable(size int64, sector int) (first, end int64) {
	table := int64(sector) + entries*entrySize
	return int64(sector) + table, size - size%int64(sector) - table
}

var guid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func check(size int64, sector int, diskID string, parts []Partition) error {
	if err := checkSector(size, sector); err != nil {
		return err
	}
	if !guid.MatchString(diskID) {
		return fmt.Errorf("disk has ID %q", diskID)
	}
	first, end := usable(size, sector)
	indexes, ids := map[int]bool{}, map[string]bool{strings.ToUpper(diskID): true}
	for _, p := range parts {
		id := strings.ToUpper(p.ID)
		switch {
		case p.Index < 1 || p.Index > entries:
			return fmt.Errorf("partition %d: numbers go from 1 to %d", p.Index, entries)
		case indexes[p.Index]:
			return fmt.Errorf("partition %d: there are two of them", p.Index)
		case !guid.MatchString(p.Type) || p.Type == string(gpt.Unused):
			return fmt.Errorf("partition %d: type %q", p.Index, p.Type)
		case !guid.MatchString(id):
			return fmt.Errorf("partition %d: ID %q", p.Index, p.ID)
		case ids[id]:
			return fmt.Errorf("partition %d: ID %s is in use", p.Index, p.ID)
		case len(utf16.Encode([]rune(p.Name))) > nameUnits || strings.ContainsRune(p.Name, 0):
			return fmt.Errorf("partition %d: name %q", p.Index, p.Name)
		case p.Start%int64(sector) != 0 || p.Size%int64(sector) != 0 || p.Size <= 0:
			return fmt.Errorf("partition %d: %d bytes at byte %d are not whole sectors of %d", p.Index, p.Size, p.Start, sector)
		case p.Start < first || p.Start >= end || p.Size > end-p.Start:
			return fmt.Errorf("partition %d: %d bytes at byte %d are not between bytes %d and %d", p.Index, p.Size, p.Start, first, end)
		}
		indexes[p.Index], ids[id] = true, true
	}
	inOrder := slices.SortedFunc(slices.Values(parts), func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(inOrder); i++ {
		if a, b := inOrder[i-1], inOrder[i]; a.Start+a.Size > b.Start {
			return fmt.Errorf("partitions %d and %d overlap", a.Index, b.Index)
		}
	}
	return nil
}
