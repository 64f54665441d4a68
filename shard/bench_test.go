package shard

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/presence"
)

const million = 1 << 20

// sampleUser is a user with one device, as most are.
func sampleUser(i int) presence.User {
	return presence.User{
		Registered: true, Seq: uint64(i) + 1, LastInstID: 1,
		Instances: []presence.Instance{{
			InstID: 1, Status: presence.Online, LoginMS: int64(i),
			Device: presence.Device{Platform: presence.Android, ID: deviceID, SDKVersion: "8.3.6498", Model: "Pixel 9"},
			Link: presence.Link{Node: 1, ID: presence.MakeLinkID(0, uint32(i), 1), Protocol: presence.ProtocolNative, Listener: "native",
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 40000), ConnectedMS: int64(i)},
		}},
	}
}

const deviceID = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"

// userIDs returns n UserIDs of 16 bytes.
func userIDs(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s%0*d", prefix, 16-len(prefix), i)
	}
	return ids
}

// shuffled is names in random order, laid out in memory in that order: the
// benchmark should not pay for fetching its own ids.
func shuffled(ids []string) []string {
	out := make([]string, len(ids))
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(len(ids)) {
		out[i] = strings.Clone(ids[j])
	}
	return out
}

func fill(ids []string) *Table {
	t := New(Options{})
	for i, id := range ids {
		u := sampleUser(i)
		t.Put(presence.Key{App: 1, UserID: id}, &u)
	}
	return t
}

// fixture is shared: filling a million takes longer than measuring.
var fixture = sync.OnceValues(func() (*Table, []string) {
	ids := userIDs("u", million)
	return fill(ids), shuffled(ids)
})

// cpuPer reports the CPU time of the loop that follows, per user: on a machine
// that others use too, it says more than the time that passes.
func cpuPer(b *testing.B, users int) func() {
	from := cpuTime()
	return func() {
		b.ReportMetric(float64(cpuTime()-from)/float64(b.N)/float64(users), "cpu-ns/user")
	}
}

// cpuTime is the CPU time of the process in nanoseconds.
func cpuTime() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

func BenchmarkGetHit(b *testing.B) {
	t, ids := fixture()
	var u presence.User
	b.ReportAllocs()
	defer cpuPer(b, 1)()
	for i := 0; b.Loop(); i++ {
		if !t.Get(presence.Key{App: 1, UserID: ids[i%million]}, &u) {
			b.Fatal("missed")
		}
	}
}

func BenchmarkGetMiss(b *testing.B) {
	t, _ := fixture()
	ids := userIDs("x", million)
	var u presence.User
	b.ReportAllocs()
	defer cpuPer(b, 1)()
	for i := 0; b.Loop(); i++ {
		if t.Get(presence.Key{App: 1, UserID: ids[i%million]}, &u) {
			b.Fatal("hit")
		}
	}
}

// BenchmarkGetHitBesideWriter has a writer replace users all the time.
func BenchmarkGetHitBesideWriter(b *testing.B) {
	t, ids := fixture()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				u := sampleUser(i)
				t.Put(presence.Key{App: 1, UserID: ids[i*7919%million]}, &u)
			}
		}
	}()
	var u presence.User
	for i := 0; b.Loop(); i++ {
		t.Get(presence.Key{App: 1, UserID: ids[i%million]}, &u)
	}
	close(stop)
	<-done
}

// BenchmarkLookup500 is the presence part of a querystate, against a loop of Get.
func BenchmarkLookup500(b *testing.B) {
	const batch = 500
	t, ids := fixture()
	online := 0
	b.Run("Lookup", func(b *testing.B) {
		b.ReportAllocs()
		defer cpuPer(b, batch)()
		for i := 0; b.Loop(); i++ {
			from := i * batch % (million - batch)
			t.Lookup(1, ids[from:from+batch], func(_ int, u *presence.User) { online += int(u.Status()) })
		}
	})
	b.Run("Get", func(b *testing.B) {
		var u presence.User
		defer cpuPer(b, batch)()
		for i := 0; b.Loop(); i++ {
			from := i * batch % (million - batch)
			for _, id := range ids[from : from+batch] {
				t.Get(presence.Key{App: 1, UserID: id}, &u)
				online += int(u.Status())
			}
		}
	})
	if online == 0 {
		b.Fatal("nobody was online")
	}
}

func BenchmarkPutReplace(b *testing.B) {
	t, ids := fixture()
	u := sampleUser(1)
	b.ReportAllocs()
	defer cpuPer(b, 1)()
	for i := 0; b.Loop(); i++ {
		t.Put(presence.Key{App: 1, UserID: ids[i%million]}, &u)
	}
}

// BenchmarkPutInsert fills a table to a million; its metrics are the bytes that
// a user takes in the heap (one device; strings not counted, they are shared
// here), the longest single Put and the collector's CPU for one cycle.
func BenchmarkPutInsert(b *testing.B) {
	ids := shuffled(userIDs("u", million))
	for b.Loop() {
		b.StopTimer()
		before := heap()
		t, u := New(Options{}), sampleUser(1)
		var worst time.Duration
		b.StartTimer()
		for _, id := range ids {
			from := time.Now()
			t.Put(presence.Key{App: 1, UserID: id}, &u)
			worst = max(worst, time.Since(from))
		}
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/million, "B/user")
		b.ReportMetric(float64(worst.Nanoseconds())/1e3, "us/longest")
		from := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(from).Nanoseconds())/1e6, "ms/GC")
		runtime.KeepAlive(t)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/user")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkScan(b *testing.B) {
	t, _ := fixture()
	n := 0
	b.ReportAllocs()
	defer cpuPer(b, million)()
	for b.Loop() {
		for c, done := (Cursor{}), false; !done; {
			c, done = t.Scan(c, 1000, func(presence.Key, *presence.User) { n++ })
		}
	}
	if n != b.N*million {
		b.Fatalf("%d scans saw %d users", b.N, n)
	}
}

// BenchmarkObviousGetHit is the obvious algorithm, for comparison: 256 maps of
// pointers under read-write locks.
func BenchmarkObviousGetHit(b *testing.B) {
	type part struct {
		sync.RWMutex
		m map[presence.Key]*presence.User
		_ [32]byte
	}
	_, ids := fixture()
	parts := make([]part, 256)
	for i := range parts {
		parts[i].m = map[presence.Key]*presence.User{}
	}
	for i, id := range userIDs("u", million) {
		k, u := presence.Key{App: 1, UserID: id}, sampleUser(i)
		parts[Hash(k)>>56].m[k] = &u
	}
	var u presence.User
	defer cpuPer(b, 1)()
	for i := 0; b.Loop(); i++ {
		k := presence.Key{App: 1, UserID: ids[i%million]}
		p := &parts[Hash(k)>>56]
		p.RLock()
		v := p.m[k]
		instances := append(u.Instances[:0], v.Instances...)
		u = *v
		u.Instances = instances
		p.RUnlock()
	}
}
