package layout

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kedgeos/kedge/pkg/format/table"
)

const (
	gib = 1 << 30
	tb  = 1000204886016 // what is sold as 1 TB
)

// show writes a plan down, in bytes.
func show(parts []table.Partition) string {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d %s %d+%d\n", p.Index, p.Name, p.Start, p.Size)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		arch        string
		disk, image int64
		want        string
	}{
		{"amd64", 4 * gib, 200 * mib, `1 KEDGE-BIOS 1048576+1048576
2 KEDGE-ESP 2097152+134217728
3 KEDGE-A 136314880+671088640
4 KEDGE-B 807403520+671088640
5 KEDGE-STATE 1478492160+2815426560
`},
		{"arm64", 4 * gib, 200 * mib, `2 KEDGE-ESP 1048576+134217728
3 KEDGE-A 135266304+671088640
4 KEDGE-B 806354944+671088640
5 KEDGE-STATE 1477443584+2816475136
`},
		{"amd64", 8 * gib, 300 * mib, `1 KEDGE-BIOS 1048576+1048576
2 KEDGE-ESP 2097152+134217728
3 KEDGE-A 136314880+1006632960
4 KEDGE-B 1142947840+1006632960
5 KEDGE-STATE 2149580800+6439305216
`},
		{"arm64", 8 * gib, 0, `2 KEDGE-ESP 1048576+134217728
3 KEDGE-A 135266304+671088640
4 KEDGE-B 806354944+671088640
5 KEDGE-STATE 1477443584+7111442432
`},
		{"amd64", tb, 412000000, `1 KEDGE-BIOS 1048576+1048576
2 KEDGE-ESP 2097152+134217728
3 KEDGE-A 136314880+1275068416
4 KEDGE-B 1411383296+1275068416
5 KEDGE-STATE 2686451712+997516640256
`},
		{"arm64", tb, 412000000, `2 KEDGE-ESP 1048576+134217728
3 KEDGE-A 135266304+1275068416
4 KEDGE-B 1410334720+1275068416
5 KEDGE-STATE 2685403136+997517688832
`},
	} {
		parts, err := Plan(c.arch, c.disk, c.image)
		if got := show(parts); err != nil || got != c.want {
			t.Errorf("Plan(%s, %d, %d) = %v\n%swant\n%s", c.arch, c.disk, c.image, err, got, c.want)
		}
	}
}

// TestPlanHolds checks for many sizes what every plan promises.
func TestPlanHolds(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for disk := int64(3 * gib); disk < 64*gib; disk += 777777777 {
			for _, image := range []int64{0, 1, 100 * mib, 213 * mib, 213*mib + 349525, 213*mib + 349526, 256 * mib, 1 * gib} {
				parts, err := Plan(arch, disk, image)
				if err != nil {
					continue
				}
				at := int64(Align)
				for _, p := range parts {
					if p.Start != at || p.Size%Align != 0 || p.ID != "" || p.Attributes != 0 {
						t.Errorf("Plan(%s, %d, %d): %+v", arch, disk, image, p)
					}
					at += p.Size
				}
				if free := disk - at; free < Align || free >= 2*Align {
					t.Errorf("Plan(%s, %d, %d) leaves %d bytes at the end", arch, disk, image, free)
				}
				found, err := Find(parts)
				if err != nil {
					t.Fatal(err)
				}
				a, b, state := found[SlotAName], found[SlotBName], found[StateName]
				if a.Size != b.Size || a.Size < SlotSize || a.Size < 3*image || a.Size%(64*mib) != 0 || state.Size < StateMin || found[ESPName].Size != 128*mib {
					t.Errorf("Plan(%s, %d, %d):\n%s", arch, disk, image, show(parts))
				}
				if a.Size > SlotSize && a.Size-3*image >= 64*mib {
					t.Errorf("Plan(%s, %d, %d): slots of %d bytes", arch, disk, image, a.Size)
				}
			}
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, c := range []struct {
		arch        string
		disk, image int64
		want        string
	}{
		{"amd64", 2435 * mib, 0, ""},
		{"amd64", 2435*mib - 1, 0, "plan disk: too small: it has 2434 MiB and needs 2435 MiB"},
		{"arm64", 2434 * mib, 0, ""},
		{"arm64", 2434*mib - 1, 0, "plan disk: too small: it has 2433 MiB and needs 2434 MiB"},
		{"amd64", 0, 0, "plan disk: too small: it has 0 MiB and needs 2435 MiB"},
		{"amd64", -1, 0, "plan disk: too small: it has 0 MiB and needs 2435 MiB"},
		{"amd64", 4 * gib, 700 * mib, "plan disk: too small: it has 4096 MiB and needs 5379 MiB"},
		{"riscv64", 4 * gib, 0, `plan disk: architecture "riscv64"`},
		{"", 4 * gib, 0, `plan disk: architecture ""`},
		{"amd64", 4 * gib, -1, "plan disk: image of -1 bytes"},
		{"amd64", 1<<63 - 1, 1<<63 - 1, "plan disk: image of 9223372036854775807 bytes"},
		{"amd64", 1<<63 - 1, maxImage, ""},
	} {
		parts, err := Plan(c.arch, c.disk, c.image)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && (got != c.want || parts != nil) {
			t.Errorf("Plan(%s, %d, %d): error = %v, want %s", c.arch, c.disk, c.image, err, c.want)
		}
	}
}

// TestPlanAsTable lets sgdisk judge a plan on a disk.
func TestPlanAsTable(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, size := range []int64{2435 * mib, 4 * gib, tb} {
			parts, err := Plan(arch, size, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range parts {
				parts[i].ID = fmt.Sprintf("AAAAAAAA-BBBB-4CCC-8DDD-%012X", parts[i].Index)
			}
			f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(size); err != nil {
				t.Fatal(err)
			}
			if err := table.Write(f, size, 512, "11111111-2222-4333-8444-555555555555", parts); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("sgdisk", "-v", f.Name()).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "No problems found") || strings.Contains(string(out), "aution") {
				t.Errorf("sgdisk: %v\n%s", err, out)
			}
			read, err := table.Read(f, size, 512)
			if err != nil || !slices.Equal(read, parts) {
				t.Errorf("Read = %+v, %v", read, err)
			}
			if err := table.Write(f, size, 4096, "11111111-2222-4333-8444-555555555555", parts); size%4096 == 0 && err != nil {
				t.Errorf("large sectors: %v", err)
			}
		}
	}
}

func TestFind(t *testing.T) {
	foreign := table.Partition{Index: 6, Name: "data", Type: StateType, Start: 1, Size: 1}
	for _, c := range []struct {
		name   string
		arch   string
		change func(p []table.Partition) []table.Partition
		want   string
	}{
		{"amd64", "amd64", func(p []table.Partition) []table.Partition { return p }, ""},
		{"arm64", "arm64", func(p []table.Partition) []table.Partition { return p }, ""},
		{"another partition", "arm64", func(p []table.Partition) []table.Partition { return append(p, foreign) }, ""},
		{"another order", "amd64", func(p []table.Partition) []table.Partition { slices.Reverse(p); return p }, ""},
		{"small letters", "amd64", func(p []table.Partition) []table.Partition { p[2].Type = strings.ToLower(p[2].Type); return p }, ""},
		{"no state", "amd64", func(p []table.Partition) []table.Partition { return p[:4] }, "KEDGE-STATE is missing"},
		{"nothing", "amd64", func(p []table.Partition) []table.Partition { return nil }, "KEDGE-ESP is missing, KEDGE-A is missing, KEDGE-B is missing, KEDGE-STATE is missing"},
		{"renamed slot", "amd64", func(p []table.Partition) []table.Partition { p[2].Name = "kedge-a"; return p }, "KEDGE-A is missing"},
		{"types swapped", "amd64", func(p []table.Partition) []table.Partition { p[2].Type, p[3].Type = p[3].Type, p[2].Type; return p },
			"KEDGE-A has type 89455335-95A6-4307-A726-8416378B808B, not 73CAD465-BF67-4A6D-9840-8176DE87CD11, KEDGE-B has type 73CAD465-BF67-4A6D-9840-8176DE87CD11, not 89455335-95A6-4307-A726-8416378B808B"},
		{"odd BIOS", "amd64", func(p []table.Partition) []table.Partition { p[0].Type = StateType; return p },
			"KEDGE-BIOS has type 0FC63DAF-8483-4772-8E79-3D69D8477DE4, not 21686148-6449-6E6F-744E-656564454649"},
		{"other number", "arm64", func(p []table.Partition) []table.Partition { p[0].Index = 1; return p }, "KEDGE-ESP has number 1, not 2"},
		{"two states", "amd64", func(p []table.Partition) []table.Partition { return append(p, p[4]) }, "KEDGE-STATE is there 2 times"},
	} {
		parts, err := Plan(c.arch, 4*gib, 0)
		if err != nil {
			t.Fatal(err)
		}
		given := c.change(parts)
		found, err := Find(given)
		if c.want != "" {
			if err == nil || err.Error() != "not a disk of Kedge: "+c.want || found != nil {
				t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, p := range given {
			if got, ok := found[p.Name]; ok != (p.Name != "data") || ok && got != p {
				t.Errorf("%s: Find gives %+v for %s", c.name, got, p.Name)
			}
		}
	}
}

func TestSlotPartition(t *testing.T) {
	for slot, want := range map[string]string{SlotA: "KEDGE-A", SlotB: "KEDGE-B", "": "", "A": "", "c": ""} {
		if got := SlotPartition(slot); got != want {
			t.Errorf("SlotPartition(%q) = %q, want %q", slot, got, want)
		}
	}
}
