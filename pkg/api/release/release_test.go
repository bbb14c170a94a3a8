package release

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func sample() Manifest {
	m := Manifest{
		Schema: Schema, Name: "kedge", Version: "0.1.0", Arch: "amd64", Kubernetes: "v1.36.3", Kernel: "6.12.117",
		Files: []File{
			{KernelPath, 1, strings.Repeat("a", 64)},
			{InitrdPath, 2, strings.Repeat("b", 64)},
			{RootPath, 3, strings.Repeat("c", 64)},
		},
	}
	m.ID = m.ComputeID()
	return m
}

// verified is a sample with a hash tree.
func verified() Manifest {
	m := sample()
	m.Files = append(m.Files, File{VerityPath, 4, strings.Repeat("d", 64)})
	m.Verity = &Verity{VerityPath, strings.Repeat("e", 64), strings.Repeat("c", 64), 4096, 4096}
	m.ID = m.ComputeID()
	return m
}

// TestIDStays holds IDs that images in the field have.
func TestIDStays(t *testing.T) {
	for want, m := range map[string]Manifest{"ead00cf7918a9dbd": sample(), "553b428617ec29fa": verified()} {
		if id := m.ComputeID(); id != want {
			t.Errorf("ID = %s, want %s", id, want)
		}
	}
}

func TestEncodeDecode(t *testing.T) {
	for _, m := range []Manifest{sample(), verified()} {
		if got, err := Decode(m.Encode()); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("Decode = %+v, %v, want %+v", got, err, m)
		}
	}
	if strings.Contains(string(sample().Encode()), "verity") {
		t.Error("a manifest without a hash tree speaks of one")
	}
	m := sample()
	if f, ok := m.File(RootPath); !ok || f.Size != 3 {
		t.Errorf("File(%s) = %+v, %v", RootPath, f, ok)
	}
	if _, ok := m.File("boot"); ok {
		t.Error("a file that is not there is found")
	}
}

// TestID holds the rule that other programs rely on: what changes the ID.
func TestID(t *testing.T) {
	m := sample()
	if len(m.ID) != 16 {
		t.Errorf("ID %q has not 16 digits", m.ID)
	}
	swapped := sample()
	swapped.Files[0], swapped.Files[2] = swapped.Files[2], swapped.Files[0]
	swapped.Kernel, swapped.Kubernetes = "other", "other"
	if id := swapped.ComputeID(); id != m.ID {
		t.Errorf("ID depends on the order of files or on what only informs: %s, %s", id, m.ID)
	}
	for name, change := range map[string]func(*Manifest){
		"version": func(m *Manifest) { m.Version = "0.1.1" },
		"arch":    func(m *Manifest) { m.Arch = "arm64" },
		"digest":  func(m *Manifest) { m.Files[1].SHA256 = strings.Repeat("d", 64) },
		"path":    func(m *Manifest) { m.Files[1].Path = "boot/initrd2" },
		"file":    func(m *Manifest) { m.Files = m.Files[:2] },
	} {
		other := sample()
		change(&other)
		if other.ComputeID() == m.ID {
			t.Errorf("another %s has the same ID", name)
		}
		if _, err := Decode(other.Encode()); !errors.Is(err, ErrManifest) {
			t.Errorf("another %s under the old ID: error = %v, want ErrManifest", name, err)
		}
	}
}

// TestIDOfVerity holds that each part of it counts: the ID is all that a kernel
// command line knows.
func TestIDOfVerity(t *testing.T) {
	m := verified()
	for name, change := range map[string]func(*Manifest){
		"verity":          func(m *Manifest) { m.Verity = nil },
		"root hash":       func(m *Manifest) { m.Verity.RootHash = strings.Repeat("f", 64) },
		"salt":            func(m *Manifest) { m.Verity.Salt = "" },
		"data block size": func(m *Manifest) { m.Verity.DataBlockSize = 1024 },
		"hash block size": func(m *Manifest) { m.Verity.HashBlockSize = 1024 },
		"tree":            func(m *Manifest) { m.Verity.Path = KernelPath },
	} {
		other := verified()
		change(&other)
		if other.ComputeID() == m.ID {
			t.Errorf("another %s has the same ID", name)
		}
		if _, err := Decode(other.Encode()); !errors.Is(err, ErrManifest) {
			t.Errorf("another %s under the old ID: error = %v, want ErrManifest", name, err)
		}
	}
}

// TestDecodeLater reads what a later release may say beside what we know.
func TestDecodeLater(t *testing.T) {
	later := strings.Replace(string(sample().Encode()), `"name"`, `"news": {"of": ["later"]}, "name"`, 1)
	if m, err := Decode([]byte(later)); err != nil || m.ID != sample().ID {
		t.Errorf("Decode of a later manifest = %v, %v", m.ID, err)
	}
}

// kubernetes is a release of Kubernetes alone, with a change.
func kubernetes(change func(*Manifest)) []byte {
	m := Manifest{
		Schema: SchemaOf(Kubernetes), Kind: Kubernetes, Name: "kedge-kubernetes", Version: "1.36.3", Arch: "amd64", Kubernetes: "v1.36.3",
		Files: []File{{KubePath, 1, strings.Repeat("a", 64)}},
	}
	change(&m)
	m.ID = m.ComputeID()
	return m.Encode()
}

// TestKind: nothing of one kind passes for another.
func TestKind(t *testing.T) {
	alone, err := Decode(kubernetes(func(*Manifest) {}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		m    Manifest
		as   Kind
		want error
	}{
		{sample(), System, nil},
		{sample(), Kubernetes, ErrKind},
		{alone, Kubernetes, nil},
		{alone, System, ErrKind},
	} {
		if err := c.m.Of(c.as); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s as %q: %v, want %v", c.m.Name, c.as, err, c.want)
		}
	}
	if alone.Schema == Schema {
		t.Error("a program that knows of no kinds would take it for a system")
	}
}

func TestDecodeRefuses(t *testing.T) {
	with := func(change func(*Manifest)) []byte {
		m := verified()
		change(&m)
		m.ID = m.ComputeID()
		return m.Encode()
	}
	for name, b := range map[string][]byte{
		"nothing":                                nil,
		"schema":                                 with(func(m *Manifest) { m.Schema = 2 }),
		"digest":                                 with(func(m *Manifest) { m.Files[0].SHA256 = "short" }),
		"size":                                   with(func(m *Manifest) { m.Files[0].Size = -1 }),
		"path":                                   with(func(m *Manifest) { m.Files[0].Path = "../etc/shadow" }),
		"kind":                                   with(func(m *Manifest) { m.Kind = "firmware" }),
		"a system that says it is Kubernetes":    with(func(m *Manifest) { m.Kind = Kubernetes }),
		"Kubernetes without its files":           with(func(m *Manifest) { m.Kind, m.Schema = Kubernetes, SchemaOf(Kubernetes) }),
		"Kubernetes in the form of a system":     kubernetes(func(m *Manifest) { m.Schema = Schema }),
		"Kubernetes that does not say which one": kubernetes(func(m *Manifest) { m.Kubernetes = "" }),
		"no root":                                with(func(m *Manifest) { m.Verity.RootHash = "" }),
		"root":                                   with(func(m *Manifest) { m.Verity.RootHash = "- 1 panic_on_corruption" }),
		"salt":                                   with(func(m *Manifest) { m.Verity.Salt = "-" }),
		"blocks":                                 with(func(m *Manifest) { m.Verity.DataBlockSize = 0 }),
		"tree":                                   with(func(m *Manifest) { m.Verity.Path = "kedge/other" }),
	} {
		if _, err := Decode(b); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: error = %v, want ErrManifest", name, err)
		}
	}
}
