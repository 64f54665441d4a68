package webhook

// deadLetters is a ring of the newest dead letters.
type deadLetters struct {
	max  int
	ring []DeadLetter
	next int // where the next one goes once the ring is full
	lost uint64
}

func (d *deadLetters) add(l DeadLetter) {
	if len(d.ring) < d.max {
		d.ring = append(d.ring, l)
		return
	}
	d.ring[d.next] = l
	d.next = (d.next + 1) % d.max
	d.lost++
}

// newest returns up to max letters of app, the newest first. The bodies are shared.
func (d *deadLetters) newest(app uint32, max int) []DeadLetter {
	var out []DeadLetter
	for i := range d.ring {
		l := &d.ring[(d.next-1-i+2*len(d.ring))%len(d.ring)]
		if len(out) >= max {
			break
		}
		if l.Event.Key.App == app {
			out = append(out, *l)
		}
	}
	return out
}

// laneHeap orders waiting lanes by the time at which they become runnable.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].nextMS < h[j].nextMS }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.heapIndex = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
