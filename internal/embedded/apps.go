package embedded

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// tenant is an app with what the rules need of it.
type tenant struct {
	app      *directory.App
	settings presence.Settings
}

// rules returns the settings for the rules; an unknown app has none.
func (t *tenant) rules() *presence.Settings {
	if t == nil {
		return &presence.Settings{}
	}
	return &t.settings
}

// registry is one state of all apps. It is replaced, never written.
type registry struct {
	byID   map[uint32]*tenant
	sorted []*directory.App
}

// apps keeps the apps: read without waiting, changed one update at a time.
type apps struct {
	d       *Directory // immutable
	current atomic.Pointer[registry]

	// Guarded by mu.
	mu      sync.Mutex
	queue   []*directory.UpdateAppOp
	running bool // somebody works the queue off
}

func (a *apps) init(d *Directory) {
	a.d = d
	a.current.Store(&registry{byID: map[uint32]*tenant{}})
}

func (a *apps) load() *registry { return a.current.Load() }

func (a *apps) tenant(id uint32) *tenant { return a.load().byID[id] }

// App implements directory.Directory.
func (d *Directory) App(id uint32) *directory.App {
	if t := d.apps.tenant(id); t != nil {
		return t.app
	}
	return nil
}

// Apps implements directory.Directory.
func (d *Directory) Apps() []*directory.App { return slices.Clone(d.apps.load().sorted) }

// UpdateApp implements directory.Directory.
func (d *Directory) UpdateApp(op *directory.UpdateAppOp) {
	run, ok := d.apps.enqueue(op)
	switch {
	case !ok:
		d.counters.updatesShed.Inc()
		op.Err = errUnavailable("too many app updates are waiting, or the server stops; try again")
		op.Done(op)
	case run:
		d.apps.run()
	}
}

// enqueue adds an update. The caller must run the queue if run is true.
func (a *apps) enqueue(op *directory.UpdateAppOp) (run, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.d.closed.Load() || len(a.queue) >= a.d.opts.MaxUpdates {
		return false, false
	}
	a.queue = append(a.queue, op)
	run = !a.running
	a.running = true
	return run, true
}

// next takes the update whose turn it is; nil ends the run.
func (a *apps) next() *directory.UpdateAppOp {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		a.running = false
		a.queue = nil
		return nil
	}
	op := a.queue[0]
	a.queue[0] = nil
	a.queue = a.queue[1:]
	return op
}

// run makes the waiting updates, one at a time. While the journal works on one
// nobody waits: its done goes on with the next.
func (a *apps) run() {
	for op := a.next(); op != nil; op = a.next() {
		app, err := a.prepare(op)
		if err != nil {
			op.Err = err
			op.Done(op)
			continue
		}
		if !a.commit(op, app) {
			return
		}
	}
}

// commit hands an update to the journal. It is true if that is done with it
// already; else its done will go on with the run.
func (a *apps) commit(op *directory.UpdateAppOp, app *directory.App) (done bool) {
	const handing, waiting, settled = 0, 1, 2
	var state atomic.Int32
	var called atomic.Bool
	a.d.opts.Journal.Commit(&Batch{Lane: -1, App: app}, func(err error) {
		if called.Swap(true) {
			panic("embedded: a journal called done twice for one app")
		}
		a.finish(op, app, err)
		if state.Swap(settled) == waiting {
			a.run()
		}
	})
	return !state.CompareAndSwap(handing, waiting)
}

// prepare makes the new settings that the op asks for.
func (a *apps) prepare(op *directory.UpdateAppOp) (*directory.App, error) {
	was := a.tenant(op.SDKAppID)
	app := directory.NewApp(op.SDKAppID)
	switch {
	case op.Create && was != nil:
		return nil, &directory.Error{Code: directory.CodeConflict, Text: fmt.Sprintf("SDKAppID %d exists already", op.SDKAppID)}
	case op.Create && len(a.load().sorted) >= a.d.opts.MaxApps:
		return nil, &directory.Error{Code: directory.CodeConflict, Text: fmt.Sprintf("cannot create SDKAppID %d: the server has its %d apps", op.SDKAppID, a.d.opts.MaxApps)}
	case !op.Create && was == nil:
		return nil, &directory.Error{Code: directory.CodeUnknownApp, Text: fmt.Sprintf("SDKAppID %d does not exist", op.SDKAppID)}
	case !op.Create:
		app = was.app.Clone()
	}
	if err := op.Mutate(app); err != nil {
		return nil, err
	}
	app = app.Clone() // Mutate may have kept its copy
	if err := a.complete(op, app, was); err != nil {
		return nil, err
	}
	if op.Enforce && !a.d.startSweep() {
		return nil, errUnavailable(fmt.Sprintf("%d policy sweeps are running; try again", a.d.opts.MaxSweeps))
	}
	return app, nil
}

// complete fills what is not the caller's to set and judges the rest.
func (a *apps) complete(op *directory.UpdateAppOp, app *directory.App, was *tenant) error {
	if app.SDKAppID != op.SDKAppID {
		return badRequest(fmt.Errorf("an app cannot change its SDKAppID from %d to %d", op.SDKAppID, app.SDKAppID))
	}
	if was != nil {
		app.Version, app.CreatedMS = was.app.Version+1, was.app.CreatedMS
	} else {
		app.Version, app.CreatedMS = 1, op.NowMS
	}
	if app.TicketKey == ([32]byte{}) {
		if _, err := io.ReadFull(a.d.opts.Rand, app.TicketKey[:]); err != nil {
			return fmt.Errorf("cannot make a ticket key: %w", err)
		}
	}
	return badRequest(cmp.Or(app.Validate(), app.Policy.Validate(a.d.opts.Ceilings)))
}

func badRequest(err error) error {
	if err == nil {
		return nil
	}
	return &directory.Error{Code: directory.CodeBadRequest, Text: err.Error()}
}

// finish makes durable settings visible and answers.
func (a *apps) finish(op *directory.UpdateAppOp, app *directory.App, err error) {
	if err != nil {
		a.d.commitFailed(err)
		if op.Enforce {
			a.d.endSweep()
		}
		op.Err = errUnavailable(fmt.Sprintf("SDKAppID %d was not changed: it could not be made durable; try again", op.SDKAppID))
		op.Done(op)
		return
	}
	a.publish(app)
	a.d.watchers.appChanged(app)
	op.App = app
	if op.Enforce {
		a.d.enforce(op)
		return
	}
	op.Done(op)
}

// publish replaces the registry by one with the new settings.
func (a *apps) publish(changed ...*directory.App) {
	byID := maps.Clone(a.load().byID)
	for _, app := range changed {
		byID[app.SDKAppID] = &tenant{app: app, settings: app.Settings()}
	}
	sorted := make([]*directory.App, 0, len(byID))
	for _, t := range byID {
		sorted = append(sorted, t.app)
	}
	slices.SortFunc(sorted, func(x, y *directory.App) int { return cmp.Compare(x.SDKAppID, y.SDKAppID) })
	a.current.Store(&registry{byID: byID, sorted: sorted})
}
