package storm

// QueueOptions bound a Queue. The zero value of each is its default.
type QueueOptions struct {
	Max      int   // entries; default 8,192
	MaxBytes int   // sum of their sizes; default 8 MiB
	WaitMS   int64 // the longest that one waits; default 1,000
}

func (o *QueueOptions) setDefaults() {
	orDefault(&o.Max, 8192)
	orDefault(&o.MaxBytes, 8<<20)
	orDefault(&o.WaitMS, 1000)
}

// Queue holds what cannot be done at once: oldest first as long as the wait is
// short, newest first once it is overrun. First come, first served is fair, but in
// a queue that is always full everybody waits for the full time, and many of those
// whose turn comes have given up. Newest first, most are served at once, and those
// who are not are told so within WaitMS. It stays so until the queue has been
// empty: a queue that is only just shorter is still overrun.
type Queue[T any] struct {
	o       QueueOptions
	ring    []entry[T] // a power of two long
	head    int        // of the oldest
	n       int
	bytes   int
	overrun bool
}

type entry[T any] struct {
	value T
	atMS  int64 // when it came
	bytes int
}

// NewQueue returns an empty queue.
func NewQueue[T any](o QueueOptions) *Queue[T] {
	o.setDefaults()
	return &Queue[T]{o: o}
}

// Len is how many wait.
func (q *Queue[T]) Len() int { return q.n }

// Overrun reports whether the newest goes first.
func (q *Queue[T]) Overrun() bool { return q.overrun }

// Fits reports whether there is room for one more of that size.
func (q *Queue[T]) Fits(bytes int) bool {
	return q.n < q.o.Max && (q.n == 0 || q.bytes+bytes <= q.o.MaxBytes)
}

// Push adds v, for which Fits has seen to room.
func (q *Queue[T]) Push(v T, bytes int, nowMS int64) {
	if q.n == len(q.ring) {
		q.grow()
	}
	*q.at(q.n) = entry[T]{v, nowMS, bytes}
	q.n++
	q.bytes += bytes
}

// Next takes what is to be done next; ok is false if nothing waits.
func (q *Queue[T]) Next(nowMS int64) (v T, ok bool) {
	if q.n == 0 {
		return v, false
	}
	if nowMS-q.at(0).atMS > q.o.WaitMS/overrunShare {
		q.overrun = true
	}
	if !q.overrun {
		return q.Oldest()
	}
	v = q.take(q.at(q.n - 1))
	q.n--
	q.emptied()
	return v, true
}

// overrunShare is the part of the longest wait at which a queue counts as overrun.
const overrunShare = 10

// Oldest takes the one that came first.
func (q *Queue[T]) Oldest() (v T, ok bool) {
	if q.n == 0 {
		return v, false
	}
	v = q.take(q.at(0))
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	q.emptied()
	return v, true
}

// Late takes the oldest if it has waited for the longest time that any may.
func (q *Queue[T]) Late(nowMS int64) (v T, ok bool) {
	if q.n == 0 || nowMS-q.at(0).atMS < q.o.WaitMS {
		return v, false
	}
	q.overrun = true
	return q.Oldest()
}

// take empties an entry: what it held must not stay alive.
func (q *Queue[T]) take(e *entry[T]) T {
	v := e.value
	q.bytes -= e.bytes
	*e = entry[T]{}
	return v
}

// keptRing is how long a ring may be that an empty queue keeps.
const keptRing = 1024

func (q *Queue[T]) emptied() {
	if q.n > 0 {
		return
	}
	q.overrun = false
	if len(q.ring) > keptRing {
		q.ring, q.head = nil, 0
	}
}

func (q *Queue[T]) at(i int) *entry[T] { return &q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *Queue[T]) grow() {
	ring := make([]entry[T], max(64, 2*len(q.ring)))
	for i := range q.n {
		ring[i] = *q.at(i)
	}
	q.ring, q.head = ring, 0
}
