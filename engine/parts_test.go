package engine

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestOptions(t *testing.T) {
	files, err := OpenFileLimit()
	if err != nil {
		t.Fatal(err)
	}
	dir := newFakeDirectory()
	for _, c := range []struct {
		o    Options
		want string // "" = good
	}{
		{Options{}, "Directory is nil"},
		{Options{Directory: dir}, ""},
		{Options{Directory: dir, Loops: -1}, "Loops is -1"},
		{Options{Directory: dir, Listeners: make([]Listener, 17)}, "17 Listeners, want at most 16"},
		{Options{Directory: dir, Listeners: make([]Listener, 1)}, "without Name or Address"},
		{Options{Directory: dir, Listeners: []Listener{{Name: "x"}}}, "without Name or Address"},
		{Options{Directory: dir, Listeners: []Listener{{Name: "x", Address: ":1", Protocol: presence.NumProtocols}}}, `Listener "x": protocol unknown`},
		{Options{Directory: dir, Listeners: append(nativeAt(":1"), nativeAt(Off)...)}, `two Listeners are named "native"`},
		{Options{Directory: dir, Listeners: []Listener{{Name: "x", Address: ":1", ProxyNetworks: make([]netip.Prefix, 1)}}}, `Listener "x": ProxyNetworks has invalid Prefix`},
		{Options{Directory: dir, Listeners: []Listener{{Name: "x", Address: ":1", ProxyNetworks: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}}}, "ProxyNetworks has ::ffff:10.0.0.0/104"},
		{Options{Directory: dir, Listeners: []Listener{{Name: "x", Address: ":1", ProxyNetworks: balancers}}}, ""},
		{Options{Directory: dir, Listeners: nativeAt(Off)}, ""},
		{Options{Directory: dir, Loops: 257}, "Loops is 257"},
		{Options{Directory: dir, Loops: 256, FileReserve: 1280}, ""},
		{Options{Directory: dir, Loops: 256}, ""},
		{Options{Directory: dir, MaxLinks: -1}, "MaxLinks is -1"},
		{Options{Directory: dir, Loops: 1, FileReserve: 100, MaxLinks: files - 100}, ""},
		{Options{Directory: dir, Loops: 1, FileReserve: 100, MaxLinks: files - 99}, fmt.Sprintf("MaxLinks is %d, want 1 to %d", files-99, files-100)},
		{Options{Directory: dir, Loops: 20, FileReserve: 99}, "need at least 100"},
		{Options{Directory: dir, Loops: 20, FileReserve: 100}, ""},
		{Options{Directory: dir, Loops: 20, FileReserve: 101}, ""},
		{Options{Directory: dir, Loops: 20, FileReserve: 119, Listeners: []Listener{{Name: "a", Address: ":1"}, {Name: "b", Address: ":2"}}}, "need at least 120"},
		{Options{Directory: dir, FileReserve: files}, "leaves none for links"},
		{Options{Directory: dir, LoginTimeout: -1}, "LoginTimeout is -1ns"},
		{Options{Directory: dir, DrainTimeout: time.Hour + 1}, "DrainTimeout is 1h0m0.000000001s"},
		{Options{Directory: dir, OutboundCap: -1}, "OutboundCap is -1"},
		{Options{Directory: dir, MaxPipelined: math.MaxUint16 + 1}, "MaxPipelined is 65536"},
		{Options{Directory: dir, Batch: -5}, "Batch is -5"},
	} {
		_, err := NewCore(c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestDefaultMaxLinks(t *testing.T) {
	files, err := OpenFileLimit()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Directory: newFakeDirectory(), FileReserve: 300}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	if want := min(files-300, o.Loops<<24); o.MaxLinks != want {
		t.Fatalf("MaxLinks %d, want %d of %d files", o.MaxLinks, want, files)
	}
	if LinkBudget(100, 101) != 0 || LinkBudget(100, 99) != 1 {
		t.Fatal("LinkBudget")
	}
}

func TestResolve(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{":7700", "0.0.0.0:7700"},
		{"0.0.0.0:0", "0.0.0.0:0"},
		{"127.0.0.1:7700", "127.0.0.1:7700"},
		{"[::1]:7700", "[::1]:7700"},
		{"[::]:7700", "[::]:7700"},
		{"[::ffff:127.0.0.1]:7700", "127.0.0.1:7700"},
		{"localhost:7700", "127.0.0.1:7700"},
	} {
		got, err := resolve(c.in)
		if err != nil || got.String() != c.want {
			t.Errorf("resolve(%q) = %v, %v; want %s", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", "7700", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000"} {
		if got, err := resolve(in); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", in)) {
			t.Errorf("resolve(%q) = %v, %v; want an error that names it", in, got, err)
		}
	}
}

func TestAddrPort(t *testing.T) {
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 4711}
	if got, want := addrPort(mapped), netip.MustParseAddrPort("192.0.2.1:4711"); got != want {
		t.Fatalf("%v, want %v", got, want)
	}
	if got := addrPort(nil); got.IsValid() {
		t.Fatalf("%v", got)
	}
}

// A slot's generations are never used twice: after the last one it retires.
func TestSlotRetires(t *testing.T) {
	const base = math.MaxUint32 - 1
	b := slab{loop: 3, base: base, max: chunkSize}
	var slot uint32
	gens := []uint32{base, math.MaxUint32, 1, 2}
	for _, gen := range gens {
		s, _ := b.alloc()
		if got := s.id; got != presence.MakeLinkID(3, slot, gen) {
			t.Fatalf("id %x, want slot %d generation %d", uint64(got), slot, gen)
		}
		s.state = stateNew
		if b.get(s.id) != s {
			t.Fatal("a live link is not found")
		}
		old := s.id
		b.release(s)
		if b.get(old) != nil || b.get(s.id) != nil {
			t.Fatal("a link that ended is found")
		}
	}
	s, _ := b.alloc()
	s.state = stateNew
	s.id = presence.MakeLinkID(3, slot, base-1) // four thousand million links later
	b.release(s)
	if s, _ = b.alloc(); s.id.Slot() == slot {
		t.Fatal("a slot begins its generations again")
	}
	s.state = stateNew
	if err := b.check(); err != nil {
		t.Fatal(err)
	}
}

// A loop whose slots are all taken refuses, and takes the next one when one is free.
func TestMaxSlots(t *testing.T) {
	r := newRig(t)
	r.loop.slab.max = chunkSize
	var links []*link
	for range chunkSize {
		links = append(links, r.open())
	}
	s, refusal := r.loop.Open(&fakeConn{}, 0, r.core.Now())
	if s != nil || r.core.Links() != chunkSize {
		t.Fatalf("link %d was let in, %d counted", chunkSize+1, r.core.Links())
	}
	(&link{rig: r, conn: &fakeConn{out: refusal}}).wantRefused(codec.CodeServerFull)
	if n := r.core.m.refused[refusedSlots].Get(); n != 1 {
		t.Fatalf("%d refused counted", n)
	}
	links[7].fin()
	r.open()
}

func TestSlabCheckFinds(t *testing.T) {
	fresh := func() *slab {
		b := &slab{base: 1, max: chunkSize}
		for range 3 {
			s, _ := b.alloc()
			s.state = stateNew
		}
		return b
	}
	for name, harm := range map[string]func(*slab){
		"free twice":   func(b *slab) { b.free = append(b.free, b.free[0]) },
		"live is free": func(b *slab) { b.free = append(b.free, 1) },
		"count":        func(b *slab) { b.used++ },
		"id":           func(b *slab) { b.at(2).id++; b.at(1).id = b.at(2).id },
	} {
		b := fresh()
		if err := b.check(); err != nil {
			t.Fatal(err)
		}
		harm(b)
		if b.check() == nil {
			t.Errorf("%s: not found", name)
		}
	}
}

// Two runs of a node do not name links alike: the store may remember the first
// one's.
func TestFirstGenerationIsRandom(t *testing.T) {
	seen := make(map[presence.LinkID]bool)
	for range 4 {
		r := newRig(t, func(o *Options) { o.Seed = 0 })
		k := r.open()
		if seen[k.s.ID()] {
			t.Fatal("two runs made the same link id")
		}
		seen[k.s.ID()] = true
	}
}

// Items of each producer arrive in its order, all of them once.
func TestQueue(t *testing.T) {
	const producers, each = 8, 2000
	var q queue
	var wg sync.WaitGroup
	for p := range producers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				q.push(&item{notice: &directory.Notice{Link: presence.LinkID(p), TimeMS: int64(i)}})
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var next [producers]int64
	total := 0
	for closed := false; ; {
		for it := q.takeAll(); it != nil; it = it.next {
			p := it.notice.Link
			if it.notice.TimeMS != next[p] {
				t.Fatalf("producer %d: item %d, want %d", p, it.notice.TimeMS, next[p])
			}
			next[p]++
			total++
		}
		if closed {
			break
		}
		select {
		case <-done:
			closed = true
		default:
		}
	}
	if total != producers*each || !q.empty() {
		t.Fatalf("%d items, want %d", total, producers*each)
	}
}

func TestWords(t *testing.T) {
	var w words
	a, b := w.word([]byte("1.2.3")), w.word([]byte("1.2.3"))
	if a != "1.2.3" || a != b || w.word(nil) != "" {
		t.Fatal("wrong word")
	}
	buf := []byte("1.2.3")
	if n := testing.AllocsPerRun(100, func() { w.word(buf) }); n != 0 {
		t.Fatalf("%v allocations for a word that is known", n)
	}
	for i := range 3 * maxWords {
		if s := fmt.Sprint(i); w.word([]byte(s)) != s {
			t.Fatal("wrong word")
		}
		if len(w.m) > maxWords {
			t.Fatalf("%d words kept", len(w.m))
		}
	}
}

func TestTenantsBound(t *testing.T) {
	dir := newFakeDirectory()
	var ts tenants
	for id := uint32(1); id <= maxTenants+10; id++ {
		app := directory.NewApp(id)
		app.Keys = []directory.Key{{Secret: fmt.Sprint(id)}}
		dir.apps[id] = app
		if e, no := ts.find(dir, id); no.code != 0 || e.app != app || e.secrets[0] != fmt.Sprint(id) {
			t.Fatalf("%+v %+v", e, no)
		}
		if len(ts.byID) > maxTenants {
			t.Fatalf("%d kept", len(ts.byID))
		}
	}
}

func TestBrief(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int
	}{{"", 0}, {strings.Repeat("a", 48), 48}, {strings.Repeat("a", 49), 48}, {strings.Repeat("a", 47) + "é", 47}, {strings.Repeat("\xff", 100), 0}} {
		if got := brief([]byte(c.in)); len(got) != c.want || !strings.HasPrefix(c.in, string(got)) {
			t.Errorf("brief(%q) = %q, want %d bytes of it", c.in, got, c.want)
		}
	}
}

func TestEndMS(t *testing.T) {
	for _, c := range []struct{ s, ms int64 }{
		{0, 0}, {1_700_000_000, 1_700_000_000_000},
		{math.MaxInt64 / 1000, math.MaxInt64 / 1000 * 1000}, {math.MaxInt64/1000 + 1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64},
	} {
		if got := endMS(c.s); got != c.ms {
			t.Errorf("endMS(%d) = %d, want %d", c.s, got, c.ms)
		}
	}
}

func TestGauges(t *testing.T) {
	r := newRig(t)
	r.open()
	r.dir.hold = true
	k := r.open()
	k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	var b strings.Builder
	r.set.Write(&b)
	for _, want := range []string{`rollcall_links{protocol="native"} 2`, "rollcall_logins_pending 1"} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("the metrics lack %q", want)
		}
	}
	r.dir.release()
	r.run()
}

func TestCloseReasonNames(t *testing.T) {
	seen := make(map[string]bool)
	for r, name := range closeReasonNames {
		if name == "" || seen[name] {
			t.Errorf("close reason %d is %q", r, name)
		}
		seen[name] = true
	}
}
