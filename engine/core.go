package engine

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/storm"
	"github.com/rollcall-im/rollcall/internal/tlslink"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Core is the engine without sockets: all loops of a node and what they share.
// It is the node's directory.Watcher.
type Core struct {
	// Immutable after NewCore.
	o          Options
	loops      []*Loop
	secure     []*tlslink.Server // of the listeners, nil without TLS
	m          *counters
	epoch      time.Time
	empty      chan struct{} // gets a token when the last link is gone while the node stops
	gate       *admission.Gate
	acceptRate admission.Rate
	sigs       *usersig.Cache // the UserSigs found good of late, nil if none are kept
	penalties  *storm.Penalties

	// Atomic.
	links           atomic.Int64
	unauthenticated atomic.Int64 // links without a login, those that are being refused included
	accepts         admission.Bucket
	memoryFull      atomic.Bool
	speaking        [presence.NumProtocols]atomic.Int64 // links by protocol
	stopping        atomic.Bool
}

// NewCore returns a core without links whose loops wait for their drivers.
func NewCore(o Options) (*Core, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	seed := o.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	c := &Core{
		o: o, m: newCounters(o.Metrics), penalties: o.newPenalties(), epoch: o.Clock.Now(), empty: make(chan struct{}, 1),
	}
	if err := c.secureListeners(); err != nil {
		return nil, err
	}
	if o.SigCache > 0 {
		c.sigs = usersig.NewCache(o.SigCache)
	}
	gate, err := admission.New(admission.Options{
		IP: o.PerIP, Net: o.PerNet64, Addresses: o.TrackedAddresses, MaxLinks: o.MaxLinks, Key: [2]uint64{seed, rand.Uint64()},
	})
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	c.gate, c.acceptRate = gate, admission.PerSecond(o.AcceptRate, o.AcceptRate)
	for i := range o.Loops {
		c.loops = append(c.loops, newLoop(c, uint8(i), rand.New(rand.NewPCG(seed, uint64(i)))))
	}
	c.gauges(o.Metrics)
	return c, nil
}

// secureListeners makes what the listeners with TLS share.
func (c *Core) secureListeners() error {
	c.secure = make([]*tlslink.Server, len(c.o.Listeners))
	var pool *tlslink.Pool
	for i := range c.o.Listeners {
		if c.o.Listeners[i].TLS == nil {
			continue
		}
		if pool == nil {
			o := c.o.Handshakes
			o.Clock, o.Metrics = c.o.Clock, c.o.Metrics
			var err error
			if pool, err = tlslink.NewPool(o); err != nil {
				return fmt.Errorf("engine: %w", err)
			}
		}
		c.secure[i] = pool.Server(c.o.Listeners[i].TLS)
	}
	return nil
}

// Loop returns loop i, 0 <= i < Options.Loops.
func (c *Core) Loop(i int) *Loop { return c.loops[i] }

// Now is the clock's time.
func (c *Core) Now() Instant {
	t := c.o.Clock.Now()
	since, start := t.Sub(c.epoch), c.epoch.UnixMilli()
	now := Instant{MonoMS: start + since.Milliseconds(), WallMS: t.UnixMilli()}
	now.AfterMS = now.MonoMS
	if since%time.Millisecond > 0 {
		now.AfterMS++
	}
	return now
}

// Links is the number of links that are open, those being closed included.
func (c *Core) Links() int { return int(c.links.Load()) }

// PendingLogins is the number of logins that the Directory has not answered.
func (c *Core) PendingLogins() (n int) {
	for _, l := range c.loops {
		n += int(l.pendingLogins.Load())
	}
	return n
}

// ForcedOffline implements directory.Watcher: each notice goes to the loop of
// its link, behind the answer to the link's login.
func (c *Core) ForcedOffline(notices []directory.Notice) {
	for i := range notices {
		n := &notices[i]
		if int(n.Link.Loop()) >= len(c.loops) {
			c.m.noticesStale.Inc()
			continue
		}
		c.loops[n.Link.Loop()].post(&item{notice: n})
	}
}

// AppChanged implements directory.Watcher. There is nothing to do: a login reads
// the app's settings, and a link keeps those that it was told.
func (c *Core) AppChanged(*directory.App) {}

// Drain begins the node's stop: new connections are refused, every link is told
// that it may reconnect, in bounded steps, and closed. No Leave is issued.
func (c *Core) Drain() {
	if c.stopping.Swap(true) {
		return
	}
	if c.Links() == 0 {
		c.signalEmpty()
	}
	for _, l := range c.loops {
		l.post(&item{drain: true})
	}
}

// Empty gets a token when the node stops and its last link is gone.
func (c *Core) Empty() <-chan struct{} { return c.empty }

func (c *Core) signalEmpty() {
	select {
	case c.empty <- struct{}{}:
	default:
	}
}

// LinksOf is the number of links that speak p.
func (c *Core) LinksOf(p presence.Protocol) int { return int(c.speaking[p].Load()) }

// Unauthenticated is the number of links that are not logged in, those that are
// being refused included.
func (c *Core) Unauthenticated() int { return int(c.unauthenticated.Load()) }

// SetMemoryFull tells whether memory is too full for new links: they are refused until it is not.
func (c *Core) SetMemoryFull(full bool) { c.memoryFull.Store(full) }

// admit takes a place among MaxLinks.
func (c *Core) admit(p presence.Protocol) bool {
	if c.links.Add(1) > int64(c.o.MaxLinks) {
		c.links.Add(-1)
		return false
	}
	c.speaking[p].Add(1)
	return true
}

// gone gives the place back.
func (c *Core) gone(p presence.Protocol) {
	c.speaking[p].Add(-1)
	if c.links.Add(-1) == 0 && c.stopping.Load() {
		c.signalEmpty()
	}
}

// Check proves each loop's structures consistent and the link count right. No
// loop may be running.
func (c *Core) Check() error {
	used, unauthenticated, held := 0, 0, admission.Counts{}
	for i, l := range c.loops {
		if err := l.check(); err != nil {
			return fmt.Errorf("engine: loop %d: %w", i, err)
		}
		used += l.slab.used
		unauthenticated += l.slab.held(&held)
	}
	if unauthenticated != c.Unauthenticated() {
		return fmt.Errorf("engine: %d sessions without a login, %d counted", unauthenticated, c.Unauthenticated())
	}
	if got := c.gate.Counts(); got.Pending != held.Pending || got.LoggedIn != held.LoggedIn {
		return fmt.Errorf("engine: links hold %+v, the gate counts %+v", held, got)
	}
	if used != c.Links() {
		return fmt.Errorf("engine: %d sessions live, %d links counted", used, c.Links())
	}
	return nil
}
