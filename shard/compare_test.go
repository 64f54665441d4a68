package shard

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alphadose/haxmap"
	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestCompare measures one table against the peers and the memory itself; `make
// bench-shard` runs it once per table, size and GOMAXPROCS, each in a process of
// its own. Without -compare it checks that all of them work.
var (
	compareName  = flag.String("compare", "", "table to measure: "+strings.Join(contenderNames, ", "))
	compareUsers = flag.Int("compare.users", million, "users in it")
	compareOps   = flag.Int("compare.ops", 2_000_000, "operations of each kind")
)

var contenderNames = []string{"chase", "shard", "shard-offline", "shard-goheap", "sync.Map", "xsync", "haxmap", "rwmutex"}

// contender is a table under test. The peers hold pointers to 64-byte records
// with one device in numbers only; ours holds complete users.
type contender struct {
	put   func(id string, i int)
	get   func(id string) bool
	full  func(id string) bool          // the complete user, if it differs
	batch func(ids []string) (hits int) // nil: a loop of get
	stats func() string
	// own returns the contender with scratch of its own, for another goroutine; nil: it has none.
	own func() *contender
}

// peerUser is what a compact Go program would keep.
type peerUser struct {
	app, instID           uint32
	seq, lastSeen, link   uint64
	deviceHash, loginMS   uint64
	platform, status, reg uint8
	_                     [13]byte
}

func newPeer(i int) *peerUser {
	return &peerUser{app: 1, instID: 1, seq: uint64(i), lastSeen: uint64(i), link: uint64(i), deviceHash: uint64(i), loginMS: uint64(i), platform: 1, status: 2, reg: 1}
}

func newContender(name string) *contender {
	switch name {
	case "shard", "shard-offline", "shard-goheap":
		return ours(name)
	case "sync.Map":
		var m sync.Map
		return &contender{
			put: func(id string, i int) { m.Store(strings.Clone(id), newPeer(i)) },
			get: func(id string) bool { v, ok := m.Load(id); return ok && v.(*peerUser).status == 2 },
		}
	case "xsync":
		m := xsync.NewMap[string, *peerUser]()
		return &contender{
			put: func(id string, i int) { m.Store(strings.Clone(id), newPeer(i)) },
			get: func(id string) bool { v, ok := m.Load(id); return ok && v.status == 2 },
		}
	case "haxmap":
		m := haxmap.New[string, *peerUser]()
		return &contender{
			put: func(id string, i int) { m.Set(strings.Clone(id), newPeer(i)) },
			get: func(id string) bool { v, ok := m.Get(id); return ok && v.status == 2 },
		}
	case "rwmutex":
		return obvious()
	}
	return nil
}

func ours(name string) *contender {
	return ourTable(New(Options{GoHeap: name == "shard-goheap"}), name)
}

func ourTable(t *Table, name string) *contender {
	user := func(i int) presence.User { return complete(i) }
	if name == "shard-offline" {
		user = func(i int) presence.User {
			return presence.User{Registered: true, Seq: uint64(i%500) + 2, EventSeq: uint64(i % 500), LastInstID: 7, LastSeenMS: 1_700_000_000_000 + int64(i)}
		}
	}
	var u presence.User
	var s Summary
	return &contender{
		put: func(id string, i int) {
			u := user(i)
			t.Put(presence.Key{App: 1, UserID: id}, &u)
		},
		get:  func(id string) bool { return t.GetStatus(presence.Key{App: 1, UserID: id}, &s) },
		full: func(id string) bool { return t.Get(presence.Key{App: 1, UserID: id}, &u) },
		batch: func(ids []string) (hits int) {
			t.LookupStatus(1, ids, func(_ int, u *Summary) {
				if u != nil {
					hits++
				}
			})
			return hits
		},
		own: func() *contender { return ourTable(t, name) },
		stats: func() string {
			lines, pages, index := 0, 0, 0
			for i := range t.shards {
				lines += t.shards[i].stock.lines
				pages += len(t.shards[i].stock.pages)
				index += int(max(t.minSize(), t.indexAt(i).size())) * lineBytes
			}
			n := float64(t.Len())
			return fmt.Sprintf("hot %.1f cold %.1f index %.1f pages %.1f arena %.1f", 64.0, float64(lines)*64/n-64,
				float64(index)/n, float64(pages)*pageLines*lineBytes/n, float64(t.Stats().Bytes)/n)
		},
	}
}

func (t *Table) indexAt(i int) index { return index(t.indexes[i].Load()) }
func (t *Table) minSize() uint32     { return 1 << t.minBits }

// complete is a user with one device with realistic strings, all different device ids.
func complete(i int) presence.User {
	u := sampleUser(i)
	in := &u.Instances[0]
	in.LoginMS, in.Link.ConnectedMS = 1_700_000_000_000+int64(i), 1_700_000_000_000+int64(i)
	in.Device.ID = uuids[i%len(uuids)]
	in.Device.SDKVersion, in.Device.Model = versions[i%len(versions)], models[i*7%len(models)]
	in.Link.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(i))
	u.EventSeq, u.LastSeenMS = u.Seq, in.LoginMS
	return u
}

var uuids, versions, models = func() (u, v, m []string) {
	for i := range 1000 {
		u = append(u, fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(i)*2654435761, uint16(i*40503), i&0xfff, i*7&0xfff, uint64(i)*0x9e3779b97f4a&0xffffffffffff))
	}
	for i := range 200 {
		v, m = append(v, fmt.Sprintf("8.%d.%d", i/10, 6000+i)), append(m, fmt.Sprintf("Model %d", i))
	}
	return u, v, m
}()

func obvious() *contender {
	type part struct {
		sync.RWMutex
		m map[string]*peerUser
		_ [32]byte
	}
	parts := make([]part, 256)
	for i := range parts {
		parts[i].m = map[string]*peerUser{}
	}
	at := func(id string) *part { return &parts[Hash(presence.Key{App: 1, UserID: id})>>56] }
	return &contender{
		put: func(id string, i int) {
			p := at(id)
			p.Lock()
			p.m[strings.Clone(id)] = newPeer(i)
			p.Unlock()
		},
		get: func(id string) bool {
			p := at(id)
			p.RLock()
			v, ok := p.m[id]
			found := ok && v.status == 2
			p.RUnlock()
			return found
		},
	}
}

// spell writes i as 16 digits: ids are made, not fetched, so that they cost no
// misses. Words are stored, as whoever reads the id loads words: digit by digit,
// that load would wait until the stores, and so the look-up before, are done.
func spell(b *[16]byte, i uint64) string {
	binary.LittleEndian.PutUint64(b[:], digits(uint32(i)))
	binary.LittleEndian.PutUint64(b[8:], digits(uint32(i>>32)))
	return lend(b[:])
}

// digits spreads the 8 half bytes of i over letters from a to p.
func digits(i uint32) uint64 {
	v := uint64(i)
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	v = (v | v<<4) & 0x0f0f0f0f0f0f0f0f
	return v + 0x6161616161616161
}

// pick is number i of 0..n-1 in an order that no cache guesses.
func pick(i, n int) uint64 { return mulmod(uint64(i), uint64(n)) }

func mulmod(i, n uint64) uint64 {
	hi, _ := bits.Mul64((i+1)*0x9e3779b97f4a7c15, n)
	return hi
}

func threadCPU() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// measure returns the CPU time per op of the best of five runs: others use the machine too.
func measure(p, n int, op func(g, i int)) float64 {
	best := 1e18
	for r := range 5 {
		best = min(best, measureOnce(p, n/5, func(g, i int) { op(g, i+r*p*n/5) }))
	}
	return best
}

// measureOnce runs op n times on each of p goroutines and returns the CPU time per op.
func measureOnce(p, n int, op func(g, i int)) float64 {
	var total int64
	var mu sync.Mutex
	var all sync.WaitGroup
	for g := range p {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			from := threadCPU()
			for i := range n {
				op(g, i+g*n)
			}
			mu.Lock()
			total += threadCPU() - from
			mu.Unlock()
		})
	}
	all.Wait()
	return float64(total) / float64(p) / float64(n)
}

func rss() float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		return 0
	}
	return float64(resident) * float64(os.Getpagesize())
}

func TestCompare(t *testing.T) {
	if *compareName == "" {
		for _, name := range contenderNames[1:] {
			c := newContender(name)
			var b [16]byte
			for i := range 1000 {
				c.put(spell(&b, uint64(i)), i)
			}
			for i := range 2000 {
				if c.get(spell(&b, uint64(i))) != (i < 1000) {
					t.Fatalf("%s: user %d", name, i)
				}
			}
		}
		return
	}
	if *compareName == "chase" {
		fmt.Printf("%-14s users %9d P %d  %s\n", "chase", *compareUsers, runtime.GOMAXPROCS(0), chase(*compareUsers, *compareOps))
		return
	}
	compare(t, *compareName, *compareUsers, *compareOps)
}

// chase is the limit: dependent and independent loads of the lines that so many records take.
func chase(users, ops int) string {
	t := New(Options{Shards: 1})
	lines := users + users/5
	first := t.arena.alloc(bits.Len(uint(lines))-pageBits) << pageBits
	if !t.arena.heap {
		for _, e := range *t.arena.dir.Load() {
			makeHuge(e.lines)
		}
	}
	for i := range lines {
		t.arena.line(first + uint32(i))[0].Store(uint64(i) * 0x9e3779b97f4a7c15)
	}
	n, x := uint64(lines), uint64(1)
	dependent := measure(1, ops, func(_, _ int) {
		hi, _ := bits.Mul64(x*0xbf58476d1ce4e5b9, n)
		x = x*0x94d049bb133111eb + t.arena.line(first + uint32(hi))[0].Load() // no xor: the same line twice in a row would close a circle of two
	})
	independent := measure(1, ops, func(_, i int) { x += t.arena.line(first + uint32(mulmod(uint64(i), n)))[0].Load() })
	runtime.KeepAlive(x)
	return fmt.Sprintf("dependent load %.0f ns, independent %.1f ns", dependent, independent)
}

func compare(t *testing.T, name string, users, ops int) {
	p := runtime.GOMAXPROCS(0)
	runtime.GC()
	debug.FreeOSMemory()
	before := rss()
	c := newContender(name)
	insert, stall, wall := insertAll(c, users)
	runtime.GC()
	debug.FreeOSMemory()
	perUser := (rss() - before) / float64(users)
	gc := forcedGC()
	hit := readers(p, ops, func(b *[16]byte, c *contender, i int) bool { return c.get(spell(b, pick(i, users))) }, c, name)
	miss := readers(p, ops, func(b *[16]byte, c *contender, i int) bool {
		return !c.get(spell(b, uint64(users)+pick(i, users)))
	}, c, name)
	full := hit
	if c.full != nil {
		full = readers(p, ops, func(b *[16]byte, c *contender, i int) bool { return c.full(spell(b, pick(i, users))) }, c, name)
	}
	batch := batches(c, users, ops)
	replace := replaceAll(c, users, ops)
	fmt.Printf("%-14s users %9d P %d  hit %5.0f  full %5.0f  miss %5.0f  replace %5.0f  insert %5.0f  batch500 %4.0f ns  RSS %5.1f B/user  GC %8.2f ms  stall %7.3f ms (wall %7.3f)",
		name, users, p, hit, full, miss, replace, insert, batch, perUser, gc, stall, wall)
	if c.stats != nil {
		fmt.Printf("  [%s]", c.stats())
	}
	fmt.Println()
	runtime.KeepAlive(c)
}

// readers measures reads; a contender that keeps scratch gets one per goroutine.
func readers(p, ops int, read func(b *[16]byte, c *contender, i int) bool, c *contender, name string) float64 {
	all, bufs := make([]*contender, p), make([][16]byte, p)
	for g := range all {
		all[g] = c.fork()
	}
	missed := 0
	v := measure(p, ops, func(g, i int) {
		if !read(&bufs[g], all[g], i) {
			missed++
		}
	})
	if missed > 0 {
		panic(fmt.Sprintf("%s: %d reads went wrong", name, missed))
	}
	return v
}

func (c *contender) fork() *contender {
	if c.own == nil {
		return c
	}
	return c.own()
}

// insertAll fills c. The stall is the longest insert by the clock, or the CPU
// time of the 64 inserts that it was part of, if that is less: the machine gives
// its cores to others too.
func insertAll(c *contender, users int) (perInsert, stallMS, wallMS float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var b [16]byte
	var worst, worstWall int64
	from, last := threadCPU(), time.Now()
	for i := 0; i < users; i += 64 {
		cpu, longest := threadCPU(), int64(0)
		for j := i; j < min(i+64, users); j++ {
			c.put(spell(&b, uint64(j)), j)
			now := time.Now()
			longest, last = max(longest, int64(now.Sub(last))), now
		}
		worst, worstWall = max(worst, min(longest, threadCPU()-cpu)), max(worstWall, longest)
	}
	return float64(threadCPU()-from) / float64(users), float64(worst) / 1e6, float64(worstWall) / 1e6
}

func forcedGC() float64 {
	best := 1e18
	for range 3 {
		from := cpuTime()
		runtime.GC()
		best = min(best, float64(cpuTime()-from)/1e6)
	}
	return best
}

func batches(c *contender, users, ops int) float64 {
	const batch = 500
	var room [batch][16]byte
	ids := make([]string, batch)
	n, rounds := 0, ops/batch
	spent, best := int64(0), 1e18
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range rounds {
		for i := range ids {
			ids[i] = spell(&room[i], pick(r*batch+i, users))
		}
		from := threadCPU()
		if c.batch != nil {
			n += c.batch(ids)
		} else {
			for _, id := range ids {
				if c.get(id) {
					n++
				}
			}
		}
		spent += threadCPU() - from
		if every := max(1, rounds/5); r%every == every-1 {
			best, spent = min(best, float64(spent)/float64(batch*every)), 0
		}
	}
	if n != rounds*batch {
		panic("a batch missed somebody")
	}
	return best
}

func replaceAll(c *contender, users, ops int) float64 {
	var b [16]byte
	return measure(1, ops, func(_, i int) { c.put(spell(&b, pick(i, users)), i) })
}
