package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// crowd is many users, each with a link of its own, who log in one after the
// other and stay. A scenario raises their number in waves, asks for things to be
// done on the swarm's goroutine, and ends the whole.
type crowd struct {
	// Immutable after start.
	o      *Options
	n      int // users 0 to n-1; links beyond them are the scenario's own
	pop    *population
	faults *faults
	check  *checker
	meter  *meter
	swarm  *swarm
	over   chan struct{} // closed when the swarm has ended
	tasks  chan task
	// also is called at each turn, for what a scenario does besides.
	also func(now time.Duration) (next time.Duration)
	// endedLive is called on the swarm's goroutine when the link of one who was logged in ends.
	endedLive func(l *link, clean bool)

	// Atomic.
	alive   []atomic.Bool // by user: has a live link as far as the client knows
	settled atomic.Int64  // logins that have ended well or badly
	goal    atomic.Int64  // logins that are to end
	stop    atomic.Bool   // asks the swarm to end

	// Owned by the swarm.
	opened int
	wave   wave
	before time.Duration // how long the waves before this one took to log in
	took   time.Duration // before, and from the wave's begin to its last LoginOK
	linkOf []uint32      // by user, of those who have been logged in

	// Owned by whoever raises.
	nobody bool // of those who tried none could log in: there is nothing to measure

	broken error // why the swarm ended early; read it after over
}

// task is work for the swarm's goroutine.
type task struct {
	do   func()
	done chan struct{}
}

// wave is a part of the crowd that logs in at one rate.
type wave struct {
	from, to int
	begin    time.Duration
	rate     float64 // per second, 0 = all at once
	window   int     // logins under way at most, 0 = any number
}

// due is when the next login is due by the offered rate. With a window there is
// none: each begins when it may.
func (c *crowd) due() time.Duration {
	if c.wave.rate == 0 {
		return c.wave.begin
	}
	return c.wave.begin + dueAt(c.opened-c.wave.from, c.wave.rate)
}

func dueAt(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// newCrowd prepares n users, of whom the first `sign` get their UserSigs now,
// and room for extra links besides.
func newCrowd(o *Options, n, sign, extra int) (*crowd, error) {
	c := &crowd{
		o: o, n: n, faults: newFaults(), over: make(chan struct{}), tasks: make(chan task),
		alive: make([]atomic.Bool, n), linkOf: make([]uint32, n),
		endedLive: func(*link, bool) {},
		also:      func(now time.Duration) time.Duration { return now + time.Hour },
	}
	err := checkFiles(n + extra)
	if err != nil {
		return nil, err
	}
	if c.pop, err = newPopulation(o, sign); err != nil {
		return nil, err
	}
	rest, err := newRest(o, 2)
	if err != nil {
		return nil, err
	}
	c.check = &checker{rest: rest, pop: c.pop, faults: c.faults}
	if c.meter, err = newMeter(o.ServerPID); err != nil {
		return nil, err
	}
	if c.swarm, err = newSwarm(o, c.pop, c.faults, n+extra); err != nil {
		return nil, err
	}
	c.swarm.step, c.swarm.loggedIn, c.swarm.ended = c.step, c.loggedIn, c.ended
	return c, nil
}

// start lets the swarm run until end.
func (c *crowd) start() {
	go func() {
		defer close(c.over)
		c.broken = c.swarm.run()
	}()
}

// end stops the swarm once every heartbeat that is out has been answered. The
// links stay open.
func (c *crowd) end() error {
	c.stop.Store(true)
	<-c.over
	return c.broken
}

// close frees what the crowd holds, after end.
func (c *crowd) close() { c.check.rest.close() }

// openAtOnce bounds the logins that begin in one turn, so that answers are read in between.
const openAtOnce = 64

// step does what was asked for and opens what is due.
func (c *crowd) step(now time.Duration) (next time.Duration, done bool) {
	select {
	case t := <-c.tasks:
		t.do()
		close(t.done)
		now = c.swarm.now()
	default:
	}
	if c.stop.Load() {
		c.swarm.quiet = true
		return now + maxWait, c.swarm.outstanding == 0
	}
	w, next := &c.wave, c.also(now)
	for range openAtOnce {
		switch {
		case c.opened == w.to:
			return next, false
		case c.due() > now:
			return min(next, c.due()), false
		case w.window > 0 && c.opened-int(c.settled.Load()) >= w.window:
			return next, false
		}
		due := c.due()
		if w.window > 0 {
			due = c.swarm.now()
		}
		c.swarm.open(c.opened, due)
		c.opened++
	}
	return now, false
}

// begins makes w the wave under way. What is between two waves does not count as logging in.
func (c *crowd) begins(w wave) { c.wave, c.before = w, c.took }

func (c *crowd) loggedIn(l *link) {
	c.took = c.before + c.swarm.lastLogin - c.wave.begin
	if l.user < c.n {
		c.linkOf[l.user] = l.index
		c.alive[l.user].Store(true)
		c.settled.Add(1)
	}
}

func (c *crowd) ended(l *link, clean bool) {
	switch {
	case l.user >= c.n:
	case c.alive[l.user].Swap(false):
		c.endedLive(l, clean)
	default:
		c.settled.Add(1)
	}
}

// do runs f on the swarm's goroutine, and reports whether the swarm was still there to do so.
func (c *crowd) do(f func()) bool {
	t := task{f, make(chan struct{})}
	select {
	case c.tasks <- t:
		<-t.done
		return true
	case <-c.over:
		return false
	}
}

// raise logs users in until there have been `to` logins, and waits for the last
// one's end; watch is called every 20 ms in between. It reports false if it was
// interrupted, the swarm broke or nobody could log in.
func (c *crowd) raise(ctx context.Context, to int, rate float64, window int, watch func()) bool {
	c.goal.Store(int64(to))
	if !c.do(func() {
		c.begins(wave{from: c.opened, to: to, begin: c.swarm.now(), rate: rate, window: window})
	}) {
		return false
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for turn := 0; c.settled.Load() < c.goal.Load(); turn++ {
		select {
		case <-ctx.Done():
			return false
		case <-c.over:
			return false
		case <-tick.C:
		}
		watch()
		if c.settled.Load() >= maxVain && c.swarm.loginsOK.Load() == 0 {
			c.cut()
		}
		if turn%50 == 0 {
			c.o.Progress(fmt.Sprintf("logging in: %d of %d, %d errors", c.swarm.online.Load(), to, c.faults.total()))
		}
	}
	c.nobody = c.swarm.loginsOK.Load() == 0
	return !c.nobody
}

// maxVain is how many logins are tried in vain before the others are left out.
const maxVain = 100

// cut ends the raise that is under way: no more logins begin. It returns how many have begun.
func (c *crowd) cut() (begun int) {
	c.do(func() {
		c.wave.to, begun = c.opened, c.opened
		c.goal.Store(int64(begun))
	})
	return begun
}

// living lists the users whose link is alive as far as the client knows.
func (c *crowd) living() []int {
	var users []int
	for n := range c.alive {
		if c.alive[n].Load() {
			users = append(users, n)
		}
	}
	return users
}

// watchHold reads some of the living back every second while d lasts.
func (c *crowd) watchHold(ctx context.Context, when string, d time.Duration, each func()) CheckResult {
	begin := time.Now()
	sum := CheckResult{When: when}
	for i := 0; time.Since(begin) < d; i++ {
		if !pause(ctx, min(time.Second, d-time.Since(begin))) {
			break
		}
		living := c.living()
		if len(living) == 0 {
			break // nothing is left to hold
		}
		r := c.check.once(ctx, when, slice(living, i), c.check.online)
		sum.Users += r.Users
		sum.Right += r.Right
		each()
		c.o.Progress(fmt.Sprintf("holding %d links, %v left, %d errors", c.swarm.online.Load(),
			max(0, d-time.Since(begin)).Round(time.Second), c.faults.total()))
	}
	sum.Seconds = time.Since(begin).Seconds()
	return sum
}

// slice is the i-th batch of users, around and around.
func slice(users []int, i int) []int {
	if len(users) <= maxQueryIDs {
		return users
	}
	from := i * maxQueryIDs % len(users)
	return users[from:min(from+maxQueryIDs, len(users))]
}

// fill writes into res what every crowd has to tell. wanted is the number of
// logins that should have gone well.
func (c *crowd) fill(res *Result, wanted int, rate float64, interrupted bool) {
	s := c.swarm
	ok := int(s.loginsOK.Load())
	res.Seconds = time.Since(res.Started).Seconds()
	res.Logins = &LoginResult{Wanted: wanted, OK: ok, OfferedRate: rate, Latency: latencyOf(s.login)}
	if c.took > 0 {
		res.Logins.Rate = float64(ok) / c.took.Seconds()
	}
	res.Heartbeats = &BeatResult{Sent: s.beatsSent.Load(), Answered: s.beatsOK.Load(), Latency: latencyOf(s.beat)}
	if res.Server == nil {
		res.Server = c.meter.result()
	}
	c.faults.tell(res)
	if c.nobody {
		interrupted, res.Stopped = false, "nobody could log in"
	}
	res.Interrupted = interrupted
	res.OK = !interrupted && c.faults.total() == 0 && ok == wanted
}
