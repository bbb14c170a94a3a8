package verity

import (
	"crypto/sha256"
	"io"
	"sync"
)

const (
	workers = 2
	chunk   = 256 * BlockSize // what a worker takes at a time
)

// hashBlocks returns the digests of all blocks of size bytes of data, in
// order, with room to pad them. One goroutine reads while the workers hash.
func hashBlocks(data io.Reader, size int64, salt []byte) ([]byte, error) {
	type job struct{ blocks, digests []byte }
	var (
		digests = make([]byte, size/BlockSize*sha256.Size, size/BlockSize*sha256.Size+BlockSize)
		jobs    = make(chan job)
		free    = make(chan []byte, workers+1)
		wait    sync.WaitGroup
	)
	for range cap(free) {
		free <- make([]byte, min(chunk, size))
	}
	for range workers {
		wait.Go(func() {
			for j := range jobs {
				hashChunk(j.digests, j.blocks, salt)
				free <- j.blocks[:cap(j.blocks)]
			}
		})
	}
	var err error
	for at := int64(0); at < size && err == nil; at += chunk {
		b := (<-free)[:min(chunk, size-at)]
		if _, err = io.ReadFull(data, b); err == nil {
			jobs <- job{b, digests[at/BlockSize*sha256.Size:]}
		}
	}
	close(jobs)
	wait.Wait()
	if err != nil {
		return nil, short(err)
	}
	return digests, nil
}

// hashChunk puts the digests of all blocks at the start of digests.
func hashChunk(digests, blocks, salt []byte) {
	h := sha256.New()
	for i := 0; i < len(blocks); i += BlockSize {
		h.Reset()
		h.Write(salt)
		h.Write(blocks[i : i+BlockSize])
		at := i / BlockSize * sha256.Size
		h.Sum(digests[at:at])
	}
}
