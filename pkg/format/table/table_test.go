package table

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	mib = 1 << 20

	diskID  = "11111111-2222-4333-8444-555555555555"
	espType = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	bioType = "21686148-6449-6E6F-744E-656564454649"
	linux   = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

func id(n int) string { return fmt.Sprintf("AAAAAAAA-BBBB-4CCC-8DDD-%012X", n) }

// sample has a gap in its numbers and is not in the order of the disk.
func sample() []Partition {
	return []Partition{
		{Index: 1, Name: "BIOS", Type: bioType, ID: id(1), Start: 1 * mib, Size: 1 * mib, Attributes: 1 << 2},
		{Index: 2, Name: "esp", Type: espType, ID: id(2), Start: 2 * mib, Size: 33 * mib, Attributes: 1},
		{Index: 5, Name: "Zustand äöü 🦆", Type: linux, ID: id(5), Start: 40 * mib, Size: 20 * mib, Attributes: 1<<63 | 1<<60},
		{Index: 7, Name: strings.Repeat("n", 36), Type: linux, ID: id(7), Start: 35 * mib, Size: 5 * mib},
	}
}

// makeDisk returns a sparse file of size bytes.
func makeDisk(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func run(t testing.TB, input, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sfdisk returns what sfdisk sees.
func sfdisk(t *testing.T, file string) (id string, parts []Partition) {
	t.Helper()
	var dump struct {
		PartitionTable struct {
			Label, ID, Unit string
			SectorSize      int64
			Partitions      []struct {
				Node, Type, UUID, Name, Attrs string
				Start, Size                   int64
			}
		}
	}
	if err := json.Unmarshal([]byte(run(t, "", "sfdisk", "--json", file)), &dump); err != nil {
		t.Fatal(err)
	}
	pt := dump.PartitionTable
	if pt.Label != "gpt" || pt.Unit != "sectors" || pt.SectorSize != 512 {
		t.Fatalf("sfdisk sees %+v", pt)
	}
	for _, p := range pt.Partitions {
		one := Partition{Name: p.Name, Type: p.Type, ID: p.UUID, Start: p.Start * 512, Size: p.Size * 512}
		fmt.Sscanf(strings.TrimPrefix(p.Node, file), "%d", &one.Index)
		for _, a := range strings.Fields(strings.ReplaceAll(p.Attrs, "GUID:", "")) {
			for _, bit := range strings.Split(a, ",") {
				var n int
				switch bit {
				case "RequiredPartition":
				case "LegacyBIOSBootable":
					n = 2
				default:
					fmt.Sscan(bit, &n)
				}
				one.Attributes |= 1 << n
			}
		}
		parts = append(parts, one)
	}
	return pt.ID, parts
}

func TestWrite(t *testing.T) {
	const tib = 1 << 40
	for _, c := range []struct {
		name string
		size int64
	}{
		{"small", 64 * mib}, {"odd sectors", 64*mib + 7*512}, {"not whole sectors", 64*mib + 100},
		{"1 TB", 1000204886016}, {"below 2 TiB", 2*tib - 512}, {"2 TiB", 2 * tib}, {"5 TiB", 5 * tib},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := makeDisk(t, c.size)
			want := sample()
			if err := Write(f, c.size, 512, diskID, []Partition{want[2], want[0], want[3], want[1]}); err != nil {
				t.Fatal(err)
			}
			if got, err := Read(f, c.size, 512); err != nil || !slices.Equal(got, want) {
				t.Errorf("Read = %+v, %v, want %+v", got, err, want)
			}
			if c.size%512 != 0 {
				f.Truncate(c.size - c.size%512) // sgdisk counts the rest as a sector
			}
			if out := run(t, "", "sgdisk", "-v", f.Name()); !strings.Contains(out, "No problems found") || strings.Contains(strings.ToLower(out), "warning") {
				t.Errorf("sgdisk:\n%s", out)
			}
			if gotID, got := sfdisk(t, f.Name()); gotID != diskID || !slices.Equal(got, want) {
				t.Errorf("sfdisk sees %s %+v, want %+v", gotID, got, want)
			}
			if out := run(t, "", "sfdisk", "--verify", f.Name()); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify:\n%s", out)
			}
		})
	}
}

// TestWriteLargeSectors lets fdisk judge, as sgdisk and sfdisk take the sector
// size of a file to be 512.
func TestWriteLargeSectors(t *testing.T) {
	const size = 64*mib + 3*4096
	f := makeDisk(t, size)
	if err := Write(f, size, 4096, diskID, sample()); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(f, size, 4096); err != nil || !slices.Equal(got, sample()) {
		t.Errorf("Read = %+v, %v", got, err)
	}
	if _, err := Read(f, size, 512); !errors.Is(err, ErrNoTable) {
		t.Errorf("Read with small sectors: error = %v, want ErrNoTable", err)
	}
	out := run(t, "", "fdisk", "-b", "4096", "--color=never", "-l", "-o", "Device,Start,End,Type-UUID,UUID,Name", f.Name())
	want := "Disk identifier: " + diskID
	if !strings.Contains(out, want) || strings.Contains(out, "corrupt") || strings.Contains(out, "not match") {
		t.Errorf("fdisk does not say %q, or warns:\n%s", want, out)
	}
	for _, p := range sample() {
		want := []string{fmt.Sprint(f.Name(), p.Index), fmt.Sprint(p.Start / 4096), fmt.Sprint((p.Start+p.Size)/4096 - 1), p.Type, p.ID}
		if !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			words := strings.Fields(line)
			return len(words) > 5 && slices.Equal(words[:5], want) && strings.HasSuffix(line, p.Name)
		}) {
			t.Errorf("fdisk does not show %v %s:\n%s", want, p.Name, out)
		}
	}
}

// A memory disk notes each write and may fail at one.
type memory struct {
	b      []byte
	writes []string
	syncs  int
	failAt int // number of the write, from 1
}

var errFire = errors.New("disk on fire")

func (m *memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, at) }
func (m *memory) Sync() error                            { m.syncs++; return nil }
func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	m.writes = append(m.writes, fmt.Sprint(at, "+", len(p)))
	if len(m.writes) == m.failAt {
		return copy(m.b[at:], p[:len(p)/2]), errFire
	}
	return copy(m.b[at:], p), nil
}

// TestWriteGolden pins every byte and the order of the writes.
func TestWriteGolden(t *testing.T) {
	for _, c := range []struct {
		sector int
		writes string
		sum    string
	}{
		{512, "67091968+16384 67108352+512 1024+16384 512+512 446+66", "f828fc497540c73eae287a6898550e602129e0fa2a4e1755159f53377f4fb317"},
		{4096, "67088384+16384 67104768+4096 8192+16384 4096+4096 446+66", "fcbd1f011a2c00919a2590fea73fa9418e8651edb28993c1f5724c0c9946b2fc"},
	} {
		m := memory{b: make([]byte, 64*mib)}
		if err := Write(&m, 64*mib, c.sector, diskID, sample()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(m.writes, " "); got != c.writes || m.syncs != len(m.writes) {
			t.Errorf("writes %s with %d syncs, want %s", got, m.syncs, c.writes)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(m.b)); got != c.sum {
			t.Errorf("sectors of %d: SHA-256 of the disk is %s, want %s", c.sector, got, c.sum)
		}
	}
}

// TestWriteKeeps looks at the bytes that are not the table's.
func TestWriteKeeps(t *testing.T) {
	m := memory{b: bytes.Repeat([]byte{0xC3}, 64*mib)}
	if err := Write(&m, 64*mib, 512, diskID, sample()); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{0, 446}, {34 * 512, 64*mib - 33*512}} {
		if n := bytes.Count(m.b[r[0]:r[1]], []byte{0xC3}); n != r[1]-r[0] {
			t.Errorf("%d bytes between %d and %d are changed", r[1]-r[0]-n, r[0], r[1])
		}
	}
}

// TestWriteInterrupted fails in the middle of each write: a reader sees the old
// table or the new one, and none only where there was none.
func TestWriteInterrupted(t *testing.T) {
	old := []Partition{{Index: 3, Name: "old", Type: linux, ID: id(3), Start: 10 * mib, Size: 9 * mib}}
	for _, before := range [][]Partition{nil, old} {
		for at := 1; at <= 5; at++ {
			m := memory{b: make([]byte, 64*mib)}
			if before != nil {
				if err := Write(&m, 64*mib, 512, id(9), before); err != nil {
					t.Fatal(err)
				}
			}
			m.failAt = len(m.writes) + at
			if err := Write(&m, 64*mib, 512, diskID, sample()); !errors.Is(err, errFire) && !strings.Contains(fmt.Sprint(err), errFire.Error()) {
				t.Fatalf("write %d: error = %v", at, err)
			}
			got, err := Read(&m, 64*mib, 512)
			switch {
			case before == nil && !errors.Is(err, ErrNoTable):
				t.Errorf("write %d on an empty disk: Read = %v, %v", at, got, err)
			case before != nil && !slices.Equal(got, old) && !slices.Equal(got, sample()):
				t.Errorf("write %d: Read = %v, %v", at, got, err)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p []Partition) []Partition
		want   string
	}{
		{"number 0", func(p []Partition) []Partition { p[0].Index = 0; return p }, "partition 0: numbers go from 1 to 128"},
		{"number 129", func(p []Partition) []Partition { p[0].Index = 129; return p }, "partition 129: numbers go from 1 to 128"},
		{"same number", func(p []Partition) []Partition { p[0].Index = 2; return p }, "partition 2: there are two of them"},
		{"no type", func(p []Partition) []Partition { p[0].Type = ""; return p }, `partition 1: type ""`},
		{"unused type", func(p []Partition) []Partition {
			p[0].Type = strings.Repeat("0", 8) + "-0000-0000-0000-000000000000"
			return p
		}, "partition 1: type"},
		{"no ID", func(p []Partition) []Partition { p[1].ID = ""; return p }, `partition 2: ID ""`},
		{"odd ID", func(p []Partition) []Partition { p[1].ID = "{" + p[1].ID + "}"; return p }, "partition 2: ID"},
		{"same ID", func(p []Partition) []Partition { p[1].ID = strings.ToLower(p[0].ID); return p }, "partition 2: ID aaaaaaaa-bbbb-4ccc-8ddd-000000000001 is in use"},
		{"ID of the disk", func(p []Partition) []Partition { p[1].ID = diskID; return p }, "partition 2: ID"},
		{"long name", func(p []Partition) []Partition { p[0].Name = strings.Repeat("ä", 37); return p }, "partition 1: name"},
		{"long ducks", func(p []Partition) []Partition { p[0].Name = strings.Repeat("🦆", 19); return p }, "partition 1: name"},
		{"zero in name", func(p []Partition) []Partition { p[0].Name = "a\x00b"; return p }, "partition 1: name"},
		{"odd start", func(p []Partition) []Partition { p[0].Start++; return p }, "partition 1: 1048576 bytes at byte 1048577 are not whole sectors of 512"},
		{"odd size", func(p []Partition) []Partition { p[0].Size -= 100; return p }, "partition 1: 1048476 bytes at"},
		{"no size", func(p []Partition) []Partition { p[0].Size = 0; return p }, "partition 1: 0 bytes at"},
		{"over the table", func(p []Partition) []Partition { p[0].Start = 33 * 512; return p }, "partition 1: 1048576 bytes at byte 16896 are not between bytes 17408 and 67091968"},
		{"over the backup", func(p []Partition) []Partition { p[2].Size = 24*mib - 32*512; return p }, "partition 5: "},
		{"past the end", func(p []Partition) []Partition { p[2].Start = 1 << 50; return p }, "partition 5: "},
		{"huge", func(p []Partition) []Partition { p[2].Size = 1<<63 - 512; return p }, "partition 5: "},
		{"overlap", func(p []Partition) []Partition { p[1].Size += 512; return p }, "partitions 2 and 7 overlap"},
	} {
		m := memory{b: make([]byte, 64*mib)}
		err := Write(&m, 64*mib, 512, diskID, c.change(sample()))
		if err == nil || !strings.HasPrefix(err.Error(), "write partition table: "+c.want) || len(m.writes) > 0 {
			t.Errorf("%s: error = %v after %d writes, want %s", c.name, err, len(m.writes), c.want)
		}
	}
	for _, c := range []struct {
		size   int64
		sector int
		id     string
		want   string
	}{
		{64 * mib, 2048, diskID, "sectors of 2048 bytes"},
		{64 * mib, 0, diskID, "sectors of 0 bytes"},
		{67 * 512, 512, diskID, "disk of 34304 bytes is too small for one"},
		{0, 512, diskID, "disk of 0 bytes is too small for one"},
		{-1, 4096, diskID, "disk of -1 bytes is too small for one"},
		{64 * mib, 512, "", `disk has ID ""`},
	} {
		m := memory{b: make([]byte, 64*mib)}
		if err := Write(&m, c.size, c.sector, c.id, nil); err == nil || err.Error() != "write partition table: "+c.want {
			t.Errorf("error = %v, want %s", err, c.want)
		}
	}
}

// TestWriteTight fills a disk to the last usable sector.
func TestWriteTight(t *testing.T) {
	f := makeDisk(t, mib)
	tight := []Partition{{Index: 128, Name: "all", Type: linux, ID: id(1), Start: 34 * 512, Size: mib - 67*512}}
	if err := Write(f, mib, 512, diskID, tight); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "", "sgdisk", "-v", f.Name()); !strings.Contains(out, "No problems found. 0 free sectors") {
		t.Errorf("sgdisk:\n%s", out)
	}
	if got, err := Read(f, mib, 512); err != nil || !slices.Equal(got, tight) {
		t.Errorf("Read = %+v, %v", got, err)
	}
	if err := Write(f, mib, 512, diskID, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(f, mib, 512); err != nil || len(got) > 0 {
		t.Errorf("empty table: Read = %+v, %v", got, err)
	}
}

// TestReadWhatOthersWrite reads tables of sgdisk and sfdisk.
func TestReadWhatOthersWrite(t *testing.T) {
	want := sample()
	want[2].Name = "Zustand äöü" // sfdisk leaves a name with a duck empty
	for name, write := range map[string]func(file string){
		"sgdisk": func(file string) {
			args := []string{"-o", "-U", diskID}
			for _, p := range want {
				args = append(args, "-n", fmt.Sprintf("%d:%d:%d", p.Index, p.Start/512, (p.Start+p.Size)/512-1),
					"-t", fmt.Sprint(p.Index, ":", p.Type), "-u", fmt.Sprint(p.Index, ":", p.ID), "-c", fmt.Sprint(p.Index, ":", p.Name),
					"-A", fmt.Sprintf("%d:=:%x", p.Index, p.Attributes))
			}
			run(t, "", "sgdisk", append(args, file)...)
		},
		"sfdisk": func(file string) {
			script := "label: gpt\nlabel-id: " + diskID + "\n"
			for _, p := range want {
				script += fmt.Sprintf("%d: start=%d, size=%d, type=%s, uuid=%s, name=\"%s\"", p.Index, p.Start/512, p.Size/512, p.Type, p.ID, p.Name)
				switch p.Index {
				case 1:
					script += ", attrs=LegacyBIOSBootable"
				case 2:
					script += ", attrs=RequiredPartition"
				case 5:
					script += `, attrs="GUID:60,63"`
				}
				script += "\n"
			}
			run(t, script, "sfdisk", file)
		},
	} {
		f := makeDisk(t, 64*mib)
		write(f.Name())
		if got, err := Read(f, 64*mib, 512); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: Read = %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	fresh := func() []byte {
		m := memory{b: make([]byte, 64*mib)}
		if err := Write(&m, 64*mib, 512, diskID, sample()); err != nil {
			t.Fatal(err)
		}
		return m.b
	}
	const backup, backupEntries = 64*mib - 512, 64*mib - 33*512
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   string // "" is the sample
	}{
		{"untouched", func(b []byte) {}, ""},
		{"no primary header", func(b []byte) { clear(b[512:1024]) }, ""},
		{"damaged primary header", func(b []byte) { b[512+40]++ }, ""},
		{"damaged entry count", func(b []byte) { b[512+83]++ }, ""},
		{"damaged primary entries", func(b []byte) { b[1024+32]++ }, ""},
		{"no backup", func(b []byte) { clear(b[backupEntries:]) }, ""},
		{"MBR with more entries", func(b []byte) { copy(b[446+16:446+32], b[446:462]); b[446+4] = 0x0C }, ""},
		{"nothing", func(b []byte) { clear(b) }, "none"},
		{"no MBR", func(b []byte) { clear(b[:512]) }, "none"},
		{"old MBR", func(b []byte) { b[446+4] = 0x83 }, "none"},
		{"no headers", func(b []byte) { clear(b[512:1024]); clear(b[backup:]) }, "none"},
		{"both headers damaged", func(b []byte) { b[512+60]++; b[backup+60]++ }, "primary GPT invalid"},
		{"both entries damaged", func(b []byte) { b[1024]++; b[backupEntries]++ }, "primary GPT invalid"},
		{"many entries", func(b []byte) { binary.LittleEndian.PutUint32(b[512+80:], 1<<31); sign(b[512:]) }, "2147483648 entries of 128 bytes"},
		{"odd entries", func(b []byte) { binary.LittleEndian.PutUint32(b[512+84:], 0); sign(b[512:]) }, "128 entries of 0 bytes"},
		{"far entries", func(b []byte) { binary.LittleEndian.PutUint64(b[512+72:], 1<<60); sign(b[512:]) }, "128 entries of 128 bytes at sector 1152921504606846976"},
		{"backward partition", func(b []byte) { binary.LittleEndian.PutUint64(b[1024+40:], 5); resign(b) }, "partition 1 goes from sector 2048 to 5 of 131072"},
		{"partition past the end", func(b []byte) { binary.LittleEndian.PutUint64(b[1024+40:], 131072); resign(b) }, "partition 1 goes from sector 2048 to 131072 of 131072"},
		{"partition at the MBR", func(b []byte) { binary.LittleEndian.PutUint64(b[1024+32:], 0); resign(b) }, "partition 1 goes from sector 0"},
	} {
		b := fresh()
		c.change(b)
		got, err := Read(bytes.NewReader(b), 64*mib, 512)
		switch {
		case c.want == "" && (err != nil || !slices.Equal(got, sample())):
			t.Errorf("%s: Read = %+v, %v", c.name, got, err)
		case c.want == "none" && !errors.Is(err, ErrNoTable):
			t.Errorf("%s: error = %v, want ErrNoTable", c.name, err)
		case c.want != "" && c.want != "none" && (err == nil || errors.Is(err, ErrNoTable) || !strings.HasPrefix(err.Error(), "read partition table: "+c.want)):
			t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
		}
	}
	b := fresh()
	if _, err := Read(bytes.NewReader(b[:mib]), 64*mib, 512); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut disk: error = %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), 64*mib, 512); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no disk: error = %v", err)
	}
	if _, err := Read(bytes.NewReader(b), 64*mib, 1024); err == nil {
		t.Error("sectors of 1024 bytes pass")
	}
}

// sign sets the checksum of a header, resign that of the primary entries too.
func sign(header []byte) {
	clear(header[16:20])
	binary.LittleEndian.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
}

func resign(disk []byte) {
	binary.LittleEndian.PutUint32(disk[512+88:], crc32.ChecksumIEEE(disk[1024:1024+entries*entrySize]))
	sign(disk[512:])
}

// FuzzRead changes a header and an entry behind correct checksums.
func FuzzRead(f *testing.F) {
	m := memory{b: make([]byte, mib)}
	if err := Write(&m, mib, 512, diskID, []Partition{{Index: 1, Type: linux, ID: id(1), Start: 64 * 512, Size: 512}}); err != nil {
		f.Fatal(err)
	}
	f.Add(m.b[512:512+92], m.b[1024:1024+128])
	f.Fuzz(func(t *testing.T, header, entry []byte) {
		b := bytes.Clone(m.b)
		copy(b[512:512+92], header)
		copy(b[1024:1024+128], entry)
		resign(b)
		parts, err := Read(bytes.NewReader(b), mib, 512)
		for _, p := range parts {
			if err != nil || p.Start < 512 || p.Size < 512 || p.Start+p.Size > mib {
				t.Errorf("Read = %+v, %v", p, err)
			}
		}
	})
}
