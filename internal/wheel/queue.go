package wheel

// The timers of a slot are a queue of chunks: a ring through next, of which the
// wheel knows the last. Only the first chunk may have given ids away at its
// front, only the last has room at its end, and none is empty; so a queue wastes
// less than two chunks. A timer that leaves from the middle is replaced by the
// first of the queue.
//
// Ids side by side are why a visit is cheap. A list through the timers themselves
// makes each visit wait for the memory of the one before; here the processor
// sees the next ids early and has their misses under way together.

// chunkLen ids of 24 bits fill two cache lines.
const chunkLen = 39

// chunk is 128 bytes.
type chunk struct {
	next  uint32           // following chunk of the queue; the last has the first
	queue uint32           // the queue it belongs to; none = free
	low   [chunkLen]uint16 // bits 0 to 15 of the ids
	high  [chunkLen]uint8  // bits 16 to 23
	first uint8            // index of the first id
	end   uint8            // index after the last
}

func (c *chunk) id(k uint8) uint32 { return uint32(c.high[k])<<16 | uint32(c.low[k]) }

func (c *chunk) set(k uint8, id uint32) { c.low[k], c.high[k] = uint16(id), uint8(id>>16) }

// Storage grows by segments: nothing is ever copied, and little is unused.
const (
	chunkBits = 8  // a segment is 32 KiB of chunks
	posBits   = 12 // or the positions of 4096 timers
	segIDs    = 1 << posBits
	segChunks = 1 << chunkBits
)

type (
	chunkSeg [segChunks]chunk
	posSeg   [segIDs]pos
	dueSeg   [segIDs]int64
)

// pos is where a timer stands: chunk and index in it. 0 is nowhere; fresh zeroed
// memory is a timer not scheduled.
type pos uint32

// indexBits hold an index in a chunk. The rest has room for a chunk per timer.
const indexBits = 6

func makePos(chunk uint32, k uint8) pos { return pos(chunk<<indexBits | uint32(k)) }

func (p pos) chunk() uint32 { return uint32(p >> indexBits) }
func (p pos) index() uint8  { return uint8(p & (1<<indexBits - 1)) }

func (w *Wheel) chunk(i uint32) *chunk { return &w.chunks[i>>chunkBits][i&(segChunks-1)] }

func (w *Wheel) pos(id uint32) *pos { return &w.positions[id>>posBits][id&(segIDs-1)] }

// push appends timer id, which is in no queue, to queue q.
func (w *Wheel) push(q, id uint32) {
	last := w.last[q]
	if last == none || w.chunk(last).end == chunkLen {
		last = w.addChunk(q)
	}
	c := w.chunk(last)
	c.set(c.end, id)
	*w.pos(id) = makePos(last, c.end)
	c.end++
}

// addChunk appends an empty chunk to queue q, to be filled at once.
func (w *Wheel) addChunk(q uint32) uint32 {
	i := w.allocChunk()
	c, next := w.chunk(i), i
	if last := w.last[q]; last != none {
		l := w.chunk(last)
		next, l.next = l.next, i
	} else {
		w.occ.set(q)
	}
	c.next, c.queue, c.first, c.end = next, q, 0, 0
	w.last[q] = i
	return i
}

// pop takes the first timer of queue q, which is not empty. Its position is the
// caller's to change.
func (w *Wheel) pop(q uint32) uint32 {
	last := w.chunk(w.last[q])
	i := last.next
	c := w.chunk(i)
	id := c.id(c.first)
	if c.first++; c.first < c.end {
		return id
	}
	if c == last {
		w.last[q] = none
		w.occ.clear(q)
		if w.late.clear(q) {
			w.lateQueues--
		}
	} else {
		last.next = c.next
	}
	w.freeChunk(i)
	return id
}

// remove takes timer id, which stands at *p, out of its queue.
func (w *Wheel) remove(id uint32, p *pos) {
	c := w.chunk(p.chunk())
	if front := w.pop(c.queue); front != id {
		c.set(p.index(), front)
		*w.pos(front) = *p
	}
	*p = 0
}

// allocChunk returns a chunk whose content is old.
func (w *Wheel) allocChunk() uint32 {
	if w.free == none {
		w.addSegment()
	}
	i := w.free
	w.free = w.chunk(i).next
	return i
}

func (w *Wheel) freeChunk(i uint32) {
	c := w.chunk(i)
	c.next, c.queue = w.free, none
	w.free = i
}

// addSegment makes a segment of free chunks. Chunk 0 stays unused: it is none.
func (w *Wheel) addSegment() {
	first := uint32(len(w.chunks)) << chunkBits
	w.chunks = append(w.chunks, new(chunkSeg))
	for i := first + segChunks - 1; i >= first && i != none; i-- {
		w.freeChunk(i)
	}
}
