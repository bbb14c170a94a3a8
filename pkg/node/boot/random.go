package boot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"time"

	"github.com/kedgeos/kedge/pkg/sys/atomicfile"
	"github.com/kedgeos/kedge/pkg/sys/kernel"
)

// randomWait is how long the kernel may take to gather random numbers by
// itself, from hardware, the firmware's seed or interrupts.
const randomWait = 10 * time.Second

// seedRandom returns when the kernel has good random numbers. A machine with
// no source of them would wait for minutes; after randomWait the uneven run of
// its own processor is measured and counted as a seed.
func seedRandom(ctx context.Context, note func(string)) error {
	for start := time.Now(); !kernel.RandomReady(); {
		if time.Since(start) > randomWait {
			note("random numbers: no hardware source, seeded from the jitter of the processor")
			return kernel.CreditRandom(jitter(), seedBits)
		}
		pause(ctx, 50*time.Millisecond)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

const seedBits = 256

// jitter folds the times of many small walks through memory into a digest.
// One such time is worth a fraction of a bit; here are thousands for each bit
// of the seed, and the random pool stirs in what it has besides.
func jitter() []byte {
	const rounds = 4096 * seedBits / 8
	memory := make([]byte, 64<<10)
	sum := sha256.New()
	var sample [8]byte
	last, at := time.Now(), uint32(1)
	for range rounds {
		for range 32 {
			at = at*1664525 + 1013904223
			memory[at>>16]++
		}
		now := time.Now()
		binary.LittleEndian.PutUint64(sample[:], uint64(now.Sub(last)))
		last = now
		at ^= uint32(sample[0])
		sum.Write(sample[:])
	}
	return sum.Sum(nil)
}

// restoreSeed credits the seed that the last run left at path and replaces it
// at once, so that no seed is used twice.
func restoreSeed(path string) error {
	seed, err := os.ReadFile(path)
	if err == nil && len(seed) >= seedBits/8 {
		err = kernel.CreditRandom(seed, seedBits)
	}
	if saved := saveSeed(path); err == nil {
		err = saved
	}
	return err
}

// saveSeed keeps a seed for the next run. It does not wait: before the kernel
// has good random numbers there is nothing worth keeping.
func saveSeed(path string) error {
	if !kernel.RandomReady() {
		return nil
	}
	seed := make([]byte, 2*seedBits/8)
	f, err := os.Open("/dev/urandom")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Read(seed); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, seed, 0o600)
}
