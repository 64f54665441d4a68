package wheel

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	russell "github.com/RussellLuo/timingwheel"
	antlabs "github.com/antlabs/timer"
	"golang.org/x/sys/unix"
)

// The wheel beside the timers that Go programs use: a million of them, time-outs
// of 280 to 400 s as links with a heartbeat of 120 s have them, one processor.
// All times are CPU times, of the whole process where others' goroutines and the
// collector take part.

var peersRounds = flag.Int("peers", 0, "compare the wheel with its peers in so many rounds and print the tables")

// timers are a million timers of one make.
type timers interface {
	schedule(id uint32, d time.Duration)
	refresh(id uint32, d time.Duration)
	cancel(id uint32)
	expire() // returns when all that were scheduled have fired
	stop()
}

var makes = []struct {
	name string
	make func() timers
}{
	{"this wheel", newLazy},
	{"this wheel, moved by each refresh", newEager},
	{"time.AfterFunc, Reset, Stop", newGoTimers},
	{"RussellLuo/timingwheel, 1 s x 512", newRussell},
	{"antlabs/timer, wheel", newAntlabs},
}

// eager is the wheel with its own clock.
type eager struct {
	w     *Wheel
	nowMS int64
}

func newEager() timers {
	e := &eager{w: New(Options{})}
	e.w.Grow(million)
	e.w.Start(0)
	return e
}

func (e *eager) schedule(id uint32, d time.Duration) { e.w.Schedule(id, e.nowMS+d.Milliseconds()) }
func (e *eager) refresh(id uint32, d time.Duration)  { e.schedule(id, d) }
func (e *eager) cancel(id uint32)                    { e.w.Cancel(id) }
func (e *eager) stop()                               {}

func (e *eager) expire() {
	e.nowMS += timeoutMS
	for more := true; more; {
		_, more = e.w.Advance(e.nowMS, budget, func(uint32) int64 { return 0 })
	}
}

// lazy is the wheel as the engine uses it: a heartbeat stores when it came.
type lazy struct {
	eager
	seenMS []int64
}

func newLazy() timers {
	return &lazy{eager: *newEager().(*eager), seenMS: make([]int64, million)}
}

func (l *lazy) refresh(id uint32, _ time.Duration) { l.seenMS[id] = l.nowMS }

// firing counts what others fire in goroutines of their own. One func serves all
// timers: what the caller's callbacks cost is not counted against anybody.
type firing struct {
	left *atomic.Int64
	fire func()
}

func newFiring() firing {
	left := new(atomic.Int64)
	return firing{left, func() { left.Add(-1) }}
}

func (f *firing) expire() {
	for f.left.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
}

// realClock tells that the timers fire by themselves.
func (f *firing) realClock() {}

type goTimers struct {
	firing
	t []*time.Timer
}

func newGoTimers() timers { return &goTimers{firing: newFiring(), t: make([]*time.Timer, million)} }

func (g *goTimers) schedule(id uint32, d time.Duration) {
	g.left.Add(1)
	g.t[id] = time.AfterFunc(d, g.fire)
}
func (g *goTimers) refresh(id uint32, d time.Duration) { g.t[id].Reset(d) }
func (g *goTimers) cancel(id uint32)                   { g.t[id].Stop() }
func (g *goTimers) stop()                              {}

type russellTimers struct {
	firing
	w *russell.TimingWheel
	t []*russell.Timer
}

func newRussell() timers {
	r := &russellTimers{firing: newFiring(), w: russell.NewTimingWheel(time.Second, 512), t: make([]*russell.Timer, million)}
	r.w.Start()
	return r
}

func (r *russellTimers) schedule(id uint32, d time.Duration) {
	r.left.Add(1)
	r.t[id] = r.w.AfterFunc(d, r.fire)
}

func (r *russellTimers) refresh(id uint32, d time.Duration) {
	r.t[id].Stop()
	r.t[id] = r.w.AfterFunc(d, r.fire)
}
func (r *russellTimers) cancel(id uint32) { r.t[id].Stop() }
func (r *russellTimers) stop()            { r.w.Stop() }

// antlabsTimers do not use Reset: it locks a slot twice and hangs if the timer
// stays in its slot (v0.1.4).
type antlabsTimers struct {
	firing
	w    antlabs.Timer
	t    []antlabs.TimeNoder
	done chan struct{}
}

func newAntlabs() timers {
	a := &antlabsTimers{firing: newFiring(), w: antlabs.NewTimer(), t: make([]antlabs.TimeNoder, million), done: make(chan struct{})}
	go func() {
		a.w.Run()
		close(a.done)
	}()
	return a
}

func (a *antlabsTimers) schedule(id uint32, d time.Duration) {
	a.left.Add(1)
	a.t[id] = a.w.AfterFunc(d, a.fire)
}

func (a *antlabsTimers) refresh(id uint32, d time.Duration) {
	a.t[id].Stop()
	a.t[id] = a.w.AfterFunc(d, a.fire)
}
func (a *antlabsTimers) cancel(id uint32) { a.t[id].Stop() }

func (a *antlabsTimers) stop() {
	a.w.Stop()
	<-a.done
}

// figures are what one make of timers costs.
type figures struct {
	schedule, refresh, cancel, expire float64 // CPU ns per timer
	bytes, objects                    float64 // per timer
	gcMS                              float64 // CPU of one collection with all of them live
	expireMB                          float64 // what the process took from the system meanwhile
}

// perTimer is the CPU time that f takes, in ns per timer.
func perTimer(f func()) float64 {
	from := cpuTime()
	f()
	return float64(cpuTime()-from) / million
}

func memStats() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// massDelay is how long ahead timers are made that fire together. If making them
// takes longer, twice the time is tried.
const massDelay = 8 * time.Second

// measure puts a million timers of a make through their life.
func measure(mk func() timers, ids []uint32) (f figures) {
	handles := memStats()
	t := mk()
	before := memStats()
	if _, ok := t.(interface{ realClock() }); !ok {
		before = handles // the wheel's arrays are the timers
		if l, ok := t.(*lazy); ok {
			before.HeapAlloc += uint64(8 * len(l.seenMS)) // the link's own stamp
		}
	}
	spread := func(i int) time.Duration { return 280*time.Second + time.Duration(i%120_000)*time.Millisecond }
	f.schedule = perTimer(func() {
		for i, id := range ids {
			t.schedule(id, spread(i*7919))
		}
	})
	after := memStats()
	f.bytes = (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / million
	f.objects = (float64(after.HeapObjects) - float64(before.HeapObjects)) / million
	f.gcMS = perTimer(runtime.GC) * million / 1e6
	order := slices.Clone(ids)
	rand.New(rand.NewPCG(3, 4)).Shuffle(million, func(i, j int) { order[i], order[j] = order[j], order[i] })
	f.refresh = perTimer(func() {
		for i, id := range order {
			t.refresh(id, spread(i*104729))
		}
	})
	f.cancel = perTimer(func() {
		for _, id := range ids {
			t.cancel(id)
		}
	})
	t.stop()
	f.expire, f.expireMB = massExpiry(mk, ids, massDelay)
	return f
}

// massExpiry is a million timers that fire at one moment.
func massExpiry(mk func() timers, ids []uint32, delay time.Duration) (ns, mb float64) {
	t := mk()
	defer t.stop()
	at := time.Now().Add(delay)
	_, real := t.(interface{ realClock() })
	for _, id := range ids {
		d := delay
		if real {
			d = time.Until(at)
		}
		t.schedule(id, d)
	}
	before := memStats()
	late := real && time.Until(at) < delay/8
	ns = perTimer(t.expire)
	if late {
		return massExpiry(mk, ids, 2*delay)
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	return ns, (float64(after.Sys) - float64(before.Sys)) / 1e6
}

// ownFigures are the targets that only the wheel has.
type ownFigures struct {
	visitNS, visits, core   float64 // steady state: per visit, visits per tick, % of a core
	stepUS, p99US, worstUS  float64 // steps of 4096 while a million expire together
	steadyWorstUS, expireNS float64
	missNS                  float64 // a dependent cache miss, for scale
}

// measureMiss is the time of a dependent read somewhere in 32 MiB.
func measureMiss(ids []uint32) float64 {
	type line struct {
		next uint32
		_    [28]byte
	}
	lines := make([]line, million)
	for i, id := range ids {
		lines[id].next = ids[(i+1)%million]
	}
	from, at := threadCPU(), uint32(0)
	for range million {
		at = lines[at].next
	}
	if at != 0 { // a full turn
		panic("wheel: the chase is no ring")
	}
	return float64(threadCPU()-from) / million
}

func threadCPU() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}

// measureOwn runs the wheel for two time-outs of links that all live, then lets
// them all fall silent.
func measureOwn(ids []uint32) (f ownFigures) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f.missNS = measureMiss(ids)
	e := newEager().(*eager)
	for i, id := range ids {
		e.schedule(id, time.Duration(i)*timeoutMS*time.Millisecond/million)
	}
	visits, ticks := 0, 0
	heard := uint32(0)
	rearm := func(uint32) int64 { // heard within the last two minutes
		heard = heard*1664525 + 1013904223
		return e.nowMS + timeoutMS - int64(heard>>8)%120_000
	}
	var cpu, worst int64
	for ; e.nowMS < 3*timeoutMS; ticks++ {
		e.nowMS += DefaultTickMS
		from := threadCPU()
		n, _ := e.w.Advance(e.nowMS, budget, rearm)
		took := threadCPU() - from
		if e.nowMS > timeoutMS { // the first round sets the scene
			cpu, visits, worst = cpu+took, visits+n, max(worst, took)
		} else {
			ticks = -1
		}
	}
	f.visitNS, f.visits = float64(cpu)/float64(visits), float64(visits)/float64(ticks)
	f.core = float64(cpu) / float64(ticks) / (DefaultTickMS * 1e6) * 100
	f.steadyWorstUS = float64(worst) / 1e3
	e.massSteps(ids, &f)
	return f
}

// massSteps lets all timers expire at one moment and times each step.
func (e *eager) massSteps(ids []uint32, f *ownFigures) {
	for _, id := range ids {
		e.schedule(id, timeoutMS*time.Millisecond)
	}
	e.nowMS += timeoutMS
	var steps []int64
	for more := true; more; {
		from := threadCPU()
		_, more = e.w.Advance(e.nowMS, budget, func(uint32) int64 { return 0 })
		steps = append(steps, threadCPU()-from)
	}
	var sum int64
	for _, s := range steps {
		sum += s
	}
	slices.Sort(steps)
	f.stepUS = float64(sum) / float64(len(steps)) / 1e3
	f.p99US = float64(steps[len(steps)*99/100]) / 1e3
	f.worstUS = float64(steps[len(steps)-1]) / 1e3
	f.expireNS = float64(sum) / million
}

// median of what get takes from the rounds.
func median[T any](rounds []T, get func(*T) float64) float64 {
	v := make([]float64, len(rounds))
	for i := range rounds {
		v[i] = get(&rounds[i])
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// TestPeers prints the comparison, medians of the rounds: make bench-wheel.
func TestPeers(t *testing.T) {
	if *peersRounds == 0 {
		t.Skip("-peers not given")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ids := shuffled()
	own := make([]ownFigures, *peersRounds)
	all := make([][]figures, len(makes))
	for r := range own {
		own[r] = measureOwn(ids)
		for i, m := range makes {
			all[i] = append(all[i], measure(m.make, ids))
		}
	}
	printOwn(own)
	printPeers(all)
}

func printOwn(f []ownFigures) {
	row := func(what, target string, get func(*ownFigures) float64, format string) {
		fmt.Printf("| %s | %s | "+format+" |\n", what, target, median(f, get))
	}
	fmt.Printf("\n| 1 M timers, medians of %d rounds | target | figure |\n| --- | --- | --- |\n", len(f))
	row("a dependent cache miss in 32 MiB", "-", func(f *ownFigures) float64 { return f.missNS }, "%.0f ns")
	row("steady state", "<= 0.02 % of a core", func(f *ownFigures) float64 { return f.core }, "%.4f %%")
	row("visits per tick of 128 ms", "-", func(f *ownFigures) float64 { return f.visits }, "%.0f")
	row("CPU per visit", "-", func(f *ownFigures) float64 { return f.visitNS }, "%.1f ns")
	row("slowest tick", "<= 500 us", func(f *ownFigures) float64 { return f.steadyWorstUS }, "%.0f us")
	row("1 M expire together: step of 4096, average", "<= 500 us", func(f *ownFigures) float64 { return f.stepUS }, "%.0f us")
	row("1 M expire together: step of 4096, 99 %", "<= 500 us", func(f *ownFigures) float64 { return f.p99US }, "%.0f us")
	row("1 M expire together: step of 4096, slowest", "<= 500 us", func(f *ownFigures) float64 { return f.worstUS }, "%.0f us")
	row("1 M expire together: rate of the wheel alone", ">= 0.1 M/s", func(f *ownFigures) float64 { return 1e3 / f.expireNS }, "%.0f M/s")
}

func printPeers(all [][]figures) {
	columns := []struct {
		name   string
		format string
		get    func(*figures) float64
	}{
		{"schedule ns", "%.0f", func(f *figures) float64 { return f.schedule }},
		{"refresh ns", "%.1f", func(f *figures) float64 { return f.refresh }},
		{"cancel ns", "%.0f", func(f *figures) float64 { return f.cancel }},
		{"bytes", "%.2f", func(f *figures) float64 { return f.bytes }},
		{"objects", "%.2f", func(f *figures) float64 { return f.objects }},
		{"GC CPU ms", "%.1f", func(f *figures) float64 { return f.gcMS }},
		{"expire ns", "%.0f", func(f *figures) float64 { return f.expire }},
		{"expire MB", "%.0f", func(f *figures) float64 { return f.expireMB }},
	}
	fmt.Print("\n| per timer, 1 M timers |")
	for _, c := range columns {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Print("\n| --- |")
	for range columns {
		fmt.Print(" --- |")
	}
	for i, m := range makes {
		fmt.Printf("\n| %s |", m.name)
		for _, c := range columns {
			fmt.Printf(" "+c.format+" |", median(all[i], c.get))
		}
	}
	fmt.Print("\n| best peer : this wheel |")
	for _, c := range columns {
		best := median(all[2], c.get)
		for _, peer := range all[3:] {
			best = min(best, median(peer, c.get))
		}
		if own := median(all[0], c.get); own > 0.005 {
			fmt.Printf(" %.1f |", best/own)
		} else {
			fmt.Print(" - |")
		}
	}
	fmt.Println()
}

// BenchmarkPeers is a round of each make.
func BenchmarkPeers(b *testing.B) {
	ids := shuffled()
	for _, m := range makes {
		b.Run(m.name, func(b *testing.B) {
			var rounds []figures
			for b.Loop() {
				rounds = append(rounds, measure(m.make, ids))
			}
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.schedule }), "ns/schedule")
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.refresh }), "ns/refresh")
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.cancel }), "ns/cancel")
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.expire }), "ns/expire")
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.bytes }), "B/timer")
			b.ReportMetric(median(rounds, func(f *figures) float64 { return f.gcMS }), "ms/GC")
		})
	}
}
