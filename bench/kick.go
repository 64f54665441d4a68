package bench

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fastjson"

	"github.com/rollcall-im/rollcall/codec"
)

// KickOptions are those of Kick.
type KickOptions struct {
	Options
	Conns     int     // links, each of a user of its own; default 5,000
	Rate      float64 // logins offered per second; default 2,000
	Kicks     int     // users to kick, once each; default half of Conns
	KickRate  float64 // kicks offered per second; default 500
	KickConns int     // REST connections that kick; default 16
}

func (o *KickOptions) validate() error {
	o.Conns = cmp.Or(o.Conns, 5000)
	o.Rate = cmp.Or(o.Rate, 2000)
	o.Kicks = cmp.Or(o.Kicks, max(1, o.Conns/2))
	o.KickRate = cmp.Or(o.KickRate, 500)
	o.KickConns = cmp.Or(o.KickConns, 16)
	if o.Conns < 1 || o.Kicks < 1 || o.Kicks > o.Conns || o.KickConns < 1 || o.KickConns > 10_000 {
		return fmt.Errorf("kicks must be 1 to the %d links, and connections 1 to 10,000, got %d and %d", o.Conns, o.Kicks, o.KickConns)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	if err := checkRate(o.KickRate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// kicker kicks users over REST and follows each kick until its notice has come.
type kicker struct {
	// Immutable.
	rest   *rest
	pop    *population
	faults *faults
	begin  time.Time
	answer *tally

	// Guarded by mu.
	mu      sync.Mutex
	open    map[int]*kickState // kicks that are not over, by user
	noticed *hdrhistogram.Histogram
	kicks   int // over
	before  int // of them, those whose notice came before the answer
	last    time.Time
}

// kickState is what is known of a kick: its times, zero until it has come to that.
type kickState struct{ answered, noticed time.Time }

func newKicker(o *Options, pop *population, f *faults, conns int) (*kicker, error) {
	rest, err := newRest(o, conns)
	if err != nil {
		return nil, err
	}
	rest.once = true
	return &kicker{
		rest: rest, pop: pop, faults: f, begin: time.Now(), answer: newTally(),
		open: make(map[int]*kickState), noticed: newHistogram(),
	}, nil
}

// kickCommand kicks a user.
const kickCommand = "im_open_login_svc/kick"

// kick kicks user n, whose last kick is over.
func (k *kicker) kick(n int, due time.Time) {
	s := &kickState{}
	k.mu.Lock()
	k.open[n] = s
	k.mu.Unlock()
	body := appendID([]byte(`{"UserID":`), k.pop.userID(n))
	body[len(body)-1] = '}'
	if err := k.rest.call(kickCommand, body, func(*fastjson.Value) error { return nil }); err != nil {
		k.faults.add(FaultKick, "user %q: %v", k.pop.userID(n), err)
		return
	}
	now := time.Now()
	k.answer.add(now.Sub(due))
	k.mu.Lock()
	defer k.mu.Unlock()
	s.answered = now
	k.settleLocked(n, s)
}

// notice is the swarm's hook: it takes a notice that was wished for.
func (k *kicker) notice(l *link, m *codec.ForcedOffline) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.open[l.user]
	if s == nil || !s.noticed.IsZero() || m.Code != codec.CodeKickedREST || m.MayReconnect {
		return false
	}
	s.noticed = time.Now()
	k.settleLocked(l.user, s)
	return true
}

// settleLocked counts the user's kick s if it is over. A user whose notice came
// before the answer may have come back and be kicked again by then.
func (k *kicker) settleLocked(n int, s *kickState) {
	if s.answered.IsZero() || s.noticed.IsZero() {
		return
	}
	if k.open[n] == s {
		delete(k.open, n)
	}
	k.kicks++
	k.last = s.answered
	if s.noticed.Before(s.answered) {
		k.before++
	}
	record(k.noticed, s.noticed.Sub(s.answered))
}

// missing counts the kicks that were answered and have had no notice.
func (k *kicker) missing() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.open {
		if !s.answered.IsZero() {
			n++
		}
	}
	return n
}

// wait gives the last notices their time; those that do not come are faults.
func (k *kicker) wait(ctx context.Context, limit time.Duration) {
	end := time.Now().Add(limit)
	for k.missing() > 0 && time.Now().Before(end) && pause(ctx, 5*time.Millisecond) {
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for n, s := range k.open {
		if !s.answered.IsZero() {
			k.faults.add(FaultNotice, "user %q was kicked and got no notice", k.pop.userID(n))
		}
	}
}

// result sums up the kicks that are over.
func (k *kicker) result(rate float64) *KickResult {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &KickResult{OfferedRate: rate, Kicks: k.kicks, Before: k.before, Answer: k.answer.latency(), Notice: latencyOf(k.noticed)}
	if k.kicks > 0 {
		r.Rate = float64(k.kicks) / k.last.Sub(k.begin).Seconds()
	}
	return r
}

// Kick logs everybody in and kicks some over REST at the offered rate: each must
// get its notice and be Offline, nobody else may notice anything. See Connect for
// Result and error.
func Kick(ctx context.Context, o KickOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	c, err := newCrowd(&o.Options, o.Conns, o.Conns, 0)
	if err != nil {
		return nil, err
	}
	defer c.close()
	k, err := newKicker(&o.Options, c.pop, c.faults, o.KickConns)
	if err != nil {
		return nil, err
	}
	defer k.rest.close()
	c.swarm.notice = k.notice
	res := &Result{Scenario: "kick", Started: time.Now()}
	c.start()
	done := c.raise(ctx, c.n, o.Rate, 0, func() {})
	if done {
		res.Checks = append(res.Checks, c.check.once(ctx, "all logged in", c.living(), c.check.online))
		k.begin = time.Now()
		p := &pace{rate: o.KickRate, begin: k.begin, limit: o.Kicks}
		o.Progress(fmt.Sprintf("kicking %d of %d users", o.Kicks, c.n))
		p.run(ctx, o.KickConns, func(i int, due time.Time) { k.kick(i, due) })
		k.wait(ctx, o.AnswerTimeout)
		done = c.closes(ctx)
		res.Checks = append(res.Checks,
			c.check.once(ctx, "after the kicks, the kicked", ints(0, o.Kicks), c.check.left),
			c.check.once(ctx, "after the kicks, the others", ints(o.Kicks, c.n), c.check.online))
		res.Kicks = k.result(o.KickRate)
	}
	broken := c.end()
	c.swarm.kill()
	c.fill(res, c.n, o.Rate, !done || ctx.Err() != nil)
	return res, broken
}

// closes waits until the server has closed the links that had a notice. One that
// stays open is failed by its time limit, so the wait always ends. It reports
// false if it was interrupted or the swarm broke.
func (c *crowd) closes(ctx context.Context) bool {
	for {
		open := false
		ok := c.do(func() {
			for i := range c.swarm.links[:c.swarm.used] {
				open = open || c.swarm.links[i].state == linkLeft
			}
		})
		if !ok || !open {
			return ok
		}
		if !pause(ctx, 5*time.Millisecond) {
			return false
		}
	}
}

// ints are the numbers from a to b-1.
func ints(a, b int) []int {
	list := make([]int, 0, max(0, b-a))
	for n := a; n < b; n++ {
		list = append(list, n)
	}
	return list
}
