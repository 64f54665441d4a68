package bench

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/rollcall-im/rollcall/codec"
)

func (o *StormOptions) validateLoads() error {
	o.Duration = cmp.Or(o.Duration, 10*time.Second)
	o.BeatRate = cmp.Or(o.BeatRate, float64(o.Conns)/5)
	o.KickRate = cmp.Or(o.KickRate, 10)
	o.Callers = cmp.Or(o.Callers, 10_000)
	o.Window = cmp.Or(o.Window, 128)
	for _, load := range o.Loads {
		if !(load > 0 && load <= 100) {
			return fmt.Errorf("a load must be more than 0 and at most 100 times the capacity, got %v", load)
		}
	}
	switch {
	case o.Duration < time.Second:
		return fmt.Errorf("each load must last a second or longer, got %v", o.Duration)
	case o.Callers < 1 || o.Window < 1 || o.Window > o.Callers:
		return fmt.Errorf("callers must be at least 1, and the window 1 to as many, got %d and %d", o.Callers, o.Window)
	}
	if err := checkRate(o.BeatRate, false); err != nil {
		return err
	}
	if err := checkRate(o.KickRate, false); err != nil {
		return err
	}
	return checkRate(o.Capacity, true)
}

// maxCalling bounds the links of callers at once.
const maxCalling = 10_000

// overloadRun is one run of Storm with Loads. Users 0 to n-1 are the standing
// crowd, the last of them to be kicked; those behind are the callers: each
// connects, logs in and, let in or not, is gone by an RST, so that neither side's
// kernel remembers it.
type overloadRun struct {
	*crowd
	opts   *StormOptions
	kickAt int // the next user to be kicked

	// Owned by the swarm.
	calls calls
}

// calls is a point under way.
type calls struct {
	begin, end time.Duration // no point: both 0
	measuring  bool
	rate       float64  // attempts per second; 0: as many as keep Window busy
	due        int      // attempts that have become due
	free       chan int // users who may call, the one who called last behind the others; has room for all
	back       comebacks
	away       int // the user who is just being sent away and comes back when told, -1 = none
	active     int
	seen       LoadResult
	told       *hdrhistogram.Histogram
	beats      BeatResult // what had been sent and answered before
}

// comeback is when a user who was sent away calls again.
type comeback struct {
	at   time.Duration
	user int
}

type comebacks []comeback

func (h comebacks) Len() int           { return len(h) }
func (h comebacks) Less(i, j int) bool { return h[i].at < h[j].at }
func (h comebacks) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *comebacks) Push(x any)        { *h = append(*h, x.(comeback)) }
func (h *comebacks) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// overload finds the capacity and offers each of the loads.
func overload(ctx context.Context, o *StormOptions) (*Result, error) {
	kicks := int(o.KickRate*o.Duration.Seconds())*(len(o.Loads)+1) + len(o.Loads) + 1
	r := &overloadRun{opts: o, kickAt: o.Conns}
	var err error
	if r.crowd, err = newCrowd(&o.Options, o.Conns+kicks, o.Conns+kicks+o.Callers, min(o.Callers, maxCalling)); err != nil {
		return nil, err
	}
	defer r.close()
	s := r.swarm
	s.beatEvery = time.Duration(float64(r.n) / o.BeatRate * float64(time.Second))
	s.loggedIn, s.ended, s.turnedAway, s.pardon, r.also = r.loggedIn, r.ended, r.turnedAway, r.pardon, r.call
	s.frames = make(map[int][]byte, o.Callers)
	r.calls = calls{free: make(chan int, o.Callers), away: -1, told: newHistogram()}
	for n := r.n; n < r.n+o.Callers; n++ {
		var m codec.Login
		r.pop.login(n, &m)
		s.frames[n] = s.tongue.login(nil, &m)
		r.calls.free <- n
	}
	res := &Result{Scenario: "storm", Started: time.Now()}
	r.start()
	done := r.raise(ctx, r.n, 2000, 0, func() {})
	if done {
		res.Checks = append(res.Checks, r.check.once(ctx, "the crowd", r.living(), r.check.online))
		done = r.points(ctx, res)
		res.Checks = append(res.Checks, r.check.once(ctx, "the crowd, after all", ints(0, o.Conns), r.check.online))
	}
	broken := r.end()
	s.kill()
	r.fill(res, r.n, 2000, !done || ctx.Err() != nil)
	res.Logins.OK, res.OK = r.n, !res.Interrupted && r.faults.total() == 0
	res.Logins.Latency = Latency{} // the points have theirs
	return res, broken
}

// points runs the search for the capacity and the loads; false if it was interrupted.
func (r *overloadRun) points(ctx context.Context, res *Result) bool {
	capacity := r.opts.Capacity
	if capacity == 0 {
		p, ok := r.point(ctx, 0, 0)
		if !ok {
			return false
		}
		capacity = p.Load.Goodput
		p.Load.Capacity = capacity
		res.Points = append(res.Points, *p)
	}
	for _, load := range r.opts.Loads {
		p, ok := r.point(ctx, load, capacity)
		if !ok {
			return false
		}
		res.Points = append(res.Points, *p)
	}
	best := 0.0
	for _, p := range res.Points {
		best = max(best, p.Load.Goodput)
	}
	for _, p := range res.Points {
		p.Load.Share = p.Load.Goodput / max(best, 1e-9)
	}
	return true
}

// point offers load times the capacity, or with load 0 what Window callers can.
func (r *overloadRun) point(ctx context.Context, load, capacity float64) (*Point, bool) {
	o, c, s := r.opts, &r.calls, r.swarm
	k, err := newKicker(&o.Options, r.pop, r.faults, 4)
	if err != nil {
		r.faults.add(FaultKick, "%v", err)
		return nil, false
	}
	defer k.rest.close()
	lead := o.Duration / 5
	span := o.Duration - lead
	begun := r.do(func() {
		c.begin, c.rate, c.due = s.now(), load*capacity, 0
		c.end = c.begin + o.Duration
		s.notice = k.notice
	})
	if !begun || !pause(ctx, lead) || !r.do(func() { r.measure(load, capacity) }) {
		return nil, false
	}
	cpu, own, begin := r.meter.read().cpu, ownCPU(), time.Now()
	var kicking sync.WaitGroup
	k.begin = begin
	kicks := &pace{rate: o.KickRate, begin: begin, limit: int(o.KickRate * span.Seconds())}
	from := r.kickAt
	r.kickAt += kicks.limit
	kicking.Go(func() { kicks.run(ctx, 4, func(i int, due time.Time) { k.kick(from+i, due) }) })
	p := &Point{OfferedRate: load * capacity}
	ok := r.watch(ctx, load, span) && r.do(func() { r.harvest(p, time.Since(begin)) })
	cpu, own = r.meter.read().cpu-cpu, ownCPU()-own
	kicking.Wait()
	k.wait(ctx, o.AnswerTimeout)
	if !ok {
		return nil, false
	}
	p.LoginCPU = perEach(cpu, p.Logins)
	p.Load.ServerCPU, p.Load.ClientCPU = cpu.Seconds()/p.Load.Seconds, own.Seconds()/p.Load.Seconds
	p.Load.Kicks = k.result(o.KickRate)
	return p, pause(ctx, lead) // for what this point has left
}

// measure begins to count.
func (r *overloadRun) measure(load, capacity float64) {
	c, s := &r.calls, r.swarm
	c.measuring, c.seen, c.told = true, LoadResult{Load: load, Capacity: capacity}, newHistogram()
	s.login, s.beat = newHistogram(), newHistogram()
	c.beats = BeatResult{Sent: s.beatsSent.Load(), Answered: s.beatsOK.Load()}
}

// harvest ends the point and writes into p what was counted. Who was told to come
// back later does not.
func (r *overloadRun) harvest(p *Point, took time.Duration) {
	c, s := &r.calls, r.swarm
	c.begin, c.end, c.measuring = 0, 0, false
	seen := c.seen
	p.Load, p.Logins, p.Latency = &seen, int(s.login.TotalCount()), latencyOf(s.login)
	seen.Seconds = took.Seconds()
	seen.Goodput = float64(p.Logins) / seen.Seconds
	p.Rate = seen.Goodput
	seen.RetryAfter = latencyOf(c.told)
	seen.Heartbeats = &BeatResult{
		Sent: s.beatsSent.Load() - c.beats.Sent, Answered: s.beatsOK.Load() - c.beats.Answered, Latency: latencyOf(s.beat),
	}
	for _, b := range c.back {
		c.free <- b.user
	}
	c.back = nil
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	d, err := readCPU(os.Getpid())
	if err != nil {
		return 0
	}
	return d
}

// watch waits for d.
func (r *overloadRun) watch(ctx context.Context, load float64, d time.Duration) bool {
	what := fmt.Sprintf("offering %v times the capacity", load)
	if load == 0 {
		what = "looking for the capacity"
	}
	for begin := time.Now(); time.Since(begin) < d; {
		if !pause(ctx, min(time.Second, d-time.Since(begin))) {
			return false
		}
		r.o.Progress(fmt.Sprintf("%s: %d logins, %d errors", what, r.swarm.loginsOK.Load(), r.faults.total()))
	}
	return true
}

// call is the crowd's hook: it begins the calls that are due.
func (r *overloadRun) call(now time.Duration) (next time.Duration) {
	c := &r.calls
	if now >= c.end {
		return now + time.Hour
	}
	for range openAtOnce {
		if len(c.back) > 0 && c.back[0].at <= now && c.active < r.links() {
			b := heap.Pop(&c.back).(comeback)
			if c.measuring {
				c.seen.Returns++
			}
			r.begins(b.user, b.at)
			continue
		}
		due := now
		if c.rate > 0 {
			due = c.begin + dueAt(c.due, c.rate)
		} else if c.active >= r.opts.Window {
			return now + time.Millisecond
		}
		if due > now {
			if len(c.back) > 0 {
				due = min(due, max(c.back[0].at, now+time.Millisecond))
			}
			return due
		}
		c.due++
		r.fresh(due)
	}
	return now
}

// links is how many callers may be under way.
func (r *overloadRun) links() int { return min(maxCalling, r.opts.Callers) }

// fresh begins the call of a user who does not come back, if there is one, and a link.
func (r *overloadRun) fresh(due time.Duration) {
	c := &r.calls
	if c.active < r.links() {
		select {
		case user := <-c.free:
			r.begins(user, due)
			return
		default:
		}
	}
	if c.measuring {
		c.seen.Unmade++
	}
}

func (r *overloadRun) begins(user int, due time.Duration) {
	r.calls.active++
	if r.calls.measuring {
		r.calls.seen.Attempts++
	}
	r.swarm.open(user, due)
}

func (r *overloadRun) loggedIn(l *link) {
	if l.user < r.n {
		r.crowd.loggedIn(l)
		return
	}
	l.reset()
	r.swarm.close(l, true)
}

// turnedAway takes a refusal: that of a caller is what the run is about.
func (r *overloadRun) turnedAway(l *link, m *codec.LoginRefused) bool {
	c := &r.calls
	if l.user < r.n || !m.MayReconnect {
		return false
	}
	wait := time.Duration(m.RetryAfterMS) * time.Millisecond
	if c.measuring {
		c.seen.Shed++
		record(c.told, wait)
	}
	if !r.opts.Rude && c.end > 0 {
		heap.Push(&c.back, comeback{r.swarm.now() + wait, l.user})
		c.away = l.user
	}
	l.reset()
	return true
}

// pardon forgives that a caller was not answered: it is counted.
func (r *overloadRun) pardon(l *link, kind Fault) bool {
	if l.user < r.n || kind == FaultLocal || kind == FaultFrame || kind == FaultLoginAnswer {
		return false
	}
	if r.calls.measuring {
		r.calls.seen.Lost++
	}
	return true
}

func (r *overloadRun) ended(l *link, clean bool) {
	if l.user < r.n {
		r.crowd.ended(l, clean)
		return
	}
	c := &r.calls
	c.active--
	if c.away != l.user {
		c.free <- l.user
	}
	c.away = -1
}
