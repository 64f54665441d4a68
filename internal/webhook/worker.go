package webhook

import (
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// work delivers events of ep until there is none to claim, ep is held back, or
// another endpoint has a better claim to the worker.
func (d *Dispatcher) work(ep *endpoint, probe bool) {
	for first := true; ; first = false {
		batch, ok := d.claim(ep, probe, first)
		if !ok {
			return
		}
		d.deliver(ep, batch)
	}
}

// claim takes the next events, or ends the worker and returns false.
func (d *Dispatcher) claim(ep *endpoint, probe, first bool) ([]Event, bool) {
	for {
		signal, ok := d.goOn(ep, probe, first)
		if !ok {
			return nil, false
		}
		batch, more := d.o.Outbox.Claim(ep.app, d.nowMS(), d.batchSize(ep.app))
		if len(batch) > 0 {
			if more {
				d.mu.Lock()
				d.spawnLocked(ep)
				d.mu.Unlock()
			}
			return batch, true
		}
		if d.retireIfIdle(ep, probe, signal) {
			return nil, false
		}
	}
}

// goOn decides whether the worker may make another attempt; if not, it ends.
func (d *Dispatcher) goOn(ep *endpoint, probe, first bool) (signal uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	nowMS := d.nowMS()
	switch {
	case d.stopped, ep.workers > ep.allowed(nowMS):
		// Too many, or held back: spawnLocked sees to a timer.
	case probe != ep.open:
		// The circuit has changed: spawnLocked starts one of the other kind.
	case !first && len(d.starved) > 0:
		d.starveLocked(ep) // to the end of the line
	default:
		return ep.signal, true
	}
	d.leaveLocked(ep, probe)
	if !ep.starved {
		d.spawnLocked(ep)
	}
	d.passOnLocked()
	return 0, false
}

// retireIfIdle ends a worker that found nothing, unless something came meanwhile.
func (d *Dispatcher) retireIfIdle(ep *endpoint, probe bool, signal uint64) bool {
	nextMS := d.o.Outbox.NextMS(ep.app)
	d.mu.Lock()
	defer d.mu.Unlock()
	if ep.signal != signal {
		return false
	}
	if nextMS != 0 {
		d.armLocked(ep, d.nowMS(), nextMS)
	}
	d.leaveLocked(ep, probe)
	d.passOnLocked()
	return true
}

// batchSize is how many events one request of app may hold.
func (d *Dispatcher) batchSize(app uint32) int {
	if a := d.o.App(app); a != nil {
		return max(1, a.Webhook.BatchEvents)
	}
	return 1
}

// deliver makes one attempt at a batch, or drops it, and settles it. What is too
// old is buried before.
func (d *Dispatcher) deliver(ep *endpoint, batch []Event) {
	app := d.o.App(ep.app)
	if app == nil || app.Webhook.URL == "" {
		d.meters.count(resultNoURL, len(batch))
		d.o.Outbox.Ack(batch)
		return
	}
	now := d.o.Clock.Now()
	if batch = d.giveUp(batch, now.UnixMilli(), app.Webhook.GiveUpMS); len(batch) > 0 {
		began := d.o.Clock.Now()
		r := d.attempt(ep, batch, &app.Webhook, began)
		d.settle(ep, batch, &app.Webhook, r, began)
	}
}

// giveUp buries the events that are too old, unless an older one of the same
// user is not, and returns the others.
func (d *Dispatcher) giveUp(batch []Event, nowMS, giveUpMS int64) []Event {
	var dead, left []Event
	for i := range batch {
		e := &batch[i]
		follows := len(left) > 0 && left[len(left)-1].Key == e.Key
		if nowMS-e.QueuedMS >= giveUpMS && !follows {
			dead = append(dead, *e)
		} else {
			left = append(left, *e)
		}
	}
	if len(dead) > 0 {
		d.meters.count(resultGaveUp, len(dead))
		d.o.Outbox.Bury(dead, CauseGaveUp, nowMS)
	}
	return left
}

// attempt posts a batch and counts what came of it.
func (d *Dispatcher) attempt(ep *endpoint, batch []Event, w *directory.Webhook, now time.Time) result {
	r := result{outcome: outcomeURL}
	if c := d.clientFor(ep, w.URL); c != nil {
		r = c.post(batch, w, now)
		c.closeIfRetired()
		if r.outcome != outcomeOK && d.life.Err() != nil {
			r = result{outcome: outcomeStopped}
		}
		d.meters.attempt.Update(d.o.Clock.Now().Sub(now).Seconds())
	}
	d.meters.attempts[r.outcome].Inc()
	return r
}

// clientFor returns the client for url, nil if the URL cannot be used.
func (d *Dispatcher) clientFor(ep *endpoint, url string) *client {
	c, retired, err := d.useURL(ep, url)
	closeIdle(retired)
	if err != nil {
		d.o.Logger.Warn("webhook URL cannot be used; events wait for another until they are given up", "app", ep.app, "error", err)
	}
	return c
}

// useURL makes ep's client for url unless it has one, and hands over the
// clients of former URLs. The error is of the making, so it comes once per URL.
func (d *Dispatcher) useURL(ep *endpoint, url string) (c *client, retired []*client, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followURLLocked(ep)
	retired, d.retired = d.retired, nil
	if ep.url != url {
		ep.client, err = newClient(d.life, url, d.reach(), &d.o.Network, d.conns, d.o.MaxPerEndpoint, d.trimIdle)
		ep.url = url
	}
	return ep.client, retired, err
}

func closeIdle(clients []*client) {
	for _, c := range clients {
		c.host.CloseIdleConnections()
	}
}

// trimIdle closes the idle connections of all endpoints, so that many endpoints
// do not pile them up. A dial that finds no room calls it.
func (d *Dispatcher) trimIdle() { closeIdle(d.clients()) }

// clients returns those of all URLs in use and of the former ones that may have
// idle connections.
func (d *Dispatcher) clients() []*client {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.retired
	d.retired = nil
	for _, ep := range d.endpoints {
		if ep.client != nil {
			all = append(all, ep.client)
		}
	}
	return all
}

// settle tells the outbox and the endpoint what came of an attempt.
func (d *Dispatcher) settle(ep *endpoint, batch []Event, w *directory.Webhook, r result, began time.Time) {
	first := &batch[0]
	switch r.outcome {
	case outcomeOK:
		d.o.Outbox.Ack(batch)
		d.meters.count(resultDelivered, len(batch))
		for i := range batch {
			d.meters.delivery.Update(float64(d.nowMS()-batch[i].QueuedMS) / 1000)
		}
		d.succeed(ep, w, began)
	case outcomeStopped:
		d.o.Outbox.Nack(batch, d.nowMS()) // it says nothing of the receiver
	default:
		d.o.Logger.Debug("webhook attempt failed", "app", ep.app, "id", requestID(batch, w), "events", len(batch), "attempt", first.Attempts+1, "outcome", string(r.outcome), "status", r.status)
		d.o.Outbox.Nack(batch, min(d.fail(ep, first, w, r, began), first.QueuedMS+w.GiveUpMS))
	}
}

func (d *Dispatcher) succeed(ep *endpoint, w *directory.Webhook, began time.Time) {
	d.mu.Lock()
	closed := w.URL == ep.url && d.succeedLocked(ep, began)
	d.mu.Unlock()
	if closed {
		d.o.Logger.Info("webhook receiver answers again", "app", ep.app)
	}
}

// fail notes a failed attempt and returns when its events may be tried again.
func (d *Dispatcher) fail(ep *endpoint, e *Event, w *directory.Webhook, r result, began time.Time) (nextMS int64) {
	nextMS, opened := d.noteFailure(ep, e, w, r, began)
	if opened {
		d.o.Logger.Warn("webhook receiver fails; holding back", "app", ep.app, "outcome", string(r.outcome), "status", r.status)
	}
	return nextMS
}

func (d *Dispatcher) noteFailure(ep *endpoint, e *Event, w *directory.Webhook, r result, began time.Time) (nextMS int64, opened bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.URL != ep.url {
		return d.nowMS(), false // it speaks of a receiver that is no longer wanted
	}
	opened = d.failLocked(ep, r, e.Attempts, began)
	// Of a receiver that has said nothing good since the event's first attempt
	// nothing says that it is the event's fault. With few users the circuit may
	// never open, and the event's retries are all the probes there are.
	limit := d.o.RetryMax
	if r.outcome.endpointDown() && ep.silent > e.Attempts {
		limit = min(limit, d.o.HoldMax)
	}
	wait := d.jitterLocked(min(d.o.RetryBase, limit), limit, e.Attempts)
	return d.nowMS() + max(wait, min(r.retryAfter, d.o.MaxRetryAfter)).Milliseconds(), opened
}
