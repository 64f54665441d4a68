package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/codec"
)

// driver plays a run: it starts and ends the server by the schedule, and lets
// everybody else act in between.
type driver struct {
	// Immutable after newDriver.
	o        *Options
	dir      string
	flags    []string
	ends     []end
	apps     []*tenant
	agents   []*agent
	receiver *receiver
	client   *http.Client
	ending   chan struct{} // closed when agents shall come to rest
	begin    sync.Once     // of everybody who acts

	// Atomic.
	acks      atomic.Int64
	killAck   atomic.Int64 // the count of acks, or of requests, at which to end the life; 0 = not
	killNote  atomic.Int64
	reached   chan struct{}           // has room for one: the count of a life that is not killed was reached
	processed atomic.Pointer[process] // the newest one, ready or not

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when serving changes
	serving *process      // nil while there is none
	h       History
	byUser  map[string]*User // app/UserID
	kills   int
	stops   int
	readyMS []int64 // from spawn to ready, of the lives that came so far
}

func newDriver(o *Options, dir string) (*driver, error) {
	d := &driver{
		o: o, dir: dir, ends: schedule(o.Seed, o.Kills, o.Acks), flags: []string{"--durability", o.Durability},
		client: &http.Client{Timeout: o.AnswerTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}},
		ending: make(chan struct{}), reached: make(chan struct{}, 1), changed: make(chan struct{}), byUser: make(map[string]*User),
	}
	d.h.GraceMS = o.Grace.Milliseconds()
	for flag, value := range map[string]string{"restart-grace": o.Grace.String(), "drain-timeout": "1s"} {
		known, err := knows(o.Server, flag)
		if err != nil {
			return nil, err
		}
		if known {
			d.flags = append(d.flags, "--"+flag, value)
		}
	}
	if err := d.cast(); err != nil {
		return nil, err
	}
	return d, nil
}

// cast makes apps, users with their devices, and the receiver. Who they are
// depends on the seed alone.
func (d *driver) cast() (err error) {
	if d.receiver, err = newReceiver(d.o.Seed, webhookToken, receiverTells{d.note, d.found, d.noted}); err != nil {
		return err
	}
	for i := range d.o.Apps {
		d.apps = append(d.apps, newTenant(d, uint32(1_500_000_000+i)))
	}
	for i := range d.o.Users {
		r := rand.New(rand.NewPCG(d.o.Seed, 1<<32+uint64(i)))
		app := d.apps[i%len(d.apps)]
		u := &User{App: &app.App, ID: fmt.Sprintf("ledger/%d %%u", i)}
		all := codec.Platforms()
		for n := range 2 + r.IntN(3) {
			u.Devices = append(u.Devices, Device{all[r.IntN(len(all))], fmt.Sprintf("device-%d-%d", i, n)})
		}
		d.h.Users = append(d.h.Users, u)
		d.byUser[fmt.Sprintf("%d/%s", app.ID, u.ID)] = u
		a := newAgent(d, app, u, r)
		a.quiet = i%3 == 0 && d.o.Kills > 0
		d.agents = append(d.agents, a)
	}
	return nil
}

// run plays all lives, lets everything come to rest, and reads the end back.
func (d *driver) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var all, operators sync.WaitGroup
	defer func() {
		cancel()
		d.receiver.close()
		if p := d.processed.Load(); p != nil {
			p.kill()
			<-p.ended
		}
		all.Wait()
		operators.Wait()
	}()
	for life, e := range d.ends {
		if err := d.live(ctx, life, e, func() { d.act(ctx, &all, &operators) }); err != nil {
			return err
		}
	}
	close(d.ending)
	all.Wait()
	operators.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("the run did not come to its end: %w", context.Cause(ctx))
	}
	d.comeToRest(ctx)
	return d.finish()
}

// act starts agents and operators, once the first life serves.
func (d *driver) act(ctx context.Context, agents, operators *sync.WaitGroup) {
	for _, a := range d.agents {
		agents.Go(func() { a.run(ctx) })
	}
	for _, t := range d.apps {
		operators.Go(func() { t.run(ctx) })
	}
}

// live plays one life. first is called when the first life serves.
func (d *driver) live(ctx context.Context, life int, e end, first func()) error {
	d.o.Progress(fmt.Sprintf("life %d of %d, %s; %d acks, %d webhook requests", life+1, len(d.ends), e, d.acks.Load(), d.receiver.count.Load()))
	d.mu.Lock()
	// A millisecond belongs to one life: the times of events tell them apart.
	for life > 0 && time.Now().UnixMilli() <= d.h.Lives[life-1].ToMS {
		time.Sleep(100 * time.Microsecond)
	}
	d.h.Lives = append(d.h.Lives, Life{FromMS: time.Now().UnixMilli()})
	d.mu.Unlock()
	p, err := spawn(d.o.Server, d.dir, life, d.flags)
	if err != nil {
		return err
	}
	d.processed.Store(p)
	if e.kind == killAtStart {
		t := time.AfterFunc(time.Duration(e.n)*time.Microsecond, p.kill)
		defer t.Stop()
	}
	serves, err := p.ready(ctx)
	if err != nil {
		return err
	}
	if serves {
		if err := d.serve(ctx, p, e, first); err != nil || e.kind == lastAtAck {
			return err
		}
	}
	return d.over(p, e)
}

// serve makes p known to all and waits for the end of its life.
func (d *driver) serve(ctx context.Context, p *process, e end, first func()) error {
	d.mu.Lock()
	d.readyMS = append(d.readyMS, time.Now().UnixMilli()-d.h.Lives[p.life].FromMS)
	d.mu.Unlock()
	for _, t := range d.apps { // the settings of the apps come before their users
		if err := t.settle(ctx, p); err != nil && !p.expected.Load() {
			return err
		}
	}
	d.arm(e)
	d.announce(p)
	d.begin.Do(first)
	select {
	case <-p.ended:
	case <-d.reached:
	case <-ctx.Done():
		return fmt.Errorf("the run did not come to its end, in life %d, %s: %w", p.life, e, ctx.Err())
	}
	return nil
}

// isLast reports whether p is the life after the last kill.
func (d *driver) isLast(p *process) bool { return p.life == len(d.ends)-1 }

// arm sets the counts at which the life ends.
func (d *driver) arm(e end) {
	switch e.kind {
	case killAtAck, stopAtAck, lastAtAck:
		d.killAck.Store(d.acks.Load() + e.n)
	case killAtReceipt:
		d.killNote.Store(d.receiver.count.Load() + e.n)
	}
}

// over notes the end of a life, and whether the server brought it about itself.
func (d *driver) over(p *process, e end) error {
	var stopped error
	if e.kind == stopAtAck && !p.over(0) {
		stopped = p.stop()
	}
	<-p.ended
	d.announce(nil)
	d.mu.Lock()
	d.h.Lives[p.life].ToMS = time.Now().UnixMilli()
	d.mu.Unlock()
	switch {
	case !p.expected.Load():
		d.found(ServerEnded, "life %d ended by itself: %v\n%s", p.life, p.err, tail(d.dir))
		return fmt.Errorf("the server ended by itself: %w", p.err)
	case stopped != nil:
		d.found(ServerEnded, "a clean stop of life %d: %v", p.life, stopped)
	}
	if e.kind == stopAtAck {
		d.stops++
	} else {
		d.kills++
	}
	return nil
}

// announce tells everybody who serves, nil = nobody.
func (d *driver) announce(p *process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serving = p
	close(d.changed)
	d.changed = make(chan struct{})
}

// await returns who serves, waiting for it; nil when the run ends.
func (d *driver) await(ctx context.Context) *process {
	for {
		d.mu.Lock()
		p, changed := d.serving, d.changed
		d.mu.Unlock()
		if p != nil {
			return p
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// ack counts an acknowledgement, and ends the life if it was the one.
func (d *driver) ack() { d.count(d.acks.Add(1), &d.killAck) }

// noted counts a webhook request likewise.
func (d *driver) noted(n int64) { d.count(n, &d.killNote) }

// count is called by whoever has just seen the n-th of something, so that a kill
// follows the acknowledgement by microseconds.
func (d *driver) count(n int64, at *atomic.Int64) {
	if n != at.Load() {
		return
	}
	p := d.processed.Load()
	switch d.ends[p.life].kind {
	case killAtAck, killAtReceipt:
		p.kill()
	default:
		select {
		case d.reached <- struct{}{}:
		default:
		}
	}
}

// note writes down a webhook request.
func (d *driver) note(app uint32, user string, r Receipt) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.byUser[fmt.Sprintf("%d/%s", app, user)]
	if u == nil {
		return fmt.Errorf("a webhook request tells of user %q of app %d, who does not exist", user, app)
	}
	u.Receipts = append(u.Receipts, r)
	return nil
}

// found reports what is plainly wrong.
func (d *driver) found(kind, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.h.Found = append(d.h.Found, Violation{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// restarts sums up how long the server took to be ready.
func (d *driver) restarts() bench.RestartResult {
	var r bench.RestartResult
	for _, ms := range d.readyMS {
		r.Count++
		r.MeanMS += float64(ms) / float64(len(d.readyMS))
		r.MaxMS = max(r.MaxMS, ms)
	}
	return r
}

// finish stops the server cleanly and ends the history.
func (d *driver) finish() error {
	p := d.processed.Load()
	d.mu.Lock()
	d.h.Lives[p.life].ToMS = time.Now().UnixMilli()
	d.mu.Unlock()
	if err := p.stop(); err != nil {
		d.found(ServerEnded, "the last clean stop: %v", err)
	}
	return nil
}
