package embedded

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// watchers are the engines of the nodes.
type watchers struct {
	counters *counters    // immutable
	mu       sync.Mutex   // serialises changes of byNode
	byNode   atomic.Value // map[uint32]*watch, replaced whole
}

type watch struct{ directory.Watcher }

// addressed is a notice and the node that it is for.
type addressed struct {
	node uint32
	directory.Notice
}

func (w *watchers) init(d *Directory) {
	w.counters = &d.counters
	w.byNode.Store(map[uint32]*watch{})
}

func (w *watchers) all() map[uint32]*watch { return w.byNode.Load().(map[uint32]*watch) }

// Watch implements directory.Directory. A later watch of the same node takes
// the place of the earlier one. Calls under way when stop is called may still arrive.
func (d *Directory) Watch(node uint32, dw directory.Watcher) (stop func()) {
	mine := &watch{dw}
	d.watchers.change(func(m map[uint32]*watch) { m[node] = mine })
	return func() {
		d.watchers.change(func(m map[uint32]*watch) {
			if m[node] == mine {
				delete(m, node)
			}
		})
	}
}

func (w *watchers) change(f func(map[uint32]*watch)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := maps.Clone(w.all())
	f(m)
	w.byNode.Store(m)
}

// notify delivers notices, each node's in one call. It uses up list.
func (w *watchers) notify(list []addressed) {
	all := w.all()
	for len(list) > 0 {
		node := list[0].node
		var mine []directory.Notice
		rest := list[:0]
		for _, n := range list {
			if n.node != node {
				rest = append(rest, n)
				continue
			}
			mine = append(mine, n.Notice)
			w.counters.notices[n.Cause].Inc()
		}
		list = rest
		if to := all[node]; to != nil {
			to.ForcedOffline(mine)
		} else {
			w.counters.noticesDropped.Add(len(mine))
		}
	}
}

// appChanged tells all of new settings.
func (w *watchers) appChanged(app *directory.App) {
	for _, to := range w.all() {
		to.AppChanged(app)
	}
}
