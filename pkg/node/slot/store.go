package slot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kedgeos/kedge/pkg/format/bootenv"
	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
)

// File is what a Store does with an open block; *os.File has it.
type File interface {
	io.WriterAt
	Sync() error
	Close() error
}

// Store is the boot record in a folder, usually Folder on the mounted ESP. It
// has no lock: one process at a time may change it.
type Store struct {
	Dir  string
	Open func(path string) (File, error) // opens a file for writing in place; nil for os.OpenFile
}

// Create makes the record of a new machine in a folder, which is made if need
// be: good is committed and nothing is on trial.
func Create(dir, good string) error {
	writes, err := Commit(good)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, w := range writes {
		if err := atomicfile.WriteFile(filepath.Join(dir, w.File), w.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Load reads the record; notes are those of Parse. It is an error when none of
// the three files can be read: then the ESP is rather not mounted, and the
// error of the first file tells why.
func (s Store) Load() (r Record, notes []string, err error) {
	blocks, failed, err := s.read()
	if err != nil {
		return Record{}, nil, err
	}
	r, notes = Parse(blocks[0], blocks[1], blocks[2])
	return r, append(failed, notes...), nil
}

// Arm puts a slot on trial, see Record.Arm. When it returns nil, the trial is
// on the disk.
func (s Store) Arm(slot string, tries int, replace bool) error {
	r, _, err := s.Load()
	if err != nil {
		return err
	}
	writes, err := r.Arm(slot, tries, replace)
	if err != nil {
		return err
	}
	return s.write(writes)
}

// Commit makes a slot the committed one, see the function Commit. After an
// error the old or the new slot is committed; Commit may be tried again.
func (s Store) Commit(slot string) error {
	writes, err := Commit(slot)
	if err != nil {
		return err
	}
	return s.changeMounted(writes)
}

// Disarm ends a trial.
func (s Store) Disarm() error { return s.changeMounted(Disarm()) }

// Repair mends what the function Repair does, and files that are missing or
// of another length.
func (s Store) Repair() error {
	blocks, _, err := s.read()
	if err != nil {
		return err
	}
	return s.write(Repair(blocks[0], blocks[1], blocks[2]))
}

// changeMounted writes where there is a record already.
func (s Store) changeMounted(writes []Write) error {
	if _, _, err := s.read(); err != nil {
		return err
	}
	return s.write(writes)
}

// read returns the contents of the three files, nil for a file that
// could not be read; failed says why, if it is there.
func (s Store) read() (blocks [3][]byte, failed []string, err error) {
	var errs []error
	for i, name := range []string{Good1File, Good2File, TrialFile} {
		if blocks[i], err = readBlock(filepath.Join(s.Dir, name)); err != nil {
			errs = append(errs, err)
			if !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err.Error())
			}
		}
	}
	if len(errs) == len(blocks) {
		return blocks, nil, fmt.Errorf("read boot record: %w", errs[0])
	}
	return blocks, failed, nil
}

// readBlock reads a file, but not much more than a block.
func readBlock(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, bootenv.Size+1))
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (s Store) write(writes []Write) error {
	for _, w := range writes {
		if err := s.put(w); err != nil {
			return fmt.Errorf("write boot record: %w", err)
		}
	}
	return nil
}

// put writes a block in place and waits until it is on the disk. A file that
// is missing or of another length is made anew.
func (s Store) put(w Write) error {
	path := filepath.Join(s.Dir, w.File)
	if info, err := os.Stat(path); err != nil || info.Size() != bootenv.Size {
		return atomicfile.WriteFile(path, w.Data, 0o644)
	}
	open := s.Open
	if open == nil {
		open = func(path string) (File, error) { return os.OpenFile(path, os.O_RDWR, 0) }
	}
	f, err := open(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(w.Data, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
