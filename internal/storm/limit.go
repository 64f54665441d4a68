// Package storm has the rules by which a node meets more logins than it can
// decide: how many are being decided at a time (Limit), which of those that wait
// goes next and which gives way (Queue), when those that were sent away come back
// (Meter, Booking, Spread), and whom nobody listens to for a while (Penalties).
//
// All of it is pure: time comes in as a parameter, milliseconds of a clock that
// never steps, chance as a number from 0 to 1. But for Penalties nothing here is
// safe for concurrent use: each event loop has its own.
package storm

// LimitOptions bound a Limit. The zero value of each is its default.
type LimitOptions struct {
	Floor   int // the limit never falls below it; default 16
	Ceiling int // nor rises above it; default 65,536
	Start   int // where it begins; default 512
	// TargetMS is the latency up to which the limit grows where the directory is
	// fast, MostMS where it is slow by nature. Default 100 and 1,000.
	TargetMS, MostMS int64
	WindowMS         int64 // how long answers are gathered before the limit moves; default 100
}

func (o *LimitOptions) setDefaults() {
	orDefault(&o.Floor, 16)
	orDefault(&o.Ceiling, 1<<16)
	orDefault(&o.Start, 512)
	orDefault(&o.TargetMS, 100)
	orDefault(&o.MostMS, 1000)
	orDefault(&o.WindowMS, 100)
	o.Floor = min(o.Floor, o.Ceiling)
	o.Start = max(min(o.Start, o.Ceiling), o.Floor)
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Limit is how many calls may be under way at a time: additive-increase,
// multiplicative-decrease by their latency.
//
// What is beyond the point at which a directory is busy only waits there, where
// nobody can shed it and kicks stand behind it: by Little's law n calls at a rate
// r take n/r. So the limit grows while it is used and answers come within the
// target, and shrinks in proportion when they do not.
//
// The usual signal, the ratio to the least latency ever seen (Vegas, gradient),
// was tried and does not fit: a group commit of 500 takes several times what one
// of 1 takes, and is the more efficient for it. A ratio holds the group small.
// The target is a time instead; only where even a single call takes long, by what
// is measured while few are under way, is it raised, to three times that.
type Limit struct {
	o LimitOptions

	limit    float64
	inFlight int
	baseMS   float64 // latency of calls that began while few were under way
	seenBase bool
	cutMS    int64 // when the limit was last cut: older calls say nothing about the new one

	// The window.
	begunMS  int64
	sumMS    int64
	answers  int
	failures int
	peak     int   // most calls under way
	lightMS  int64 // least latency of a light call, -1 = none
}

// Flight is a call that is under way.
type Flight struct {
	begunMS int64
	light   bool // few were under way
}

// NewLimit returns a limit with nothing under way.
func NewLimit(o LimitOptions) *Limit {
	o.setDefaults()
	return &Limit{o: o, limit: float64(o.Start), lightMS: -1}
}

// Free reports whether another call may begin.
func (l *Limit) Free() bool { return l.inFlight < int(l.limit) }

// Limit is how many calls may be under way.
func (l *Limit) Limit() int { return int(l.limit) }

// InFlight is how many are.
func (l *Limit) InFlight() int { return l.inFlight }

// Begin notes that a call begins. A caller may exceed the limit: a call that is
// repeated does.
func (l *Limit) Begin(nowMS int64) Flight {
	light := l.inFlight < l.o.Floor || l.inFlight < int(l.limit)/4
	l.inFlight++
	l.peak = max(l.peak, l.inFlight)
	return Flight{begunMS: nowMS, light: light}
}

// End notes its answer; ok is false if the other side could not take the call.
func (l *Limit) End(nowMS int64, f Flight, ok bool) {
	l.inFlight--
	if f.begunMS < l.cutMS {
		return
	}
	took := max(nowMS-f.begunMS, 0)
	l.sumMS += took
	l.answers++
	if !ok {
		l.failures++
	} else if f.light && (l.lightMS < 0 || took < l.lightMS) {
		l.lightMS = took
	}
	age := nowMS - l.begunMS
	if age >= l.o.WindowMS && l.answers >= leastAnswers || age >= leastAnswers*l.o.WindowMS {
		l.adjust(nowMS)
	}
}

// leastAnswers is how many answers a window wants, unless it has lasted many times its length.
const leastAnswers = 8

// adjust moves the limit by what the window has shown, and opens the next one.
func (l *Limit) adjust(nowMS int64) {
	l.learnBase()
	mean, target := float64(l.sumMS)/float64(l.answers), l.target()
	switch {
	case 2*l.failures > l.answers:
		l.set(l.limit*0.75, nowMS)
	case mean > target:
		l.set(l.limit*max(0.5, min(0.9, target/mean)), nowMS)
	case 5*l.peak >= 4*int(l.limit) && mean < 0.8*target:
		l.set(l.limit+l.limit/16+1, 0)
	}
	l.begunMS, l.sumMS, l.answers, l.failures, l.peak, l.lightMS = nowMS, 0, 0, 0, l.inFlight, -1
}

// set changes the limit; cutMS is now if it was cut.
func (l *Limit) set(limit float64, cutMS int64) {
	l.limit = max(float64(l.o.Floor), min(limit, float64(l.o.Ceiling)))
	l.cutMS = max(l.cutMS, cutMS)
}

// learnBase takes a lower latency at once and a higher one slowly.
func (l *Limit) learnBase() {
	least := float64(l.lightMS)
	switch {
	case l.lightMS < 0:
	case !l.seenBase || least < l.baseMS:
		l.baseMS, l.seenBase = least, true
	default:
		l.baseMS += (least - l.baseMS) / 8
	}
}

// target is the latency above which the limit is too high.
func (l *Limit) target() float64 {
	return max(float64(l.o.TargetMS), min(3*l.baseMS, float64(l.o.MostMS)))
}
