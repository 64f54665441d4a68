package storm

import "math"

// Meter measures logins per second: how many were decided in the best second of
// late, which is what can be decided, and how many in a normal one.
type Meter struct {
	secondMS int64 // begin of the second under way
	n        int   // decided in it
	best     float64
	normal   float64
}

// What is remembered fades: of the best second a 600th, of the normal load a 300th
// part a second.
const (
	bestFade   = 1 - 1.0/600
	normalFade = 1 - 1.0/300
)

// Add counts a login that was decided.
func (m *Meter) Add(nowMS int64) {
	m.roll(nowMS)
	m.n++
}

// Best is the rate that has been reached, per second.
func (m *Meter) Best(nowMS int64) float64 {
	m.roll(nowMS)
	return m.best
}

// Normal is the rate of the last minutes, per second.
func (m *Meter) Normal(nowMS int64) float64 {
	m.roll(nowMS)
	return m.normal
}

// roll closes the second under way if it is over, and those after it.
func (m *Meter) roll(nowMS int64) {
	seconds := (nowMS - m.secondMS) / 1000
	if seconds <= 0 {
		return
	}
	n := float64(m.n)
	m.best = max(m.best*bestFade, n)
	m.normal = m.normal*normalFade + n*(1-normalFade)
	if idle := float64(seconds - 1); idle > 0 {
		m.best *= math.Pow(bestFade, idle)
		m.normal *= math.Pow(normalFade, idle)
	}
	m.secondMS += seconds * 1000
	m.n = 0
}

// leastSpare is the part of the sustainable rate that clients who are sent away
// are always given.
const leastSpare = 0.1

// Spare is what a sustainable rate leaves beside the normal load.
func Spare(sustainable, normal float64) float64 {
	return max(sustainable-normal, leastSpare*sustainable)
}

// Delay bounds what a client is told to wait, in milliseconds.
type Delay struct {
	LeastMS, MostMS int64
}

// Booking tells clients that are sent away when to come back: each gets the next
// place in a row whose places are as far apart as logins are to come in. All who
// keep to it come back at that rate, however many they are and whenever they were
// sent away.
type Booking struct {
	lastMS float64 // the last place that was given away
}

// Next gives the next place away, in a row of perSecond places. chance, from 0 to
// 1, moves the answer by up to a tenth, so that the rows of several loops and
// nodes do not march in step. Once the row is full up to d.MostMS the answer is
// any time of its later half.
func (b *Booking) Next(nowMS int64, perSecond float64, d Delay, chance float64) (delayMS int64) {
	now := float64(nowMS)
	b.lastMS = max(b.lastMS, now+float64(d.LeastMS)) + 1000/max(perSecond, 0.001)
	wait := (b.lastMS - now) * (0.9 + 0.2*chance)
	if most := float64(d.MostMS); b.lastMS-now > most {
		b.lastMS = now + most
		wait = most * (0.5 + 0.5*chance)
	}
	return clamp(wait, d)
}

// Spread is what each of n clients that are sent away at the same moment is told:
// any time between d.LeastMS and when the last of them can have come back at
// perSecond, within the bounds.
func Spread(n int, perSecond float64, d Delay, chance float64) (delayMS int64) {
	room := 1000 * float64(n) / max(perSecond, 0.001)
	room = min(room, float64(d.MostMS-d.LeastMS))
	return clamp(float64(d.LeastMS)+max(room, 0)*chance, d)
}

func clamp(ms float64, d Delay) int64 {
	return int64(max(float64(d.LeastMS), min(ms, float64(d.MostMS))))
}
