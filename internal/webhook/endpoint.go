package webhook

import (
	"slices"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
)

// Bounds of an endpoint's behaviour.
const (
	openAfter = 5 // first attempts that fail in a row open the circuit
	// recheck is how often a held endpoint with a backlog looks whether its settings have changed.
	recheck = time.Second
)

// endpoint is one app's receiver as the Dispatcher sees it. Guarded by Dispatcher.mu.
type endpoint struct {
	app uint32
	// signal grows whenever there may be something new to claim. A worker that
	// found nothing ends only if it did not grow meanwhile.
	signal  uint64
	workers int
	starved bool // in Dispatcher.starved
	pace    pace // how many workers may run while the circuit is closed

	client *client // of the URL in use; nil before the first attempt
	url    string  // what client was made for; it may have failed to make

	// The circuit: closed, or open until heldMS and then for one probe at a time.
	open   bool
	fails  int   // failed first attempts in a row
	silent int   // attempts in a row that found no working receiver
	holds  int   // how often in a row it was opened or held
	heldMS int64 // no attempt before; also set by Retry-After on a closed circuit

	timer   clock.Timer
	timerMS int64 // when timer fires; 0 = none
}

// allowed is the number of workers that may run now.
func (ep *endpoint) allowed(nowMS int64) int {
	switch {
	case nowMS < ep.heldMS:
		return 0
	case ep.open:
		return 1
	}
	return ep.pace.window
}

// wake says that apps may have runnable lanes.
func (d *Dispatcher) wake(apps []uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, app := range apps {
		ep := d.endpoints[app]
		if ep == nil {
			ep = &endpoint{app: app, pace: newPace(d.o.MaxPerEndpoint)}
			d.endpoints[app] = ep
		}
		d.wakeLocked(ep)
	}
}

func (d *Dispatcher) wakeLocked(ep *endpoint) {
	ep.signal++
	d.followURLLocked(ep)
	d.spawnLocked(ep)
}

// spawnLocked starts a worker for ep, or sees to it that one starts later.
func (d *Dispatcher) spawnLocked(ep *endpoint) {
	nowMS := d.nowMS()
	switch allowed := ep.allowed(nowMS); {
	case d.stopped, !d.started:
	case allowed == 0:
		d.armLocked(ep, nowMS, ep.heldMS)
	case ep.workers >= allowed:
	case ep.open && d.probes >= max(1, d.o.MaxInFlight/4):
		// Dead receivers take their time-out each: they may not fill the pool.
		d.armLocked(ep, nowMS, nowMS+recheck.Milliseconds())
	case d.workers >= d.o.MaxInFlight:
		d.starveLocked(ep)
	default:
		d.startLocked(ep)
	}
}

func (d *Dispatcher) startLocked(ep *endpoint) {
	ep.workers++
	d.workers++
	probe := ep.open
	if probe {
		d.probes++
	}
	go d.work(ep, probe)
}

func (d *Dispatcher) starveLocked(ep *endpoint) {
	if !ep.starved {
		ep.starved = true
		d.starved = append(d.starved, ep)
	}
}

// leaveLocked takes a worker that ends off the books.
func (d *Dispatcher) leaveLocked(ep *endpoint, probe bool) {
	ep.workers--
	d.workers--
	if probe {
		d.probes--
	}
}

// passOnLocked gives free places to those who wait longest for one.
func (d *Dispatcher) passOnLocked() {
	for len(d.starved) > 0 && d.workers < d.o.MaxInFlight {
		next := d.starved[0]
		d.starved = slices.Delete(d.starved, 0, 1)
		next.starved = false
		d.spawnLocked(next)
	}
	d.closeIdleLocked()
}

// closeIdleLocked tells Close when nothing is in flight any more.
func (d *Dispatcher) closeIdleLocked() {
	if !d.closing.Load() || d.workers > 0 {
		return
	}
	for _, ep := range d.endpoints {
		ep.disarm()
	}
	if !d.idleClosed {
		d.idleClosed, d.stopped = true, true // no worker starts any more
		close(d.idle)
	}
}

// armLocked sees to it that ep is woken at atMS, or in a second if it is held:
// its settings may have changed by then.
func (d *Dispatcher) armLocked(ep *endpoint, nowMS, atMS int64) {
	if d.closing.Load() {
		return
	}
	if nowMS < ep.heldMS {
		atMS = min(atMS, nowMS+recheck.Milliseconds())
	}
	atMS = max(atMS, nowMS+1)
	if ep.timerMS != 0 && ep.timerMS <= atMS {
		return
	}
	ep.disarm()
	ep.timerMS = atMS
	ep.timer = d.o.Clock.AfterFunc(time.Duration(atMS-nowMS)*time.Millisecond, func() { d.fire(ep, atMS) })
}

func (ep *endpoint) disarm() {
	if ep.timer != nil {
		ep.timer.Stop()
	}
	ep.timer, ep.timerMS = nil, 0
}

func (d *Dispatcher) fire(ep *endpoint, atMS int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ep.timerMS != atMS || d.closing.Load() {
		return // replaced by another while it was on its way
	}
	ep.timer, ep.timerMS = nil, 0
	d.wakeLocked(ep)
}

// followURLLocked gives ep a fresh start if the app's URL is no longer the one
// that its circuit has judged.
func (d *Dispatcher) followURLLocked(ep *endpoint) {
	app := d.o.App(ep.app)
	if ep.url == "" || app == nil || app.Webhook.URL == ep.url {
		return
	}
	if ep.client != nil {
		ep.client.retired.Store(true)
		d.retired = append(d.retired, ep.client)
	}
	ep.client, ep.url = nil, ""
	ep.open, ep.fails, ep.silent, ep.holds, ep.heldMS = false, 0, 0, 0, 0
	ep.pace = newPace(d.o.MaxPerEndpoint)
	d.o.Outbox.Hurry(ep.app)
}

// succeedLocked notes a good answer to an attempt that began at began. It
// reports whether that closed the circuit: then nothing that waits has to wait longer.
func (d *Dispatcher) succeedLocked(ep *endpoint, began time.Time) (closed bool) {
	closed = ep.open
	ep.open, ep.fails, ep.silent, ep.holds, ep.heldMS = false, 0, 0, 0, 0
	ep.pace.good(began, d.o.Clock.Now())
	if closed {
		d.o.Outbox.Hurry(ep.app)
		ep.signal++
	}
	return closed
}

// failLocked notes a bad answer and reports whether it opened the circuit. Only
// the first attempt at an event says something new of the endpoint: a single
// event that the receiver chokes on must not hold up the others. With the
// circuit open, a failure after the hold is a probe's, or as good as one; one
// before it comes from an attempt that began earlier.
func (d *Dispatcher) failLocked(ep *endpoint, r result, attempts int, began time.Time) (opened bool) {
	nowMS := d.nowMS()
	held := nowMS < ep.heldMS
	ep.pace.bad(began, d.o.Clock.Now())
	if r.retryAfter > 0 {
		wait := min(r.retryAfter, d.o.MaxRetryAfter)
		ep.heldMS = max(ep.heldMS, nowMS+wait.Milliseconds())
	}
	if !r.outcome.endpointDown() {
		return false
	}
	ep.silent++
	if attempts == 0 {
		ep.fails++
	}
	down := ep.fails >= openAfter || r.outcome == outcomeGone
	opened = !ep.open && down
	if ep.open && !held || opened {
		d.openLocked(ep, nowMS, r)
	}
	return opened
}

func (d *Dispatcher) openLocked(ep *endpoint, nowMS int64, r result) {
	wait := d.o.HoldMax
	if r.outcome != outcomeGone {
		wait = d.jitterLocked(d.o.HoldBase, d.o.HoldMax, ep.holds)
	}
	ep.open, ep.pace = true, newPace(d.o.MaxPerEndpoint)
	ep.holds++
	ep.heldMS = max(ep.heldMS, nowMS+wait.Milliseconds())
}

// jitterLocked is base doubled n times, at most limit; the second half is left to chance.
func (d *Dispatcher) jitterLocked(base, limit time.Duration, n int) time.Duration {
	wait := limit
	if n < 32 && base<<n < limit && base<<n > 0 {
		wait = base << n
	}
	return wait/2 + time.Duration(d.o.Rand.Int64N(int64(wait/2)+1))
}
