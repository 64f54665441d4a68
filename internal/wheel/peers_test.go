package wheel

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
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

var (
	peersRounds = flag.Int("peers", 0, "compare the wheel with its peers in so many rounds and print the tables")
	peer        = flag.Int("peer", -1, "measure this make of timers only, for -peers")
)

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

// figures are the measured values of one round, in the order of the columns or rows.
type figures []float64

// column is a figure of each make.
type column struct{ name, format string }

var columns = [...]column{
	{"schedule ns", "%.0f"}, {"refresh ns", "%.1f"}, {"cancel ns", "%.0f"},
	{"bytes", "%.2f"}, {"objects", "%.2f"},
	{"GC CPU ms", "%.1f"}, // one collection with all of them live
	{"expire ns", "%.0f"},
	{"expire MB", "%.0f"}, // taken from the system meanwhile
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
func measure(mk func() timers, ids []uint32) figures {
	handles := memStats()
	t := mk()
	before := memStats()
	if _, real := t.(interface{ realClock() }); !real {
		before = handles // the wheel's arrays are the timers
		if l, ok := t.(*lazy); ok {
			before.HeapAlloc += uint64(8 * len(l.seenMS)) // the link's own stamp
		}
	}
	spread := func(i int) time.Duration { return 280*time.Second + time.Duration(i%120_000)*time.Millisecond }
	schedule := perTimer(func() {
		for i, id := range ids {
			t.schedule(id, spread(i*7919))
		}
	})
	after := memStats()
	collect := perTimer(runtime.GC) * million / 1e6
	order := slices.Clone(ids)
	rand.New(rand.NewPCG(3, 4)).Shuffle(million, func(i, j int) { order[i], order[j] = order[j], order[i] })
	refresh := perTimer(func() {
		for i, id := range order {
			t.refresh(id, spread(i*104729))
		}
	})
	cancel := perTimer(func() {
		for _, id := range ids {
			t.cancel(id)
		}
	})
	t.stop()
	expire, taken := massExpiry(mk, ids, massDelay)
	return figures{
		schedule, refresh, cancel,
		(float64(after.HeapAlloc) - float64(before.HeapAlloc)) / million,
		(float64(after.HeapObjects) - float64(before.HeapObjects)) / million,
		collect, expire, taken,
	}
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

// row is a figure of the wheel alone, most of them with a target.
type row struct{ what, target, format string }

var rows = [...]row{
	{"a dependent cache miss in 32 MiB, for scale", "-", "%.0f ns"},
	{"steady state", "<= 0.02 % of a core", "%.4f %%"},
	{"visits per tick of 128 ms", "-", "%.0f"},
	{"CPU per visit", "-", "%.1f ns"},
	{"tick, 99.9 %", "<= 500 us", "%.0f us"},
	{"tick, slowest", "<= 500 us", "%.0f us"},
	{"1 M expire together: step of 4096, average", "<= 500 us", "%.0f us"},
	{"1 M expire together: step of 4096, 99 %", "<= 500 us", "%.0f us"},
	{"1 M expire together: step of 4096, slowest", "<= 500 us", "%.0f us"},
	{"1 M expire together: the wheel's own rate", ">= 0.1 M/s", "%.0f M/s"},
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
func measureOwn(ids []uint32) figures {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	miss := measureMiss(ids)
	e := newEager().(*eager)
	for i, id := range ids {
		e.schedule(id, time.Duration(i)*timeoutMS*time.Millisecond/million)
	}
	heard := uint32(0)
	rearm := func(uint32) int64 { // heard within the last two minutes
		heard = heard*1664525 + 1013904223
		return e.nowMS + timeoutMS - int64(heard>>8)%120_000
	}
	e.steps(timeoutMS, rearm) // sets the scene
	ticks, visits := e.steps(2*timeoutMS, rearm)
	cpu := sum(ticks)
	core := cpu / float64(len(ticks)) / (DefaultTickMS * 1e6) * 100
	for _, id := range ids {
		e.schedule(id, timeoutMS*time.Millisecond)
	}
	e.nowMS += timeoutMS
	mass, _ := e.steps(DefaultTickMS, func(uint32) int64 { return 0 })
	return figures{
		miss, core, float64(visits) / float64(len(ticks)), cpu / float64(visits),
		ticks[len(ticks)*999/1000] / 1e3, ticks[len(ticks)-1] / 1e3,
		sum(mass) / float64(len(mass)) / 1e3, mass[len(mass)*99/100] / 1e3, mass[len(mass)-1] / 1e3,
		million / sum(mass) * 1e3,
	}
}

// steps lets the time pass and returns what each Advance took, in ns of CPU, sorted.
func (e *eager) steps(ms int64, due func(uint32) int64) (took []float64, visits int) {
	for end := e.nowMS + ms; e.nowMS < end; {
		e.nowMS += DefaultTickMS
		for more := true; more; {
			n, from := 0, threadCPU()
			n, more = e.w.Advance(e.nowMS, budget, due)
			took = append(took, float64(threadCPU()-from))
			visits += n
		}
	}
	slices.Sort(took)
	return took, visits
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

// median of figure i of the rounds.
func median(rounds []figures, i int) float64 {
	v := make([]float64, len(rounds))
	for r := range rounds {
		v[r] = rounds[r][i]
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// TestPeers prints the comparison, medians of the rounds: make bench-wheel. Each
// make has a process of its own: a million goroutines leave traces in the heap.
func TestPeers(t *testing.T) {
	if *peer >= 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		f := measureOwn
		if *peer < len(makes) {
			f = func(ids []uint32) figures { return measure(makes[*peer].make, ids) }
		}
		if err := json.NewEncoder(os.Stdout).Encode(f(shuffled())); err != nil {
			t.Fatal(err)
		}
		return
	}
	if *peersRounds == 0 {
		t.Skip("-peers not given")
	}
	all := make([][]figures, len(makes)+1)
	for range *peersRounds {
		for i := range all {
			all[i] = append(all[i], inProcess(t, i))
		}
	}
	printOwn(all[len(makes)])
	printPeers(all[:len(makes)])
}

// inProcess measures a make, or the wheel alone, in a process of its own.
func inProcess(t *testing.T, i int) (f figures) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestPeers$", "-peer", strconv.Itoa(i))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("process for make %d: %v", i, err)
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&f); err != nil {
		t.Fatalf("make %d said %q: %v", i, out, err)
	}
	return f
}

func printOwn(f []figures) {
	fmt.Printf("\n| 1 M timers, medians of %d rounds | target | figure |\n| --- | --- | --- |\n", len(f))
	for i, r := range rows {
		fmt.Printf("| %s | %s | "+r.format+" |\n", r.what, r.target, median(f, i))
	}
}

func printPeers(all [][]figures) {
	fmt.Print("\n| per timer, 1 M timers |")
	for _, c := range columns {
		fmt.Printf(" %s |", c.name)
	}
	fmt.Print("\n| --- |" + strings.Repeat(" --- |", len(columns)))
	for m := range makes {
		fmt.Printf("\n| %s |", makes[m].name)
		for i, c := range columns {
			fmt.Printf(" "+c.format+" |", median(all[m], i))
		}
	}
	fmt.Print("\n| best peer : this wheel |")
	for i := range columns {
		best := median(all[2], i)
		for _, other := range all[3:] {
			best = min(best, median(other, i))
		}
		if own := median(all[0], i); own > 0.01 {
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
			for i, c := range columns {
				b.ReportMetric(median(rounds, i), strings.ReplaceAll(c.name, " ", "-"))
			}
		})
	}
}
