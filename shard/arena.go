package shard

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxOrder is the order of a whole chunk: a block of order o has 1<<o pages.
	maxOrder = chunkBits - pageBits
	// hugeFrom is how many chunks a table has before it asks for huge pages, and
	// for chunks ahead of need: a small table should stay small.
	hugeFrom = 16
	// maxChunks is what 32 bits of a line number can name: 256 GiB.
	maxChunks = 1 << (32 - chunkBits)
)

// arena hands out blocks of pages, by the buddy method. It is visited once per
// 64 new lines and once per growth of an index, so a mutex will do; readers only
// follow dir. Page 0 stays zero for ever: it is the index of empty shards, and
// no record has line number 0.
//
// Memory that is given back may still be looked at by readers that stand on an
// old index or record. They find whatever is there by then, see that it is not
// what they look for, and look again: so nothing here waits for readers.
type arena struct {
	// Immutable after init.
	heap bool // chunks come from the Go heap

	// Atomic.
	dir     atomic.Pointer[[]extent] // the chunks by line number, replaced as a whole
	filling atomic.Bool              // a goroutine takes a chunk ahead of need

	// Guarded by mu.
	mu       sync.Mutex
	heads    [maxOrder + 1]uint32 // first page + 1 of the first free block of each order, 0 = none
	free     int                  // free pages in chunks that we hold
	resident int                  // chunks that we hold
	away     []uint32             // chunks that were given back
	mappings *mappings
}

// mappings is all mapped memory of a table. It outlives the table, to be unmapped.
type mappings struct{ all [][]byte }

func (m *mappings) unmap() {
	for _, b := range m.all {
		unmap(b)
	}
}

func (a *arena) init(heap bool) {
	a.heap = heap || !canMap
	a.mappings = &mappings{}
	a.dir.Store(&[]extent{})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.linkLocked(a.addLocked(a.fresh(1)), maxOrder)
	if p, ok := a.takeLocked(0); !ok || p != 0 {
		panic(fmt.Sprintf("shard: the first page is %d", p))
	}
}

// alloc returns the first page of a block of 1<<order pages. It holds whatever was there.
func (a *arena) alloc(order int) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if order > maxOrder {
		return a.addLocked(a.fresh(1 << (order - maxOrder)))
	}
	p, ok := a.takeLocked(order)
	if !ok {
		// Not put: what is free may be much, but in small blocks, and then put
		// would give the chunk back at once.
		a.linkLocked(a.moreLocked(), maxOrder)
		if p, ok = a.takeLocked(order); !ok {
			panic(fmt.Sprintf("shard: a chunk has no block of order %d", order))
		}
	}
	if a.free < 2*chunkPages && a.resident >= hugeFrom && !a.heap && a.filling.CompareAndSwap(false, true) {
		go a.fillAhead()
	}
	return p
}

// release takes a block back.
func (a *arena) release(p uint32, order int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ; order > maxOrder; order-- { // a row of chunks: each is one block
		half := uint32(1) << (order - 1)
		for c := p + half; c < p+2*half; c += chunkPages {
			a.putLocked(c, maxOrder)
		}
	}
	a.putLocked(p, order)
}

// fillAhead takes a chunk and faults it in, so that no writer has to wait for
// the system to zero a huge page (milliseconds at worst).
func (a *arena) fillAhead() {
	defer a.filling.Store(false)
	a.mu.Lock()
	c, again := a.popAwayLocked()
	a.mu.Unlock()
	var added []held
	if again {
		makeHuge((*a.dir.Load())[c].lines)
	} else {
		added = a.fresh(1)
		makeHuge(added[0].lines)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if again {
		a.resident++
		a.linkLocked(c*chunkPages, maxOrder)
	} else {
		a.linkLocked(a.addLocked(added), maxOrder)
	}
}

// held is a chunk that was taken from the system and is not yet in the directory.
type held struct {
	lines   *chunk
	mapping []byte
}

func (a *arena) fresh(n int) []held {
	all := make([]held, n)
	for i := range all {
		if a.heap {
			all[i].lines = new(chunk)
		} else {
			all[i].lines, all[i].mapping = mapChunk()
		}
	}
	return all
}

// addLocked enters chunks at the end of the directory and returns the first's first page.
func (a *arena) addLocked(chunks []held) uint32 {
	old := *a.dir.Load()
	if len(old)+len(chunks) > maxChunks {
		panic(fmt.Sprintf("shard: the table is full: %d chunks of %d bytes", len(old), chunkBytes))
	}
	dir := slices.Grow(slices.Clone(old), len(chunks))
	for _, c := range chunks {
		dir = append(dir, extent{c.lines, new([chunkPages]page)})
		if c.mapping != nil {
			a.mappings.all = append(a.mappings.all, c.mapping)
		}
	}
	a.resident += len(chunks)
	a.dir.Store(&dir)
	return uint32(len(old) * chunkPages)
}

// moreLocked returns the first page of a chunk that is now ours: one that was
// given back before, or a new one. It has small pages: a writer waits here, and
// for a huge page the system may have to move others' memory (15 ms were seen).
func (a *arena) moreLocked() uint32 {
	c, again := a.popAwayLocked()
	if !again {
		return a.addLocked(a.fresh(1))
	}
	a.resident++
	if a.heap {
		a.setLinesLocked(c, new(chunk))
	}
	return c * chunkPages
}

func (a *arena) popAwayLocked() (c uint32, ok bool) {
	if len(a.away) == 0 {
		return 0, false
	}
	c = a.away[len(a.away)-1]
	a.away = a.away[:len(a.away)-1]
	return c, true
}

// setLinesLocked changes the memory of chunk c; readers inside keep what they hold.
func (a *arena) setLinesLocked(c uint32, lines *chunk) {
	dir := slices.Clone(*a.dir.Load())
	dir[c].lines = lines
	a.dir.Store(&dir)
}

// takeLocked takes a block from the free lists, splitting a larger one if need be.
func (a *arena) takeLocked(order int) (p uint32, ok bool) {
	from := order
	for ; a.heads[from] == 0; from++ {
		if from == maxOrder {
			return 0, false
		}
	}
	p = a.heads[from] - 1
	a.unlinkLocked(p)
	for from > order {
		from--
		a.linkLocked(p+1<<from, from)
	}
	return p, true
}

// putLocked makes a block free, joined with its buddy if that is free too. A
// chunk that became free is given back if enough is free besides.
func (a *arena) putLocked(p uint32, order int) {
	for ; order < maxOrder; order++ {
		buddy := p ^ 1<<order
		if b := a.page(buddy); !b.isFree || int(b.order) != order {
			break
		}
		a.unlinkLocked(buddy)
		p &^= 1 << order
	}
	if order == maxOrder && a.free >= a.spareLocked() && a.giveBackLocked(p/chunkPages) {
		return
	}
	a.linkLocked(p, order)
}

// spareLocked is how many pages stay with us for the next writes: more than
// fillAhead would fetch again.
func (a *arena) spareLocked() int {
	if a.resident < hugeFrom {
		return chunkPages
	}
	return 3 * chunkPages
}

func (a *arena) giveBackLocked(c uint32) bool {
	if a.heap {
		a.setLinesLocked(c, nil)
	} else if !giveBack((*a.dir.Load())[c].lines) {
		return false
	}
	a.resident--
	a.away = append(a.away, c)
	return true
}

func (a *arena) linkLocked(p uint32, order int) {
	b := a.page(p)
	b.isFree, b.order, b.prev, b.next = true, uint8(order), 0, a.heads[order]
	if b.next != 0 {
		a.page(b.next - 1).prev = p + 1
	}
	a.heads[order] = p + 1
	a.free += 1 << order
}

func (a *arena) unlinkLocked(p uint32) {
	b := a.page(p)
	b.isFree = false
	if b.prev != 0 {
		a.page(b.prev - 1).next = b.next
	} else {
		a.heads[b.order] = b.next
	}
	if b.next != 0 {
		a.page(b.next - 1).prev = b.prev
	}
	a.free -= 1 << b.order
}
