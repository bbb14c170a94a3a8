package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pattern is data that differ everywhere: each 8 bytes hold their own number.
func pattern(size int64) []byte {
	b := make([]byte, size)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], uint64(i/8))
	}
	return b
}

// repeat is a salt of n bytes.
func repeat(n int) []byte { return bytes.Repeat([]byte{0xa5, 0x17}, n)[:n] }

// golden are root hashes that veritysetup 2.6.1 printed for pattern and repeat.
var golden = []struct {
	size int64
	salt int // length in bytes
	tree int64
	root string
}{
	{1 * 4096, 0, 0 * 4096, "5738153ec97595b1c1e4dc027f7b7fb4534f19ed2ce9f9ee712e6d34a384cde7"},
	{1 * 4096, 32, 0 * 4096, "851deda236d75c1d4fc48f50a408eb874f661bc0f5cb20d0779169b0a2671a99"},
	{2 * 4096, 0, 1 * 4096, "5ae052325fc7cb5b8d265b1504069d3a0db2a47976df64d51cf8f5e80bdae077"},
	{2 * 4096, 32, 1 * 4096, "4cb2effd370ec3aff05dafc17624182935768eb3ceaf692e992ebb0caf83fc2d"},
	{127 * 4096, 0, 1 * 4096, "c482617874bf6747b5ac13d4102ef87dee215dea8a650b0e6bba9a38b9ed4fb7"},
	{127 * 4096, 32, 1 * 4096, "b111cc6c6dd09bf39c98b2150d414be33ea48d0c3545606cac4ec35431f094ba"},
	{128 * 4096, 0, 1 * 4096, "0c49aebc37fae6a52159ab54f4dbd1dc2d3aa11b2a26377b7d6b6e94ec27aac4"},
	{128 * 4096, 32, 1 * 4096, "a390f216901fe031ec01cb65bbb7059ddb3e9c42d77de862eac6510fd4a87aea"},
	{129 * 4096, 0, 3 * 4096, "48a081f65d368cb0b9e3933a7dec78c942e65c94444ccc0e73dc23996863f113"},
	{129 * 4096, 32, 3 * 4096, "8b738f8f6b4e9b7106b184301ed6538f337ad41f7938303ff53a4ed78d2bda89"},
	{255 * 4096, 0, 3 * 4096, "3449e7bbfba1bdb8e58ea166814d9d46ad7712f1840da6fd5bce3d2d4a2c9bea"},
	{255 * 4096, 32, 3 * 4096, "b1b11cf2746b2ba99f013498e2abd61f4b0900d9eaf312d70760720e109dc54d"},
	{256 * 4096, 0, 3 * 4096, "c299a38df84f15213034d9c09c27b8d342a4732b020e0a3cf8b3af8f23f44c43"},
	{256 * 4096, 32, 3 * 4096, "1fac67d95a89abb8bdc5322d41802b97ff3685dd705c3a74a7241ac9b0c98e46"},
	{257 * 4096, 1, 4 * 4096, "f4e16a465546f8cc1a045162ae309c0c619dfc44f21451b67d1328f65507e015"},
	{257 * 4096, 55, 4 * 4096, "30e3d4d90978a274d2a7e3d1ed2fcbf6d9b5336f7d028c2f99d8d3c2582b79af"},
	{257 * 4096, 256, 4 * 4096, "18863717463af4286b66c3414f7c032f78615b7b9c68fe6068729762046621d9"},
	{16384 * 4096, 0, 129 * 4096, "cdb9b69c16443b7c0dd8db5a1be3713530d222b33af807d9004252b00b9e70d1"},
	{16384 * 4096, 32, 129 * 4096, "7140b5710f01ef52862128747fceddf015f18a48c90a793e8ca5ca0f3b91f452"},
	{16385 * 4096, 0, 132 * 4096, "47d84e381ec6c9efaf40e514670080968fc5127b32af67a8fbec43cc7471210c"},
	{16385 * 4096, 32, 132 * 4096, "8abea926cbeed4f067950fdba418eb825812bf4a7b8c2bc39e7df394fc9e80d3"},
	{16512 * 4096, 0, 132 * 4096, "0dedf855059653ff0b0b9337dc1801dfd049b6bac5469d38ac958ddc72f44a19"},
	{16512 * 4096, 32, 132 * 4096, "e76636407ac099d4028e0beb46f9b9b82af31dbe0155bc594e992ac0711d95fb"},
}

func build(t testing.TB, data, salt []byte) ([]byte, [32]byte) {
	t.Helper()
	var tree bytes.Buffer
	root, n, err := Build(bytes.NewReader(data), int64(len(data)), salt, &tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := TreeSize(int64(len(data))); n != want || int64(tree.Len()) != want {
		t.Errorf("Build says %d bytes and writes %d, TreeSize says %d", n, tree.Len(), want)
	}
	return tree.Bytes(), root
}

func TestBuild(t *testing.T) {
	for _, c := range golden {
		data, salt := pattern(c.size), repeat(c.salt)
		tree, root := build(t, data, salt)
		if got := hex.EncodeToString(root[:]); got != c.root {
			t.Errorf("%d bytes, salt of %d: root %s, want %s", c.size, c.salt, got, c.root)
		}
		if int64(len(tree)) != c.tree {
			t.Errorf("%d bytes: tree has %d bytes, want %d", c.size, len(tree), c.tree)
		}
		if err := Verify(bytes.NewReader(data), c.size, bytes.NewReader(tree), root, salt); err != nil {
			t.Errorf("%d bytes: Verify = %v", c.size, err)
		}
	}
}

// TestVeritysetup lets veritysetup judge: its tree and ours have the same bytes
// and it accepts ours. The golden root hashes above came from it, so this test
// alone may be skipped where the tool is missing.
func TestVeritysetup(t *testing.T) {
	tool, err := exec.LookPath("veritysetup")
	if err != nil {
		tool = "/usr/sbin/veritysetup"
	}
	if _, err := os.Stat(tool); err != nil {
		t.Skip("no veritysetup; it comes with cryptsetup-bin")
	}
	for _, c := range golden {
		data, salt := pattern(c.size), repeat(c.salt)
		tree, root := build(t, data, salt)
		dir := t.TempDir()
		dataFile, ours, theirs := filepath.Join(dir, "data"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
		write(t, dataFile, data)
		write(t, ours, tree)

		hexSalt := "-"
		if len(salt) > 0 {
			hexSalt = hex.EncodeToString(salt)
		}
		out := run(t, tool, "format", "--no-superblock", "--salt", hexSalt, dataFile, theirs)
		if !strings.Contains(out, fmt.Sprintf("%x", root)) {
			t.Errorf("%d bytes, salt of %d: root %x, veritysetup says\n%s", c.size, c.salt, root, out)
		}
		if b, err := os.ReadFile(theirs); err != nil || !bytes.Equal(b, tree) {
			t.Errorf("%d bytes: our tree of %d bytes differs from veritysetup's of %d, %v", c.size, len(tree), len(b), err)
		}
		args := []string{"verify", "--no-superblock", "--salt", hexSalt, "--data-blocks", fmt.Sprint(c.size / BlockSize), dataFile, ours, fmt.Sprintf("%x", root)}
		run(t, tool, args...)

		data[len(data)-1] ^= 1
		write(t, dataFile, data)
		if out, err := exec.Command(tool, args...).CombinedOutput(); err == nil {
			t.Errorf("%d bytes: veritysetup accepts damaged data\n%s", c.size, out)
		}
	}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestBuildRefuses(t *testing.T) {
	failing := errors.New("disk on fire")
	for _, c := range []struct {
		name string
		data io.Reader
		size int64
		salt []byte
		want string
	}{
		{"odd size", strings.NewReader("x"), 4097, nil, "hash data: size of 4097 bytes is not a multiple of 4096"},
		{"nothing", strings.NewReader(""), 0, nil, "hash data: size is 0 bytes"},
		{"negative", strings.NewReader(""), -4096, nil, "hash data: size is -4096 bytes"},
		{"long salt", bytes.NewReader(pattern(4096)), 4096, repeat(257), "hash data: salt of 257 bytes, at most 256 are allowed"},
		{"no data", strings.NewReader(""), 4096, nil, "read data: unexpected EOF"},
		{"a byte missing", bytes.NewReader(pattern(8192)[:8191]), 8192, nil, "read data: unexpected EOF"},
		{"a block missing", bytes.NewReader(pattern(3 * chunk)), 3*chunk + 4096, nil, "read data: unexpected EOF"},
		{"bad disk", io.MultiReader(bytes.NewReader(pattern(9*chunk)), broken{failing}), 99 * chunk, nil, "read data: disk on fire"},
	} {
		var tree bytes.Buffer
		if _, n, err := Build(c.data, c.size, c.salt, &tree); err == nil || err.Error() != c.want || n != 0 || tree.Len() > 0 {
			t.Errorf("%s: error = %v after %d bytes, want %s", c.name, err, tree.Len(), c.want)
		}
	}
	if _, _, err := Build(bytes.NewReader(pattern(8192)), 8192, nil, broken{failing}); !errors.Is(err, failing) {
		t.Errorf("error of the writer = %v", err)
	}
}

// broken fails to read and to write.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error)  { return 0, b.err }
func (b broken) Write([]byte) (int, error) { return 0, b.err }

// TestVerifyNames says which block is bad, for one bit flipped or one end cut.
func TestVerifyNames(t *testing.T) {
	const size = 129*128*4096 + 4096 // levels of 1, 2 and 130 blocks
	salt := repeat(32)
	data := pattern(size)
	tree, root := build(t, data, salt)
	if len(tree) != 133*4096 {
		t.Fatalf("tree has %d blocks", len(tree)/4096)
	}
	for _, c := range []struct {
		name           string
		inData, inTree []int // where a bit is flipped
		want           string
	}{
		{"nothing", nil, nil, ""},
		{"first byte", []int{0}, nil, "verify data: block at byte 0: "},
		{"middle", []int{1000*4096 + 17}, nil, "verify data: block at byte 4096000: "},
		{"last byte", []int{size - 1}, nil, "verify data: block at byte 67633152: "},
		{"first of two", []int{9000 * 4096, 20 * 4096}, nil, "verify data: block at byte 81920: "},
		{"top", nil, []int{5}, "verify hash tree: block at byte 0: "},
		{"padding of the top", nil, []int{4095}, "verify hash tree: block at byte 0: "},
		{"level 1", nil, []int{4096 + 4095}, "verify hash tree: block at byte 4096: "},
		{"level 0", nil, []int{3*4096 + 129*4096}, "verify hash tree: block at byte 540672: "},
		{"tree before data", []int{0}, []int{5*4096 + 1}, "verify hash tree: block at byte 20480: "},
	} {
		d, x := bytes.Clone(data), bytes.Clone(tree)
		for _, at := range c.inData {
			d[at] ^= 0x10
		}
		for _, at := range c.inTree {
			x[at] ^= 0x10
		}
		err := Verify(bytes.NewReader(d), size, bytes.NewReader(x), root, salt)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrMismatch) || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
		}
	}
	for _, c := range []struct {
		name       string
		data, tree []byte
		want       string
	}{
		{"short data", data[:size-1], tree, "read data: unexpected EOF"},
		{"no data", nil, tree, "read data: unexpected EOF"},
		{"short tree", data, tree[:len(tree)-1], "read hash tree: unexpected EOF"},
		{"no tree", data, nil, "read hash tree: unexpected EOF"},
	} {
		err := Verify(bytes.NewReader(c.data), size, bytes.NewReader(c.tree), root, salt)
		if err == nil || err.Error() != c.want || errors.Is(err, ErrMismatch) {
			t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
		}
	}
	if err := Verify(bytes.NewReader(data), size, bytes.NewReader(tree), root, nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("another salt: error = %v", err)
	}
	if err := Verify(bytes.NewReader(data), size-1, bytes.NewReader(tree), root, salt); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("odd size: error = %v", err)
	}
}

// TestVerifyOneBlock is the case without a tree.
func TestVerifyOneBlock(t *testing.T) {
	data := pattern(4096)
	_, root := build(t, data, nil)
	data[9] ^= 1
	if err := Verify(bytes.NewReader(data), 4096, strings.NewReader(""), root, nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("error = %v, want ErrMismatch", err)
	}
}

func TestTable(t *testing.T) {
	var root [32]byte
	hex.Decode(root[:], []byte("4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076"))
	salt := append([]byte{0x12, 0x34}, make([]byte, 30)...)
	// The example of verity.rst.
	const example = "1 /dev/sda1 /dev/sda2 4096 4096 262144 1 sha256 " +
		"4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076 " +
		"1234000000000000000000000000000000000000000000000000000000000000"
	for _, c := range []struct {
		options []Option
		want    string
	}{
		{nil, example},
		{[]Option{PanicOnCorruption}, example + " 1 panic_on_corruption"},
		{[]Option{RestartOnCorruption, CheckAtMostOnce}, example + " 2 restart_on_corruption check_at_most_once"},
	} {
		if got := Table("/dev/sda1", "/dev/sda2", 262144, 1, root, salt, c.options...); got != c.want {
			t.Errorf("Table = %s\nwant    %s", got, c.want)
		}
	}
	if got := Table("7:0", "7:0", 2, 2, root, nil); !strings.HasPrefix(got, "1 7:0 7:0 4096 4096 2 2 sha256 4392") || !strings.HasSuffix(got, "9076 -") {
		t.Errorf("Table without salt = %s", got)
	}
}

func BenchmarkBuild(b *testing.B) {
	data := pattern(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := Build(bytes.NewReader(data), int64(len(data)), repeat(32), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	data := pattern(64 << 20)
	tree, root := build(b, data, repeat(32))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := Verify(bytes.NewReader(data), int64(len(data)), bytes.NewReader(tree), root, repeat(32)); err != nil {
			b.Fatal(err)
		}
	}
}
