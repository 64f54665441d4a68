package webhook

import (
	"errors"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// work delivers events of ep until there is none to claim, ep is held back, or
// another endpoint has a better claim to the worker.
func (d *Dispatcher) work(ep *endpoint, probe bool) {
	for first := true; ; first = false {
		e, ok := d.claim(ep, probe, first)
		if !ok {
			return
		}
		d.deliver(ep, &e)
	}
}

// claim takes the next event, or ends the worker and returns false.
func (d *Dispatcher) claim(ep *endpoint, probe, first bool) (Event, bool) {
	for {
		signal, ok := d.goOn(ep, probe, first)
		if !ok {
			return Event{}, false
		}
		e, more, ok := d.o.Outbox.Claim(ep.app, d.nowMS())
		if ok {
			if more {
				d.mu.Lock()
				d.spawnLocked(ep)
				d.mu.Unlock()
			}
			return e, true
		}
		if d.retireIfIdle(ep, probe, signal) {
			return Event{}, false
		}
	}
}

// goOn decides whether the worker may make another attempt; if not, it ends.
func (d *Dispatcher) goOn(ep *endpoint, probe, first bool) (signal uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	nowMS := d.nowMS()
	switch {
	case d.aborted, ep.workers > ep.allowed(nowMS):
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

// deliver makes one attempt at e, or drops or buries it, and settles it.
func (d *Dispatcher) deliver(ep *endpoint, e *Event) {
	app := d.o.App(ep.app)
	now := d.o.Clock.Now()
	switch {
	case app == nil || app.Webhook.URL == "":
		d.meters.count(resultNoURL, 1)
		d.o.Outbox.Ack(e)
	case now.UnixMilli()-e.QueuedMS >= app.Webhook.GiveUpMS:
		d.meters.count(resultGaveUp, 1)
		d.o.Outbox.Bury(e, CauseGaveUp, now.UnixMilli())
	default:
		r := d.attempt(ep, e, &app.Webhook, now)
		d.settle(ep, e, &app.Webhook, r)
	}
}

// attempt posts e and counts what came of it.
func (d *Dispatcher) attempt(ep *endpoint, e *Event, w *directory.Webhook, now time.Time) result {
	r := result{outcome: outcomeURL}
	if c := d.clientFor(ep, w.URL); c != nil {
		r = c.post(e, w, now)
		d.meters.attempt.Update(d.o.Clock.Now().Sub(now).Seconds())
	}
	d.meters.attempts[r.outcome].Inc()
	return r
}

// clientFor returns the client for url, nil if the URL cannot be used.
func (d *Dispatcher) clientFor(ep *endpoint, url string) *client {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.followURLLocked(ep)
	if ep.url == url {
		return ep.client
	}
	c, err := newClient(url, d.reach(), &d.o.Network, &d.conns, d.o.MaxPerEndpoint, d.trimIdle)
	if err != nil {
		// The error quotes the URL, and its query may hold a secret.
		d.o.Logger.Warn("webhook URL cannot be used", "app", ep.app, "refused", errors.Is(err, ErrAddressRefused))
	}
	ep.client, ep.url = c, url
	return c
}

// trimIdle keeps the idle connections of many endpoints from piling up. It is
// called before each dial; as no more than MaxInFlight dials are under way at
// once, there are never 3 x MaxInFlight connections.
func (d *Dispatcher) trimIdle() {
	if d.conns.len() < 2*d.o.MaxInFlight {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ep := range d.endpoints {
		if ep.client != nil {
			ep.client.host.CloseIdleConnections()
		}
	}
}

// settle tells the outbox and the endpoint what came of an attempt.
func (d *Dispatcher) settle(ep *endpoint, e *Event, w *directory.Webhook, r result) {
	if r.outcome == outcomeOK {
		d.o.Outbox.Ack(e)
		d.meters.count(resultDelivered, 1)
		d.meters.delivery.Update(float64(d.nowMS()-e.QueuedMS) / 1000)
		d.mu.Lock()
		d.succeedLocked(ep)
		d.mu.Unlock()
		return
	}
	d.o.Logger.Debug("webhook attempt failed", "app", ep.app, "id", e.ID(), "attempt", e.Attempts+1, "outcome", string(r.outcome), "status", r.status)
	d.o.Outbox.Nack(e, min(d.fail(ep, e, w, r), e.QueuedMS+w.GiveUpMS))
}

// fail notes a failed attempt and returns when the event may be tried again.
func (d *Dispatcher) fail(ep *endpoint, e *Event, w *directory.Webhook, r result) (nextMS int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w.URL != ep.url {
		return d.nowMS() // it speaks of a receiver that is no longer wanted
	}
	d.failLocked(ep, r, e.Attempts)
	wait := d.jitterLocked(d.o.RetryBase, d.o.RetryMax, e.Attempts)
	return d.nowMS() + max(wait, min(r.retryAfter, d.o.MaxRetryAfter)).Milliseconds()
}
