package controller

import "runtime/debug"

// What the controller may hold, in bytes, beside the program itself. The base is
// enough for smallCluster nodes; each more has about 6 KiB of objects in the
// caches, for some of which there is room in the base.
const (
	baseMemory   = 56 << 20
	nodeMemory   = 4 << 10
	smallCluster = 100
	mostMemory   = 240 << 20 // its container's limit is 256 MiB
)

// memoryFor is the soft limit for a cluster of so many nodes, in bytes.
func memoryFor(nodes int) int64 {
	return min(mostMemory, baseMemory+nodeMemory*int64(max(0, nodes-smallCluster)))
}

// A heap is kept within what a cluster of its size needs: on a small machine a
// collection more costs less than the memory.
type heap struct {
	set   func(limit int64)
	limit int64
}

func limitHeap(limit int64) { debug.SetMemoryLimit(limit) }

// fit sets the limit for so many nodes.
func (h *heap) fit(nodes int) {
	if limit := memoryFor(nodes); limit != h.limit {
		h.limit = limit
		h.set(limit)
	}
}
