package embedded

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
)

var recoverUsers = flag.Int("recover.users", 1_000_000, "PushOnline users of BenchmarkRecover")

// benchStore opens a store on the machine's disk.
func benchStore(b *testing.B, dir string) *store.Store {
	b.Helper()
	s, err := store.Open(store.Options{Dir: dir, MinFree: -1, Ballast: -1})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkDurableLogin is logins through the directory, in memory and on the
// machine's disk, by callers who each wait for their last answer. One caller shows
// what durability adds to a login, many show what it takes of the processor.
func BenchmarkDurableLogin(b *testing.B) {
	for _, callers := range []int{1, 128, 1024} {
		for _, durable := range []bool{false, true} {
			b.Run(fmt.Sprintf("callers=%d/durable=%t", callers, durable), func(b *testing.B) {
				o := Options{Clock: clock.System{}}
				if durable {
					o.Store = benchStore(b, b.TempDir())
					defer o.Store.Close()
				}
				benchLogins(b, o, callers)
			})
		}
	}
}

func benchLogins(b *testing.B, o Options, callers int) {
	d, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	done := make(chan error, 1)
	d.UpdateApp(&directory.UpdateAppOp{SDKAppID: app, Create: true, Mutate: func(*directory.App) error { return nil }, Done: func(op *directory.UpdateAppOp) { done <- op.Err }})
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	times := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	before := cpuTime(b)
	b.ResetTimer()
	for c := range callers {
		n := b.N/callers + 1
		wg.Add(1)
		op := new(directory.LoginOp)
		var began time.Time
		issue := func() {
			began = time.Now()
			op.Key = presence.Key{App: app, UserID: fmt.Sprintf("user-%d-%d", c, n)}
			op.Login = presence.Login{
				Device: presence.Device{Platform: presence.Android, ID: "01234567-89ab-cdef-0123-456789abcdef", SDKVersion: "8.1.6129", Model: "Pixel 9 Pro"},
				Cred:   presence.Credential{SigTimeS: 1 << 40}, NowMS: began.UnixMilli(),
				Link: presence.Link{Node: 1, ID: presence.MakeLinkID(0, uint32(c), uint32(n)), Protocol: presence.ProtocolNative, Listener: "native"},
			}
			d.Login(op)
		}
		op.Done = func(op *directory.LoginOp) {
			if op.Code != presence.CodeOK {
				b.Errorf("login: %d", op.Code)
			}
			times[c] = append(times[c], time.Since(began))
			if n--; n == 0 {
				wg.Done()
				return
			}
			go issue() // not from within the lane
		}
		go issue()
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "logins/s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
	b.ReportMetric((cpuTime(b)-before)*1e6/float64(len(all)), "cpu-us/login")
}

// cpuTime is the processor time of this process in seconds.
func cpuTime(b *testing.B) float64 {
	raw, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100
}

// BenchmarkRecover is a start with -recover.users PushOnline users: time, memory,
// and what they take on the disk. Run it with -benchtime 1x.
func BenchmarkRecover(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "store")
	fillStore(b, dir, *recoverUsers)
	for b.Loop() {
		began, before, cpu := time.Now(), residentBytes(), cpuTime(b)
		s := benchStore(b, dir)
		d, err := New(Options{Store: s})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		b.ReportMetric((cpuTime(b)-cpu)*1e6/float64(*recoverUsers), "cpu-us/user")
		peak := residentBytes()
		runtime.GC()
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(peak-before)/float64(*recoverUsers), "B-peak/user")
		b.ReportMetric(float64(diskBytes(b, dir))/float64(*recoverUsers), "B-disk/user")
		index := 0
		for i := range d.lanes {
			x := &d.lanes[i].expiry
			index += 8*cap(x.heap) + 12*len(x.tags.slots)
		}
		b.ReportMetric(float64(index)/float64(*recoverUsers), "B-index/user")
		if n := d.tallied(instancesPushOnline); n != int64(*recoverUsers) {
			b.Errorf("%d users", n)
		}
		d.Close()
		s.Close()
	}
}

// fillStore writes users as a directory would.
func fillStore(b *testing.B, dir string, users int) {
	s := benchStore(b, dir)
	defer s.Close()
	j, err := openDurable(s, clock.System{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	gate := make(chan struct{}, 64)
	const step = 256
	for from := 0; from < users; from += step {
		gate <- struct{}{}
		batch := &Batch{}
		for i := from; i < min(from+step, users); i++ {
			batch.Users = append(batch.Users, UserRecord{presence.Key{App: app, UserID: fmt.Sprintf("user-%011d", i)}, benchUser(i)})
		}
		j.Commit(batch, func(err error) {
			if err != nil {
				b.Error(err)
			}
			<-gate
		})
	}
	for range cap(gate) {
		gate <- struct{}{}
	}
}

func benchUser(i int) *presence.User {
	now := time.Now().UnixMilli()
	return &presence.User{
		Registered: true, Seq: 2, EventSeq: 2, LastInstID: 1, LastSeenMS: now,
		Instances: []presence.Instance{{
			InstID: 1, Status: presence.PushOnline, LoginMS: now - 1000, PushUntilMS: now + 7*24*3600*1000 + int64(i%1000),
			Device: presence.Device{Platform: presence.Android, ID: fmt.Sprintf("%08x-89ab-4def-8123-%012x", uint32(i)*2654435761, i), SDKVersion: "8.1.6129", Model: "Pixel 9 Pro"},
			Link:   presence.Link{Node: 1, Protocol: presence.ProtocolNative, Listener: "native", ConnectedMS: now - 1000},
		}},
	}
}

func residentBytes() int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func diskBytes(b *testing.B, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if info, ierr := e.Info(); err == nil && ierr == nil && !e.IsDir() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Error(err)
	}
	return n
}
