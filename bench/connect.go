package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// ConnectOptions are those of Connect.
type ConnectOptions struct {
	Options
	Conns int           // links, each of a user of its own; default 1,000
	Rate  float64       // logins offered per second; default 2,000
	Hold  time.Duration // how long all are held; default 30 s
}

func (o *ConnectOptions) validate() error {
	if o.Conns == 0 {
		o.Conns = 1000
	}
	if o.Rate == 0 {
		o.Rate = 2000
	}
	if o.Hold == 0 {
		o.Hold = 30 * time.Second
	}
	if o.Conns < 1 || o.Hold < 0 {
		return fmt.Errorf("links must be at least 1 and the hold not negative, got %d and %v", o.Conns, o.Hold)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// connectRun is one run of Connect.
type connectRun struct {
	// Immutable.
	o      ConnectOptions
	pop    *population
	faults *faults
	check  *checker
	meter  *meter
	swarm  *swarm
	filled chan struct{} // closed when every login has ended well or badly
	over   chan struct{} // closed when the swarm has ended
	stop   atomic.Bool   // asks the swarm to end
	alive  []atomic.Bool // by user: has a live link as far as the client knows

	// Owned by the swarm.
	opened, settled int
	isFilled        bool

	// Owned by Connect.
	low                 usage
	lowLinks            int
	atFilled, atHoldEnd usage
	interrupted         bool
}

// Connect logs Conns users in at the offered rate, holds and heartbeats them,
// reads every one back over REST, kills all by RST and reads them back again.
// The Result tells what was wrong; the error only that the run could not begin
// or go on. When ctx ends, the result is partial.
func Connect(ctx context.Context, o ConnectOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	r, err := newConnectRun(o)
	if err != nil {
		return nil, err
	}
	defer r.check.rest.close()
	res := &Result{Scenario: "connect", Started: time.Now()}
	var broken error
	go func() {
		defer close(r.over)
		broken = r.swarm.run()
	}()
	r.ramp(ctx)
	r.hold(ctx, res)
	r.stop.Store(true)
	<-r.over
	r.death(ctx, res)
	r.fill(ctx, res)
	return res, broken
}

func newConnectRun(o ConnectOptions) (*connectRun, error) {
	r := &connectRun{o: o, faults: newFaults(), filled: make(chan struct{}), over: make(chan struct{}), alive: make([]atomic.Bool, o.Conns)}
	err := checkFiles(o.Conns)
	if err != nil {
		return nil, err
	}
	if r.pop, err = newPopulation(&r.o.Options, o.Conns); err != nil {
		return nil, err
	}
	rest, err := newRest(&r.o.Options, 2)
	if err != nil {
		return nil, err
	}
	r.check = &checker{rest: rest, pop: r.pop, faults: r.faults}
	if r.meter, err = newMeter(o.ServerPID); err != nil {
		return nil, err
	}
	if r.swarm, err = newSwarm(&r.o.Options, r.pop, r.faults, o.Conns); err != nil {
		return nil, err
	}
	r.swarm.step, r.swarm.loggedIn, r.swarm.ended = r.step, r.loggedIn, r.ended
	return r, nil
}

// step opens what is due.
func (r *connectRun) step(now time.Duration) (next time.Duration, done bool) {
	if r.stop.Load() {
		r.swarm.quiet = true
		return now + maxWait, r.swarm.outstanding == 0
	}
	for r.opened < r.o.Conns && r.due() <= now {
		r.swarm.open(r.opened, r.due())
		r.opened++
	}
	if r.settled == r.o.Conns && !r.isFilled {
		r.isFilled = true
		close(r.filled)
	}
	if r.opened == r.o.Conns {
		return now + time.Hour, false
	}
	return r.due(), false
}

// due is when the next login is due by the offered rate.
func (r *connectRun) due() time.Duration { return dueAt(r.opened, r.o.Rate) }

func dueAt(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

func (r *connectRun) loggedIn(l *link) {
	r.alive[l.user].Store(true)
	r.settled++
}

func (r *connectRun) ended(l *link, _ bool) {
	if !r.alive[l.user].Swap(false) {
		r.settled++
	}
}

// ramp waits until every login has ended, and takes the first sample of the
// server's memory on the way.
func (r *connectRun) ramp(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	lowMark := min(2000, r.o.Conns/4)
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			r.interrupted = true
			return
		case <-r.over: // it broke
			r.interrupted = true
			return
		case <-r.filled:
			r.atFilled = r.meter.read()
			return
		case <-tick.C:
		}
		if n := int(r.swarm.online.Load()); r.lowLinks == 0 && n >= lowMark && n > 0 {
			r.low, r.lowLinks = r.meter.read(), n
		}
		if turn%50 == 0 {
			r.o.Progress(fmt.Sprintf("logging in: %d of %d", r.swarm.online.Load(), r.o.Conns))
		}
	}
}

// hold reads all users back, holds the links while reading some back every
// second, and reads all back again.
func (r *connectRun) hold(ctx context.Context, res *Result) {
	if r.interrupted {
		return
	}
	begin := time.Now()
	res.Checks = append(res.Checks, r.check.once(ctx, "all logged in", r.living(), r.check.online))
	during := CheckResult{When: "during the hold"}
	for i := 0; time.Since(begin) < r.o.Hold; i++ {
		if !pause(ctx, min(time.Second, r.o.Hold-time.Since(begin))) {
			break
		}
		living := r.living()
		if len(living) == 0 {
			break // nothing is left to hold
		}
		c := r.check.once(ctx, during.When, slice(living, i), r.check.online)
		during.Users += c.Users
		during.Right += c.Right
		r.o.Progress(fmt.Sprintf("holding %d links, %v left, %d errors", r.swarm.online.Load(),
			max(0, r.o.Hold-time.Since(begin)).Round(time.Second), r.faults.total()))
	}
	during.Seconds = time.Since(begin).Seconds()
	res.Checks = append(res.Checks, during)
	if r.interrupted = ctx.Err() != nil; !r.interrupted {
		res.Checks = append(res.Checks, r.check.once(ctx, "end of the hold", r.living(), r.check.online))
	}
	r.atHoldEnd = r.meter.read()
}

// slice is the i-th batch of users, around and around.
func slice(users []int, i int) []int {
	if len(users) <= maxQueryIDs {
		return users
	}
	from := i * maxQueryIDs % len(users)
	return users[from:min(from+maxQueryIDs, len(users))]
}

// living lists the users whose link is alive as far as the client knows.
func (r *connectRun) living() []int {
	var users []int
	for n := range r.alive {
		if r.alive[n].Load() {
			users = append(users, n)
		}
	}
	return users
}

// death kills all clients and reads back what became of their users.
func (r *connectRun) death(ctx context.Context, res *Result) {
	users := r.living()
	before := r.meter.read()
	killed := r.swarm.kill()
	if r.interrupted {
		return
	}
	r.o.Progress(fmt.Sprintf("%d clients died, reading back", killed))
	c := r.check.until(ctx, "after the death of all clients", users, r.check.lost, r.o.SettleTimeout)
	res.Checks = append(res.Checks, c)
	r.interrupted = ctx.Err() != nil
	if r.meter.pid != 0 {
		res.Server = r.meter.result()
		res.Server.CPUPerCloseUS = perEach(r.meter.read().cpu-before.cpu, killed)
	}
}

// fill writes what was measured into res.
func (r *connectRun) fill(ctx context.Context, res *Result) {
	s := r.swarm
	ok := int(s.loginsOK.Load())
	res.Seconds = time.Since(res.Started).Seconds()
	res.Logins = &LoginResult{Wanted: r.o.Conns, OK: ok, OfferedRate: r.o.Rate, Latency: latencyOf(s.login)}
	if s.lastLogin > 0 {
		res.Logins.Rate = float64(ok) / s.lastLogin.Seconds()
	}
	res.Heartbeats = &BeatResult{Sent: s.beatsSent.Load(), Answered: s.beatsOK.Load(), Latency: latencyOf(s.beat)}
	r.fillServer(res, ok)
	r.faults.tell(res)
	res.Interrupted = r.interrupted || ctx.Err() != nil
	res.OK = !res.Interrupted && r.faults.total() == 0 && ok == r.o.Conns
}

func (r *connectRun) fillServer(res *Result, logins int) {
	if res.Server == nil {
		res.Server = r.meter.result()
	}
	sv := res.Server
	if sv == nil || r.atHoldEnd.cpu == 0 {
		return
	}
	sv.LoginCPU = perEach(r.atFilled.cpu-r.meter.begin.cpu, logins)
	sv.RSSFull = r.atHoldEnd.anon
	sv.HoldCPU = (r.atHoldEnd.cpu - r.atFilled.cpu).Seconds() / r.o.Hold.Seconds()
	if n := logins - r.lowLinks; r.lowLinks > 0 && n > 0 {
		sv.SlopeFrom, sv.BytesPerLink = r.lowLinks, float64(r.atHoldEnd.anon-r.low.anon)/float64(n)
	}
}
