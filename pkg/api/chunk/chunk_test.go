package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

// noise returns n bytes that look like packed data.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func split(t testing.TB, r io.Reader) (sizes []int, sums map[Sum]bool, whole []byte) {
	t.Helper()
	sums = map[Sum]bool{}
	err := Split(r, func(data []byte) error {
		sizes, whole = append(sizes, len(data)), append(whole, data...)
		sums[SumOf(data)] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sizes, sums, whole
}

func TestSplitKeepsEveryByte(t *testing.T) {
	for _, n := range []int{0, 1, minSize, minSize + 1, avgSize, maxSize, maxSize + 1, 8 * maxSize, 3_000_001} {
		data := noise(n, 1)
		sizes, _, whole := split(t, bytes.NewReader(data))
		if !bytes.Equal(whole, data) {
			t.Errorf("%d bytes come back as %d others", n, len(whole))
		}
		for i, s := range sizes {
			if s > maxSize || s < minSize && i < len(sizes)-1 {
				t.Errorf("%d bytes: chunk %d of %d has %d", n, i, len(sizes), s)
			}
		}
		odd, _, _ := split(t, iotest.HalfReader(bytes.NewReader(data)))
		if !slices.Equal(odd, sizes) {
			t.Errorf("%d bytes: read in pieces they are cut otherwise", n)
		}
	}
}

func TestSplitMeetsItsAverage(t *testing.T) {
	data := noise(16<<20, 2)
	sizes, _, _ := split(t, bytes.NewReader(data))
	if avg := len(data) / len(sizes); avg < avgSize*3/4 || avg > avgSize*3/2 {
		t.Errorf("chunks have %d bytes on average, want about %d", avg, avgSize)
	}
}

// What machines in the field have cut must stay what it is.
func TestSplitNeverChanges(t *testing.T) {
	sizes, _, _ := split(t, bytes.NewReader(noise(300_000, 3)))
	if want := []int{16098, 18465, 21708, 19157, 23811, 16763, 26220, 17899, 24553, 21060, 5680, 18619, 16588, 24658, 18661, 10060}; !slices.Equal(sizes, want) {
		t.Errorf("sizes %v, want %v: machines would no longer find what they have", sizes, want)
	}
}

func TestEditsChangeFewChunks(t *testing.T) {
	data := noise(4<<20, 4)
	_, before, _ := split(t, bytes.NewReader(data))
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		edited := bytes.Clone(data)
		at := r.IntN(len(data))
		switch r.IntN(3) {
		case 0:
			edited = slices.Insert(edited, at, noise(1+r.IntN(1000), 7)...)
		case 1:
			edited = slices.Delete(edited, at, min(at+1+r.IntN(1000), len(edited)))
		default:
			edited[at] ^= 1
		}
		_, after, _ := split(t, bytes.NewReader(edited))
		fresh := 0
		for s := range after {
			if !before[s] {
				fresh++
			}
		}
		if fresh == 0 || fresh > 6 {
			t.Errorf("an edit at %d changes %d of %d chunks", at, fresh, len(after))
		}
	}
}

func TestSplitStops(t *testing.T) {
	want := errors.New("enough")
	if err := Split(bytes.NewReader(noise(1<<20, 8)), func([]byte) error { return want }); err != want {
		t.Errorf("error %v, want %v", err, want)
	}
	if err := Split(iotest.ErrReader(want), func([]byte) error { return nil }); err != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

var sample = Index{ID: "0123456789abcdef", Chunks: []Chunk{
	{Size: 5, Sum: SumOf([]byte("hello"))}, {Size: 2048, Kind: Open}, {Size: 256 << 10, Kind: Config}, {Size: maxSize, Sum: SumOf(nil)},
}}

func TestIndexRoundTrip(t *testing.T) {
	for _, x := range []Index{sample, {ID: "ffffffffffffffff", Chunks: []Chunk{}}} {
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != headSize+entrySize*len(x.Chunks)+32 {
			t.Errorf("%d bytes for %d chunks", len(b), len(x.Chunks))
		}
		got, err := Decode(b)
		if err != nil || got.ID != x.ID || !slices.Equal(got.Chunks, x.Chunks) {
			t.Errorf("Decode = %+v, %v, want %+v", got, err, x)
		}
	}
}

// change returns the sample with bytes changed and a digest that fits.
func change(t testing.TB, f func(b []byte) []byte) []byte {
	t.Helper()
	b, err := sample.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b = f(b[:len(b)-sha256.Size])
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func TestDecodeRefuses(t *testing.T) {
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	good, _ := sample.Encode()
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"another file":       bytes.Repeat([]byte("<html>"), 100),
		"cut":                good[:len(good)-1],
		"flipped":            append(append(bytes.Clone(good[:40]), good[40]^1), good[41:]...),
		"another version":    change(t, put32(8, 2)),
		"more chunks":        change(t, put32(12, 5)),
		"very many chunks":   change(t, put32(12, 1<<31)),
		"another size":       change(t, put32(16, 1)),
		"empty chunk":        change(t, put32(headSize, 0)),
		"large chunk":        change(t, put32(headSize, maxSize+1)),
		"unknown kind":       change(t, put32(headSize, 5|3<<24)),
		"large area":         change(t, put32(headSize+entrySize, (maxArea+1)|1<<24)),
		"open with a digest": change(t, put32(headSize+entrySize+4, 1)),
		"half an entry":      change(t, func(b []byte) []byte { return append(b, 1, 2, 3) }),
		"very long":          make([]byte, MaxIndex+1),
	} {
		if x, err := Decode(b); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: Decode = %+v, %v, want ErrIndex", name, x, err)
		}
	}
	if _, err := (Index{ID: "short"}).Encode(); !errors.Is(err, ErrIndex) {
		t.Errorf("a bad release ID is written: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	good, _ := sample.Encode()
	f.Add(good[:len(good)-32])
	f.Add(good[:headSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b) // else nothing gets past the digest
		b = append(bytes.Clone(b), sum[:]...)
		x, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Fatalf("error %v does not wrap ErrIndex", err)
			}
			return
		}
		if x.Size() > maxImage {
			t.Fatalf("an image of %d bytes", x.Size())
		}
		if again, err := x.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again it is another: %v", err)
		}
	})
}

func BenchmarkSplit(b *testing.B) { // cuts only
	data := noise(64<<20, 9)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Split(bytes.NewReader(data), func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplitAndSum(b *testing.B) { // what a machine does with a slot
	data := noise(64<<20, 9)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Split(bytes.NewReader(data), func(d []byte) error { SumOf(d); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
