package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/kedgeos/kedge/pkg/api/chunk"
)

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// indexOf cuts an image that has an open chunk at 100,000 and a config behind it
// when it is large enough.
func indexOf(image []byte) chunk.Index {
	x := chunk.Index{ID: "0011223344556677"}
	fixed := func(b []byte) {
		err := chunk.Split(bytes.NewReader(b), func(d []byte) error {
			x.Chunks = append(x.Chunks, chunk.Chunk{Size: int64(len(d)), Sum: chunk.SumOf(d)})
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	if len(image) < 200_000 {
		fixed(image)
		return x
	}
	fixed(image[:openAt])
	x.Chunks = append(x.Chunks, chunk.Chunk{Size: 2048, Kind: chunk.Open}, chunk.Chunk{Size: configSize, Kind: chunk.Config})
	fixed(image[configAt+configSize:])
	return x
}

const (
	openAt     = 100_000
	configAt   = openAt + 2048
	configSize = 5000
)

// server is a source; it breaks off once after so many bytes, 0 means never.
type server struct {
	image   []byte
	breakAt int
	sent    int
	asked   []string
}

var errCut = errors.New("cut off")

func (s *server) Range(_ context.Context, from, size int64, w io.Writer) error {
	s.asked = append(s.asked, fmt.Sprintf("%d+%d", from, size))
	for b := s.image[from : from+size]; len(b) > 0; {
		n := min(len(b), 1000)
		if s.breakAt > 0 && s.sent+n > s.breakAt {
			return errCut
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		s.sent += n
		b = b[n:]
	}
	return nil
}

func newFile(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func content(t testing.TB, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readers(seeds ...[]byte) (list []io.Reader) {
	for _, s := range seeds {
		list = append(list, bytes.NewReader(s))
	}
	return list
}

// edit changes some places of an image.
func edit(image []byte, r *rand.Rand) []byte {
	image = bytes.Clone(image)
	for range r.IntN(6) {
		at := r.IntN(len(image))
		n := 1 + r.IntN(40_000)
		switch end := min(at+n, len(image)); r.IntN(4) {
		case 0:
			image = slices.Insert(image, at, noise(n, byte(n))...)
		case 1:
			image = slices.Delete(image, at, end)
		case 2:
			clear(image[at:end])
		default: // the same once more elsewhere
			image = append(image, image[at:end]...)
		}
		if len(image) == 0 {
			image = []byte{0}
		}
	}
	return image
}

func TestRandomEdits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 60 {
		old := noise(300_000+r.IntN(1_500_000), byte(n))
		image := edit(old, r)
		other := edit(old, r)
		damaged := bytes.Clone(old)
		for range 10 { // bit errors of a worn disk
			damaged[r.IntN(len(damaged))] ^= 1 << r.IntN(8)
		}
		f := newFile(t)
		s := &server{image: image}
		if err := Rebuild(t.Context(), indexOf(image), f, readers(damaged, other), s, Options{Share: 100}); err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		if !bytes.Equal(content(t, f), image) {
			t.Fatalf("round %d: what was put together is not the image", n)
		}
	}
}

func TestFetchesOnlyWhatChanged(t *testing.T) {
	old := noise(4<<20, 1)
	image := slices.Insert(bytes.Clone(old), 2_000_000, noise(10_000, 2)...)
	s, f := &server{image: image}, newFile(t)
	var plan, done int64
	err := Rebuild(t.Context(), indexOf(image), f, readers(old), s, Options{
		Config: image[configAt : configAt+configSize],
		Plan:   func(n, size int64) { plan = n },
		Bytes:  func(n, of int64) { done = n },
	})
	if err != nil || !bytes.Equal(content(t, f), image) {
		t.Fatalf("Rebuild: %v", err)
	}
	if plan > 300_000 || done != plan || len(s.asked) > 3 {
		t.Errorf("planned %d bytes, fetched %d in %v", plan, done, s.asked)
	}
}

func TestConfigOfTheMachine(t *testing.T) {
	image, mine := noise(400_000, 1), noise(configSize, 9)
	want := bytes.Clone(image)
	copy(want[configAt:], mine)
	f := newFile(t)
	if err := Rebuild(t.Context(), indexOf(image), f, readers(image), &server{image: image}, Options{Config: mine}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f), want) {
		t.Error("the image has another configuration than the machine's")
	}
	// One of another size has no place.
	f = newFile(t)
	if err := Rebuild(t.Context(), indexOf(image), f, readers(image), &server{image: image}, Options{Config: mine[1:]}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f), image) {
		t.Error("the image is not whole")
	}
}

func TestSignedAfterTheIndex(t *testing.T) {
	image := noise(400_000, 1)
	x := indexOf(image)
	signed := bytes.Clone(image)
	copy(signed[openAt:], "untrusted comment: signature")
	f := newFile(t)
	err := Rebuild(t.Context(), x, f, readers(image), &server{image: signed}, Options{})
	if err != nil || !bytes.Equal(content(t, f), signed) {
		t.Errorf("the signature did not come: %v", err)
	}
}

func TestSameChunkIsFetchedOnce(t *testing.T) {
	block := noise(150_000, 1)
	image := bytes.Repeat(block, 10)[:1_000_000]
	s, f := &server{image: image}, newFile(t)
	err := Rebuild(t.Context(), indexOf(image), f, nil, s, Options{})
	if err != nil || !bytes.Equal(content(t, f), image) {
		t.Fatal(err)
	}
	if s.sent > 700_000 {
		t.Errorf("fetched %d bytes", s.sent)
	}
}

func TestTooLittleIsTheSame(t *testing.T) {
	image := noise(1_000_000, 1)
	s := &server{image: image}
	err := Rebuild(t.Context(), indexOf(image), newFile(t), readers(noise(1_000_000, 2)), s, Options{})
	if !errors.Is(err, ErrNoGain) || s.sent > 0 {
		t.Errorf("error %v, %d bytes fetched, want ErrNoGain and none", err, s.sent)
	}
}

func TestCutAndResumed(t *testing.T) {
	old := noise(2_000_000, 1)
	image := bytes.Clone(old)
	copy(image[500_000:], noise(1_000_000, 2))
	f := newFile(t)
	x, whole := indexOf(image), &server{image: image}
	if err := Rebuild(t.Context(), x, newFile(t), readers(old), whole, Options{}); err != nil {
		t.Fatal(err)
	}
	cut := &server{image: image, breakAt: 600_000}
	if err := Rebuild(t.Context(), x, f, readers(old), cut, Options{}); !errors.Is(err, errCut) {
		t.Fatalf("error %v, want errCut", err)
	}
	// A power cut has left one chunk half written.
	if _, err := f.WriteAt(make([]byte, 100), 700_000); err != nil {
		t.Fatal(err)
	}
	again := &server{image: image}
	if err := Rebuild(t.Context(), x, f, nil, again, Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, f), image) {
		t.Error("what was put together is not the image")
	}
	if again.sent > whole.sent-600_000+2*(128<<10)+2048+configSize+2*gap {
		t.Errorf("the second try fetched %d bytes, a whole one %d", again.sent, whole.sent)
	}
	// A file of another image, larger than this one, serves too.
	f = newFile(t)
	if _, err := f.Write(append(bytes.Clone(old), noise(5000, 3)...)); err != nil {
		t.Fatal(err)
	}
	if err := Rebuild(t.Context(), x, f, nil, &server{image: image}, Options{}); err != nil || !bytes.Equal(content(t, f), image) {
		t.Errorf("from another image: %v", err)
	}
}

func TestLyingIndex(t *testing.T) {
	image := noise(1_000_000, 1)
	old := bytes.Clone(image)
	copy(old[300_000:], noise(200_000, 2))
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 30 {
		x := indexOf(image)
		// A swap of neighbours, another digest, another size.
		i := 2 + r.IntN(len(x.Chunks)-4)
		switch n % 3 {
		case 0:
			x.Chunks[i], x.Chunks[i+1] = x.Chunks[i+1], x.Chunks[i]
		case 1:
			x.Chunks[i].Sum[0] ^= 1
		default:
			x.Chunks[i].Size--
			x.Chunks[i+1].Size++
		}
		s, f := &server{image: image}, newFile(t)
		err := Rebuild(t.Context(), x, f, readers(old), s, Options{Share: 100})
		if err == nil && n%3 != 0 || err != nil && !errors.Is(err, ErrOther) {
			t.Errorf("round %d: error %v", n, err)
		}
		if s.sent > len(image) {
			t.Errorf("round %d: %d bytes fetched of %d", n, s.sent, len(image))
		}
		if len(content(t, f)) > len(image) {
			t.Errorf("round %d: the file has %d bytes", n, len(content(t, f)))
		}
	}
}

func TestSeedThatCannotBeRead(t *testing.T) {
	image := noise(1_000_000, 1)
	broken := errors.New("input/output error")
	seeds := []io.Reader{io.MultiReader(bytes.NewReader(image[:300_000]), iotest.ErrReader(broken)), bytes.NewReader(image)}
	var told []error
	f := newFile(t)
	err := Rebuild(t.Context(), indexOf(image), f, seeds, &server{image: image}, Options{Seed: func(_ int, err error) { told = append(told, err) }})
	if err != nil || !bytes.Equal(content(t, f), image) || len(told) != 1 || !errors.Is(told[0], broken) {
		t.Errorf("error %v, told %v", err, told)
	}
}

func TestFullDisk(t *testing.T) {
	image := noise(400_000, 1)
	if err := Rebuild(t.Context(), indexOf(image), full{newFile(t)}, readers(image), &server{image: image}, Options{}); !errors.Is(err, errFull) {
		t.Errorf("error %v, want errFull", err)
	}
	if err := Rebuild(t.Context(), indexOf(image), full{newFile(t)}, nil, &server{image: image}, Options{Share: 100}); !errors.Is(err, errFull) {
		t.Errorf("error %v, want errFull", err)
	}
}

var errFull = errors.New("no space left on device")

type full struct{ *os.File }

func (full) WriteAt([]byte, int64) (int, error) { return 0, errFull }

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	image := noise(400_000, 1)
	if err := Rebuild(ctx, indexOf(image), newFile(t), readers(image), &server{image: image}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestSpans(t *testing.T) {
	chunks := []chunk.Chunk{{Size: 10}, {Size: 20}, {Size: gap + 1}, {Size: 5}, {Size: gap}, {Size: 7}}
	for _, c := range []struct {
		need []bool
		want []span
	}{
		{[]bool{false, false, false, false, false, false}, nil},
		{[]bool{true, true, false, false, false, false}, []span{{0, 1, 0, 30}}},
		{[]bool{true, false, false, true, false, false}, []span{{0, 0, 0, 10}, {3, 3, gap + 31, 5}}},
		{[]bool{false, false, false, true, false, true}, []span{{3, 5, gap + 31, gap + 12}}},
	} {
		if got := spans(chunks, c.need); !slices.Equal(got, c.want) {
			t.Errorf("spans(%v) = %v, want %v", c.need, got, c.want)
		}
	}
}

func BenchmarkRebuild(b *testing.B) {
	old := noise(64<<20, 1)
	image := bytes.Clone(old)
	copy(image[10<<20:], noise(4<<20, 2))
	x := indexOf(image)
	b.SetBytes(int64(len(image)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Rebuild(b.Context(), x, newFile(b), readers(old), &server{image: image}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
