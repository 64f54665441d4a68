package webhook

import "time"

// firstWindow is the attempts at once to a receiver that has not answered yet.
const firstWindow = 4

// Bounds of the queue that the window may build up at a receiver, in attempts.
const (
	queueLow  = 2 // below it the receiver has room
	queueHigh = 6 // above it attempts only wait there
)

// pace finds out how many attempts at once a receiver is good for.
//
// A good answer allows one more, which doubles the window with each round of
// answers, until answers get slower: of a window w, w x (1 - floor/latency)
// attempts are not being worked on but wait at the receiver (the reasoning of TCP
// Vegas, Brakmo and Peterson 1995). With fewer than queueLow of them the window
// grows, with more than queueHigh it shrinks, by one for each answer in a window,
// so that it settles a little above what the receiver works on at once. A bad
// answer halves it, but once a round: those to attempts that began before the
// last cut are part of the same trouble.
//
// The floor is the best latency seen. It drifts up to the present one by a
// thousandth with each answer, so that a receiver that has become slower for
// good is not taken for a full one for ever.
type pace struct {
	window, max int
	latency     float64 // seconds, smoothed over 8 answers; 0 = none yet
	floor       float64 // seconds
	answers     int     // since the window changed
	cut         time.Time
}

func newPace(max int) pace { return pace{window: min(firstWindow, max), max: max} }

func (p *pace) good(began, now time.Time) {
	took := max(now.Sub(began).Seconds(), 1e-6)
	if p.latency == 0 {
		p.latency, p.floor = took, took
	}
	p.latency += (took - p.latency) / 8
	p.floor = min(p.floor+max(0, p.latency-p.floor)/1000, took)
	waiting := float64(p.window) * (1 - p.floor/max(p.latency, p.floor))
	switch p.answers++; {
	case waiting < queueLow:
		p.set(p.window + 1)
	case waiting > queueHigh && p.answers >= p.window:
		p.set(p.window - 1)
	}
}

func (p *pace) bad(began, now time.Time) {
	if !began.Before(p.cut) {
		p.set(p.window / 2)
		p.cut = now
	}
}

func (p *pace) set(window int) {
	p.window = min(max(window, 1), p.max)
	p.answers = 0
}
