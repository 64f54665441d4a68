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
// Vegas, Brakmo and Peterson 1995). With more than queueHigh of them the window
// shrinks by half of what is too much, and from then on grows, while there are
// fewer than queueLow, by one a round: it settles a little above what the
// receiver works on at once. A bad answer halves it, but once a round: those to
// attempts that began before the last cut are part of the same trouble.
//
// The floor is the best latency seen. It is learned anew every relearn answers,
// with half the window, so that a receiver that has become slower for good is
// not taken for a full one for ever, nor one that is always full for a slow one.
type pace struct {
	window, max int
	latency     float64 // seconds, smoothed over 8 answers; 0 = none yet
	floor       float64 // seconds
	answers     int     // since the window changed
	settling    bool    // it was too large once: grow by one a round
	seen        int     // since the floor was learned
	cut         time.Time
}

// relearn is the answers after which the floor is learned anew.
const relearn = 2000

func newPace(max int) pace { return pace{window: min(firstWindow, max), max: max} }

// good notes a good answer. One to an attempt from before the last cut says
// nothing of the window that there is now.
func (p *pace) good(began, now time.Time) {
	if !began.After(p.cut) {
		return
	}
	took := max(now.Sub(began).Seconds(), 1e-6)
	if p.seen++; p.seen >= relearn {
		p.seen, p.floor, p.latency = 0, 0, 0
		p.halve(now)
		p.settling = false
		return
	}
	if p.floor == 0 {
		p.floor, p.latency = took, took
	}
	p.latency += (took - p.latency) / 8
	p.floor = min(p.floor, took)
	waiting := float64(p.window) * (1 - p.floor/max(p.latency, p.floor))
	switch p.answers++; {
	case waiting < queueLow && (!p.settling || p.answers >= p.window):
		p.set(p.window + 1)
	case waiting > queueHigh && p.answers >= p.window:
		p.settling = true
		p.set(p.window - 1 - int(waiting-queueHigh)/2)
	}
}

// bad notes a bad answer.
func (p *pace) bad(began, now time.Time) {
	if began.After(p.cut) {
		p.halve(now)
	}
}

func (p *pace) halve(now time.Time) {
	p.set(p.window / 2)
	p.cut, p.settling = now, true
}

func (p *pace) set(window int) {
	p.window = min(max(window, 1), p.max)
	p.answers = 0
}
