package bench

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// ChurnOptions are those of Churn.
type ChurnOptions struct {
	Options
	Rate     float64       // logins offered per second; default 500
	Duration time.Duration // how long they are offered; default 30 s
	Stay     time.Duration // from LoginOK to Logout; default 100 ms
	Users    int           // users that come and go; default 5,000
	MaxLinks int           // links at once; default as many as Users, at most 10,000
}

func (o *ChurnOptions) validate() error {
	if o.Rate == 0 {
		o.Rate = 500
	}
	if o.Duration == 0 {
		o.Duration = 30 * time.Second
	}
	if o.Stay == 0 {
		o.Stay = 100 * time.Millisecond
	}
	if o.Users == 0 {
		o.Users = 5000
	}
	if o.MaxLinks == 0 {
		o.MaxLinks = min(o.Users, 10_000)
	}
	if o.Users < 1 || o.MaxLinks < 1 || o.Duration < 0 || o.Stay < 0 {
		return fmt.Errorf("users and links must be at least 1, durations not negative, got %d, %d, %v, %v", o.Users, o.MaxLinks, o.Duration, o.Stay)
	}
	if o.Users > maxSigned {
		return fmt.Errorf("users must be at most %d, got %d", maxSigned, o.Users)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// churnRun is one run of Churn. A user is ready, then has a link, then is to be
// checked, then ready again: it is never used before its logout was read back.
type churnRun struct {
	// Immutable.
	o      ChurnOptions
	faults *faults
	check  *checker
	swarm  *swarm
	ready  chan int // users to log in; has room for all
	left   chan int // users to check; has room for all
	ctx    context.Context

	// Owned by the swarm.
	begun   int // logins
	active  int // links
	leaving []leaver

	// Owned by the checking goroutine.
	checked CheckResult
}

// leaver is a link whose stay ends. All stays are equally long, so a queue keeps them in order.
type leaver struct {
	link *link
	user int
	at   time.Duration
}

// Churn logs users in and out at the offered rate and reads each back after its
// logout. See Connect for Result and error.
func Churn(ctx context.Context, o ChurnOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	r := &churnRun{o: o, faults: newFaults(), ready: make(chan int, o.Users), left: make(chan int, o.Users), ctx: ctx}
	r.checked.When = "after each logout"
	if err := checkFiles(o.MaxLinks); err != nil {
		return nil, err
	}
	pop, err := newPopulation(&r.o.Options, o.Users)
	if err != nil {
		return nil, err
	}
	rest, err := newRest(&r.o.Options, 2)
	if err != nil {
		return nil, err
	}
	defer rest.close()
	r.check = &checker{rest: rest, pop: pop, faults: r.faults}
	m, err := newMeter(o.ServerPID)
	if err != nil {
		return nil, err
	}
	if r.swarm, err = newSwarm(&r.o.Options, pop, r.faults, o.MaxLinks); err != nil {
		return nil, err
	}
	for n := range o.Users {
		r.ready <- n
	}
	res := &Result{Scenario: "churn", Started: time.Now()}
	err = r.run()
	r.fill(res, m)
	return res, err
}

// run churns until the duration is over and all who came have left.
func (r *churnRun) run() error {
	s := r.swarm
	s.step, s.loggedIn, s.ended = r.step, r.loggedIn, r.ended
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(r.readBack)
	wg.Go(func() { r.progress(over) })
	err := s.run()
	s.kill()
	close(over)
	close(r.left)
	wg.Wait()
	return err
}

// step begins the logins that are due and the logouts of those whose stay is over.
func (r *churnRun) step(now time.Duration) (next time.Duration, done bool) {
	r.leave(now)
	for !r.over(now) && r.due() <= now && r.begin(r.due()) {
		r.begun++
	}
	over := r.over(now)
	switch {
	case over:
		next = now + time.Hour
	case r.due() <= now: // no user or no link is free: look again soon, the delay counts
		next = now + time.Millisecond
	default:
		next = r.due()
	}
	if len(r.leaving) > 0 {
		next = min(next, r.leaving[0].at)
	}
	return next, over && r.active == 0
}

// due is when the next login is due by the offered rate.
func (r *churnRun) due() time.Duration { return dueAt(r.begun, r.o.Rate) }

// over reports whether no more logins are to begin: all have, or those that
// could not have had their time.
func (r *churnRun) over(now time.Duration) bool {
	return r.ctx.Err() != nil || r.due() >= r.o.Duration || now >= r.o.Duration+r.o.SettleTimeout
}

// begin logs the next ready user in; false if there is none or no free link.
func (r *churnRun) begin(intended time.Duration) bool {
	if r.active == r.o.MaxLinks {
		return false
	}
	select {
	case n := <-r.ready:
		r.active++
		return r.swarm.open(n, intended)
	default:
		return false
	}
}

// leave logs out those whose stay is over and who are still there.
func (r *churnRun) leave(now time.Duration) {
	for len(r.leaving) > 0 && r.leaving[0].at <= now {
		v := r.leaving[0]
		r.leaving = r.leaving[1:]
		if v.link.user == v.user && (v.link.state == linkOnline || v.link.state == linkBeating) {
			r.swarm.logoutNow(v.link)
		}
	}
	if len(r.leaving) == 0 {
		r.leaving = nil
	}
}

func (r *churnRun) loggedIn(l *link) {
	r.leaving = append(r.leaving, leaver{l, l.user, r.swarm.now() + r.o.Stay})
}

// ended hands the user on: to be read back after a logout, straight back to the
// ready ones after a fault, which has been counted.
func (r *churnRun) ended(l *link, clean bool) {
	r.active--
	if clean {
		r.left <- l.user // has room for every user
		return
	}
	r.ready <- l.user
}

// readBack reads those who left in batches, and makes them ready again.
func (r *churnRun) readBack() {
	var batch []int
	for n := range r.left {
		batch = append(batch[:0], n)
		for len(batch) < maxQueryIDs && len(r.left) > 0 {
			if n, ok := <-r.left; ok {
				batch = append(batch, n)
			}
		}
		c := r.check.once(context.WithoutCancel(r.ctx), r.checked.When, batch, r.check.left)
		r.checked.Users += c.Users
		r.checked.Right += c.Right
		r.checked.Seconds = time.Since(r.swarm.begin).Seconds()
		for _, n := range batch {
			r.ready <- n
		}
	}
}

func (r *churnRun) progress(over <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			r.o.Progress(fmt.Sprintf("churning: %d logins, %d online, %d errors", r.swarm.loginsOK.Load(), r.swarm.online.Load(), r.faults.total()))
		}
	}
}

func (r *churnRun) fill(res *Result, m *meter) {
	s := r.swarm
	ok := int(s.loginsOK.Load())
	wanted := int(math.Ceil(r.o.Rate * r.o.Duration.Seconds()))
	res.Seconds = time.Since(res.Started).Seconds()
	res.Logins = &LoginResult{Wanted: wanted, OK: ok, OfferedRate: r.o.Rate, Latency: latencyOf(s.login)}
	if s.lastLogin > 0 {
		res.Logins.Rate = float64(ok) / s.lastLogin.Seconds()
	}
	out := latencyOf(s.logout)
	res.Logouts = &out
	res.Heartbeats = &BeatResult{Sent: s.beatsSent.Load(), Answered: s.beatsOK.Load(), Latency: latencyOf(s.beat)}
	res.Checks = []CheckResult{r.checked}
	res.Interrupted = r.ctx.Err() != nil
	if !res.Interrupted && r.begun < wanted {
		r.faults.add(FaultLate, "%d of %d logins did not begin while they were offered: no free user or link", wanted-r.begun, wanted)
	}
	if res.Server = m.result(); res.Server != nil {
		res.Server.LoginCPU = perEach(m.read().cpu-m.begin.cpu, ok)
	}
	r.faults.tell(res)
	res.OK = !res.Interrupted && r.faults.total() == 0
}
