// Package replay makes the disks that a power cut would leave behind, from a
// record of every write and flush.
//
// A Log is the record, as QEMU's driver blklogwrites keeps it. A Disk is what
// the hardware is sure to hold after some of its events. A Cut says where the
// power goes away and what of the unflushed writes had arrived; an Image is the
// disk that this leaves. A disk may keep, lose or reorder all that was written
// since the last flush that it confirmed, except for writes with FUA (force
// unit access), which are kept as soon as they are confirmed. It writes single
// sectors of 512 bytes whole or not at all; a longer write may be torn between
// any of them.
//
// Not modelled: a flush counts for each write that was begun before it, also
// for one that the disk had not confirmed by then. Who relies on such a write
// has a bug that is not seen here.
package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Sector is the size in bytes of what a disk writes whole or not at all, and
// the unit of the log.
const Sector = 512

// Format of the log, little-endian: a sector with the superblock, then for each
// event a sector with its entry, and after that its data.
// Source: the Linux kernel's Documentation/admin-guide/device-mapper/log-writes.rst
// and its struct log_write_super and log_write_entry; QEMU 7.2, "blklogwrites".
const (
	magic   = 0x6a736677736872
	version = 1

	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	flagMark    = 8
)

// ErrLog means that a file is no sound log.
var ErrLog = errors.New("bad write log")

// A Kind says what an event is.
type Kind uint8

// The kinds of events. A disk may return anything for discarded sectors until
// they are written again; here they become zero or stay.
const (
	Write Kind = iota
	Flush
	Discard
)

func (k Kind) String() string { return [...]string{"write", "flush", "discard"}[k] }

// An Event is one thing that happened to the disk. All counts are sectors.
type Event struct {
	Kind  Kind
	FUA   bool
	First uint32 // on the disk
	Count uint32
	data  uint32 // sector of the log with the first of the data
}

// ref returns where the event's content for the sector that is i behind its
// first lies.
func (e Event) ref(i uint32) uint32 {
	if e.Kind == Discard {
		return zeros
	}
	return e.data + i
}

// Values of a reference to a sector's content; others are sectors of the log.
// Log sectors 0 and 1 hold the superblock and an entry, never content.
const (
	untouched = 0 // as it is in the base image
	zeros     = 1
)

// A Log is the record of one disk.
type Log struct {
	Events []Event
	data   []byte
	mapped bool
}

// ReadLog reads a log, whose bytes it keeps. QEMU notes the number of entries
// only when the guest flushes: what follows them is taken as far as it is
// whole, since a QEMU that was killed has written it. The error wraps ErrLog.
func ReadLog(data []byte) (*Log, error) {
	l := &Log{data: data}
	if len(data) < Sector {
		return nil, fmt.Errorf("%w: %d bytes", ErrLog, len(data))
	}
	le := binary.LittleEndian
	if m, v := le.Uint64(data), le.Uint64(data[8:]); m != magic || v != version {
		return nil, fmt.Errorf("%w: magic %#x, version %d", ErrLog, m, v)
	}
	counted := le.Uint64(data[16:])
	if size := le.Uint32(data[24:]); size != Sector {
		return nil, fmt.Errorf("%w: sectors of %d bytes, want %d", ErrLog, size, Sector)
	}
	if len(data)/Sector > 1<<32-1 {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrLog, len(data))
	}
	at := uint64(1)
	for n := uint64(0); ; n++ {
		next, err := l.entry(at)
		if err != nil && n < counted {
			return nil, fmt.Errorf("%w: entry %d of %d: %w", ErrLog, n, counted, err)
		}
		if err != nil {
			return l, nil
		}
		at = next
	}
}

// entry reads the entry in a sector of the log and returns that of the next.
func (l *Log) entry(at uint64) (next uint64, err error) {
	end := uint64(len(l.data) / Sector)
	if at >= end {
		return 0, errors.New("the log ends before it")
	}
	le, b := binary.LittleEndian, l.data[at*Sector:]
	first, count, flags, size := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
	switch {
	case flags&^(flagFlush|flagFUA|flagDiscard|flagMark) != 0:
		return 0, fmt.Errorf("flags %#x", flags)
	case flags == 0 && count == 0:
		return 0, errors.New("it does nothing")
	case first >= 1<<32 || count >= 1<<32 || first+count > 1<<32:
		return 0, fmt.Errorf("sectors %d to %d", first, first+count)
	}
	next = at + 1
	if flags&flagMark != 0 { // its data is a text
		next += (size + Sector - 1) / Sector
		if size > uint64(len(l.data)) || next > end {
			return 0, errors.New("its mark is cut off")
		}
		return next, nil
	}
	e := Event{FUA: flags&flagFUA != 0, First: uint32(first), Count: uint32(count), data: uint32(next)}
	if flags&flagDiscard != 0 {
		e.Kind = Discard
	} else if next += count; next > end {
		return 0, errors.New("its data is cut off")
	}
	if flags&flagFlush != 0 { // before the data, if there is any
		l.Events = append(l.Events, Event{Kind: Flush})
	}
	if count > 0 {
		l.Events = append(l.Events, e)
	}
	return next, nil
}

// Size returns the bytes that a disk must have for all events.
func (l *Log) Size() int64 {
	var end int64
	for _, e := range l.Events {
		end = max(end, int64(e.First)+int64(e.Count))
	}
	return end * Sector
}

// content returns the sector that a reference names.
func (l *Log) content(ref uint32) []byte {
	if ref == zeros {
		return zeroSector[:]
	}
	return l.data[int64(ref)*Sector:][:Sector]
}

var zeroSector [Sector]byte

// OpenLog maps a log file into memory, as it is now: QEMU may go on writing to
// it. Close ends the use of all that came from it.
func OpenLog(path string) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrLog, path)
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	l, err := ReadLog(data)
	if err != nil {
		syscall.Munmap(data)
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	l.mapped = true
	return l, nil
}

// Close lets go of the memory.
func (l *Log) Close() error {
	if !l.mapped {
		return nil
	}
	return syscall.Munmap(l.data)
}
