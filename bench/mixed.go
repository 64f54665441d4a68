package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// MixedOptions are those of Mixed.
type MixedOptions struct {
	Options
	Conns     int           // links that stay; default 5,000
	Rate      float64       // logins offered per second, of those who stay and of visitors; default 500
	Duration  time.Duration // how long all is offered, once those who stay are there; default 30 s
	Stay      time.Duration // of a visitor, from LoginOK to Logout; default 200 ms
	Visitors  int           // users who come and go; default 4 x Rate
	BeatRate  float64       // heartbeats per second of those who stay; default Conns/10
	QueryRate float64       // queries per second; default 50
	QueryIDs  int           // ids of a query; default 100
	KickRate  float64       // kicks per second; default Rate/10
}

func (o *MixedOptions) validate() error {
	o.Conns = cmp.Or(o.Conns, 5000)
	o.Rate = cmp.Or(o.Rate, 500)
	o.Duration = cmp.Or(o.Duration, 30*time.Second)
	o.Stay = cmp.Or(o.Stay, 200*time.Millisecond)
	o.Visitors = cmp.Or(o.Visitors, int(4*min(o.Rate, 1e5))+10)
	o.BeatRate = cmp.Or(o.BeatRate, float64(o.Conns)/10)
	o.QueryRate = cmp.Or(o.QueryRate, 50)
	o.QueryIDs = cmp.Or(o.QueryIDs, 100)
	o.KickRate = cmp.Or(o.KickRate, o.Rate/10)
	switch {
	case o.Conns < 1 || o.Visitors < 2 || o.Duration < 0 || o.Stay < 0:
		return fmt.Errorf("links must be at least 1, visitors at least 2, durations not negative, got %d, %d, %v, %v", o.Conns, o.Visitors, o.Duration, o.Stay)
	case o.QueryIDs < 1 || o.QueryIDs > maxQueryIDs:
		return fmt.Errorf("ids per request must be 1 to %d, got %d", maxQueryIDs, o.QueryIDs)
	case o.Conns+o.Visitors > maxSigned:
		return fmt.Errorf("links and visitors must be at most %d, got %d", maxSigned, o.Conns+o.Visitors)
	case o.KickRate >= o.Rate:
		return fmt.Errorf("kicks must be offered at a lower rate than logins, got %v and %v", o.KickRate, o.Rate)
	}
	for _, rate := range []float64{o.Rate, o.BeatRate, o.QueryRate, o.KickRate} {
		if err := checkRate(rate, false); err != nil {
			return err
		}
	}
	return o.Options.validate()
}

// mixedRun is one run of Mixed. Users below the crowd's n stay. The others are
// visitors: the even ones log out, the odd ones wait to be kicked. A visitor is
// never used again before its going was read back.
type mixedRun struct {
	*crowd
	// Immutable.
	opts    MixedOptions
	kicker  *kicker
	queries *checker
	asked   *tally
	ready   chan int // visitors to log in; has room for all, as the others
	doomed  chan int // visitors to kick
	left    chan int // visitors to read back

	// Owned by the swarm.
	open    bool // visitors may come
	begin   time.Duration
	begun   int // visitors' logins
	active  int // visitors' links
	leaving []leaver

	// Owned by the reading goroutine.
	checked CheckResult

	// Owned by mix until it returns: how long queries were asked, at least Duration.
	askedFor time.Duration
}

// Mixed holds links that heartbeat while visitors log in and out, users are
// queried and visitors are kicked, each at its offered rate. Every answer is
// checked. See Connect for Result and error.
func Mixed(ctx context.Context, o MixedOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	r, err := newMixed(o)
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer r.kicker.rest.close()
	defer r.queries.rest.close()
	res := &Result{Scenario: "mixed", Started: time.Now()}
	r.start()
	done := r.raise(ctx, r.n, o.Rate, 0, func() {})
	visits := 0
	if done {
		res.Checks = append(res.Checks, r.check.once(ctx, "all logged in", r.living(), r.check.online))
		visits, done = r.mix(ctx)
		res.Checks = append(res.Checks, r.checked, r.check.once(ctx, "at the end, those who stay", ints(0, r.n), r.check.online))
	}
	broken := r.end()
	if done {
		r.results(res)
	}
	r.swarm.kill()
	r.fill(res, r.n+visits, o.Rate, !done || ctx.Err() != nil)
	return res, broken
}

func newMixed(o MixedOptions) (*mixedRun, error) {
	r := &mixedRun{
		opts: o, asked: newTally(),
		ready: make(chan int, o.Visitors), doomed: make(chan int, o.Visitors), left: make(chan int, o.Visitors),
	}
	var err error
	if r.crowd, err = newCrowd(&r.opts.Options, o.Conns, o.Conns+o.Visitors, o.Visitors); err != nil {
		return nil, err
	}
	if r.kicker, err = newKicker(&r.opts.Options, r.pop, r.faults, 16); err != nil {
		return nil, err
	}
	rest, err := newRest(&r.opts.Options, 16)
	if err != nil {
		return nil, err
	}
	r.queries = &checker{rest: rest, pop: r.pop, faults: r.faults}
	r.checked.When = "after each logout and kick"
	s := r.swarm
	s.beatEvery = time.Duration(float64(o.Conns) / o.BeatRate * float64(time.Second))
	s.notice, s.loggedIn, s.ended, r.also = r.kicker.notice, r.loggedIn, r.ended, r.visit
	for n := range o.Visitors {
		r.ready <- r.n + n
	}
	return r, nil
}

// mix offers everything until the duration is over, and waits until all visitors have left.
func (r *mixedRun) mix(ctx context.Context) (visits int, ok bool) {
	var load, read sync.WaitGroup
	read.Go(r.readBack)
	o, begin := &r.opts, time.Now()
	limited, cancel := context.WithTimeout(ctx, o.Duration+o.SettleTimeout)
	defer cancel()
	r.kicker.begin = begin
	kicks := &pace{rate: o.KickRate, begin: begin, limit: int(o.KickRate * o.Duration.Seconds())}
	queries := &pace{rate: o.QueryRate, begin: begin, limit: int(o.QueryRate * o.Duration.Seconds())}
	r.do(func() {
		r.open, r.begin = true, r.swarm.now()
		r.begins(wave{from: r.opened, to: r.opened, begin: r.begin})
	})
	load.Go(func() {
		kicks.run(limited, 16, func(_ int, due time.Time) { r.kick(ctx, limited, due) })
	})
	load.Go(func() {
		queries.run(limited, 16, func(_ int, due time.Time) { r.ask(limited, due) })
		r.askedFor = max(time.Since(begin), o.Duration)
	})
	for limited.Err() == nil && time.Since(begin) < o.Duration {
		pause(limited, min(time.Second, o.Duration-time.Since(begin)))
		o.Progress(fmt.Sprintf("mixing: %d logins, %d online, %d errors", r.swarm.loginsOK.Load(), r.swarm.online.Load(), r.faults.total()))
	}
	load.Wait()
	if n := kicks.missed(); ctx.Err() == nil && n > 0 {
		r.faults.add(FaultLate, "%d of %d kicks were not done in time", n, kicks.limit)
	}
	if n := queries.missed(); ctx.Err() == nil && n > 0 {
		r.faults.add(FaultLate, "%d of %d queries were not done in time", n, queries.limit)
	}
	r.kicker.wait(ctx, o.AnswerTimeout)
	r.lastLogins(limited)
	visits, ok = r.empty(ctx)
	close(r.left)
	read.Wait()
	return visits, ok
}

// lastLogins waits until every login that was offered has begun.
func (r *mixedRun) lastLogins(limited context.Context) {
	for {
		var begun int
		if !r.do(func() { begun = r.begun }) || begun >= r.offered() || !pause(limited, 5*time.Millisecond) {
			return
		}
	}
}

// offered is how many logins of visitors are due in all.
func (r *mixedRun) offered() int { return int(math.Ceil(r.opts.Rate*r.opts.Duration.Seconds() - 1e-9)) }

// empty sends the visitors who are still there home, and waits until they are.
func (r *mixedRun) empty(ctx context.Context) (visits int, ok bool) {
	for {
		var active int
		ok = r.do(func() {
			r.open, r.leaving = false, nil
			for i := range r.swarm.links[:r.swarm.used] {
				if l := &r.swarm.links[i]; l.user >= r.n && l.live() {
					r.swarm.logoutNow(l)
				}
			}
			active, visits = r.active, r.begun
		})
		if !ok || active == 0 {
			return visits, ok
		}
		if !pause(ctx, 10*time.Millisecond) {
			break
		}
	}
	// Interrupted: what is still open is killed; nobody reads it back.
	r.do(func() { r.swarm.ended = func(*link, bool) {} })
	return visits, false
}

// visit is the crowd's hook: it begins the logins that are due and the logouts of those whose stay is over.
func (r *mixedRun) visit(now time.Duration) (next time.Duration) {
	for len(r.leaving) > 0 && r.leaving[0].at <= now {
		v := r.leaving[0]
		r.leaving = r.leaving[1:]
		if v.link.user == v.user && v.link.live() {
			r.swarm.logoutNow(v.link)
		}
	}
	next = now + time.Hour
	if len(r.leaving) > 0 {
		next = r.leaving[0].at
	}
	if !r.open {
		return next
	}
	for {
		due := dueAt(r.begun, r.opts.Rate)
		switch {
		case due >= r.opts.Duration:
			return next
		case r.begin+due > now:
			return min(next, r.begin+due)
		case len(r.ready) == 0: // look again soon, the delay counts
			return min(next, now+time.Millisecond)
		}
		r.active++
		r.swarm.open(<-r.ready, r.begin+due)
		r.begun++
	}
}

func (r *mixedRun) loggedIn(l *link) {
	r.crowd.loggedIn(l)
	switch {
	case l.user < r.n:
	case l.user%2 == 0:
		r.leaving = append(r.leaving, leaver{l, l.user, r.swarm.now() + r.opts.Stay})
	default:
		select {
		case r.doomed <- l.user:
		default: // full of those whose link has failed; this one stays to the end
		}
	}
}

func (r *mixedRun) ended(l *link, clean bool) {
	if l.user < r.n {
		r.crowd.ended(l, clean)
		return
	}
	r.active--
	r.pop.resign(l.user)
	if clean {
		r.left <- l.user
		return
	}
	r.ready <- l.user // the fault has been counted
}

// kick kicks the next visitor who waits for it, if one comes before limited ends.
func (r *mixedRun) kick(ctx, limited context.Context, due time.Time) {
	select {
	case n := <-r.doomed:
		r.kicker.kick(n, due)
	case <-limited.Done():
		if ctx.Err() == nil {
			r.faults.add(FaultLate, "a kick that was due found no visitor in %v", time.Since(due))
		}
	}
}

// ask queries random users of those who stay: each must be Online.
func (r *mixedRun) ask(ctx context.Context, due time.Time) {
	users := make([]int, r.opts.QueryIDs)
	for i := range users {
		users[i] = rand.IntN(r.n)
	}
	if c := r.queries.once(ctx, "in the mix", users, r.queries.online); c.Right == len(users) {
		r.asked.add(time.Since(due))
	}
}

// readBack reads those who left in batches, and makes them ready again.
func (r *mixedRun) readBack() {
	begin := time.Now()
	for n := range r.left {
		batch := []int{n}
		for len(batch) < maxQueryIDs && len(r.left) > 0 {
			if n, ok := <-r.left; ok {
				batch = append(batch, n)
			}
		}
		c := r.check.once(context.Background(), r.checked.When, batch, r.check.left)
		r.checked.Users += c.Users
		r.checked.Right += c.Right
		r.checked.Seconds = time.Since(begin).Seconds()
		for _, n := range batch {
			r.ready <- n
		}
	}
}

// results writes what the mix has measured.
func (r *mixedRun) results(res *Result) {
	o, l := &r.opts, r.asked.latency()
	rate := float64(l.Count) / r.askedFor.Seconds()
	res.Queries = []QueryResult{{
		IDs: o.QueryIDs, OfferedRate: o.QueryRate, Requests: uint64(l.Count), Rate: rate, IDRate: rate * float64(o.QueryIDs), Latency: l,
	}}
	res.Kicks = r.kicker.result(o.KickRate)
	out := latencyOf(r.swarm.logout)
	res.Logouts = &out
	if wanted := r.offered(); r.begun < wanted {
		r.faults.add(FaultLate, "%d of %d logins did not begin while they were offered", wanted-r.begun, wanted)
	}
}
