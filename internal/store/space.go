package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rollcall-im/rollcall/internal/clock"
)

// Names of files of ours in the store's directory. Pebble leaves alone what it
// does not know.
const (
	ballastFile = "BALLAST"
	probeFile   = "PROBE"
)

const probeSize = 64 << 10

// space watches the free space of the disk, so that the store stops to take
// writes before one fails. What the watch cannot see coming meets the ballast: a
// file that is removed at the first write that finds the disk full, which then
// is tried again.
type space struct {
	s *Store // immutable

	free    atomic.Int64 // bytes, -1 = unknown
	isShort atomic.Bool
	wasFull atomic.Bool // a write found the disk full since the last probe

	// Guarded by mu.
	mu      sync.Mutex
	timer   clock.Timer
	stopped bool
	ballast bool // it is there
}

func (p *space) init(s *Store) {
	p.s = s
	p.free.Store(-1)
	_, err := s.opts.FS.Stat(p.path(ballastFile))
	p.ballast = err == nil // of an earlier run
}

// start lays the ballast and begins to watch.
func (p *space) start() {
	p.check()
	if !p.isShort.Load() && !p.wasFull.Load() {
		p.layBallast()
	}
	p.settle()
	p.again()
}

func (p *space) again() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.timer = p.s.opts.Clock.AfterFunc(p.s.opts.CheckEvery, p.tick)
	}
}

func (p *space) tick() {
	p.check()
	p.settle()
	p.again()
}

func (p *space) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

func (p *space) path(name string) string { return p.s.opts.FS.PathJoin(p.s.opts.Dir, name) }

// check reads the free space. What counts as short has a margin, so that the
// store does not flap.
func (p *space) check() {
	usage, err := p.s.opts.FS.GetDiskUsage(p.s.opts.Dir)
	if err != nil {
		p.free.Store(-1)
		p.isShort.Store(false)
		return
	}
	p.free.Store(int64(usage.AvailBytes))
	least := p.s.opts.MinFree
	if p.isShort.Load() {
		least += least / 4
	}
	p.isShort.Store(least > 0 && p.free.Load() < least)
}

// size is a number of bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", bytes)
}

func (p *space) short() bool { return p.isShort.Load() }

// settle turns the store read-only when space is short, and back when it is
// not and a write shows it.
func (p *space) settle() {
	short := p.short()
	p.s.mu.Lock()
	was := p.s.state
	if was == stateOK && short {
		p.s.turnLocked(stateFull, fmt.Errorf("the disk has %s free, less than store-min-free, which is %s", size(p.free.Load()), size(p.s.opts.MinFree)))
	}
	p.s.mu.Unlock()
	if was != stateFull || short || p.probe() != nil {
		return
	}
	p.layBallast()
	p.wasFull.Store(false)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.state == stateFull && !p.wasFull.Load() {
		p.s.turnLocked(stateOK, nil)
	}
}

// full is called when a write found the disk full, with all writes of the
// handle waiting. The write is tried once more when it returns.
func (p *space) full() {
	p.s.meters.diskFull.Inc()
	p.wasFull.Store(true)
	p.mu.Lock()
	if p.ballast {
		p.ballast = false
		_ = p.s.opts.FS.Remove(p.path(ballastFile)) // if that fails, so will the write
	}
	p.mu.Unlock()
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.state == stateOK {
		p.s.turnLocked(stateFull, fmt.Errorf("a write found the disk full"))
	}
}

// layBallast reserves the ballast, if there is room for it beside MinFree.
func (p *space) layBallast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := p.s.opts.Ballast
	if free := p.free.Load(); p.ballast || size <= 0 || free >= 0 && free-size < p.s.opts.MinFree {
		return
	}
	fs := p.s.opts.FS
	f, err := fs.Create(p.path(ballastFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return
	}
	err = f.Preallocate(0, size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		p.s.opts.Logger.Warn("no ballast against a full disk", "error", err)
		_ = fs.Remove(p.path(ballastFile))
		return
	}
	p.ballast = true
}

// probe reports whether the disk takes a write.
func (p *space) probe() (err error) {
	fs := p.s.opts.FS
	f, err := fs.Create(p.path(probeFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if rerr := fs.Remove(p.path(probeFile)); err == nil {
		err = rerr
	}
	return err
}
