package webhook

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// BenchmarkDeliver is an event's way from the decision to the acknowledgement of
// a receiver on this machine, which does nothing but answer. An operation is an
// event; its CPU time is that of the whole process, the receiver's included.
// "bare" is the HTTP client alone, as many requests at once to the same
// receiver: the limit of what single requests can do.
func BenchmarkDeliver(b *testing.B) {
	b.Run("bare", benchmarkBare)
	for _, outbox := range []string{"memory", "durable"} {
		for _, batch := range []int{0, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", outbox, batch), func(b *testing.B) { benchmarkDeliver(b, outbox == "durable", batch) })
		}
	}
}

// benchReceiver answers every request well; stop ends it.
func benchReceiver(b *testing.B) (addr string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(answerOK) }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr().String(), func() {
		if err := server.Shutdown(); err != nil {
			b.Error(err)
		}
		<-served
	}
}

func benchmarkBare(b *testing.B) {
	addr, stop := benchReceiver(b)
	host := &fasthttp.HostClient{Addr: addr, MaxConns: 32}
	t := login(1, "user-00000000001", 1)
	body := newEvent(&t, 1, 1).Body
	var next atomic.Int64
	var posts sync.WaitGroup
	report := perEvent(b)
	for range 32 {
		posts.Go(func() {
			for next.Add(1) <= int64(b.N) {
				req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
				req.Header.SetMethod(fasthttp.MethodPost)
				req.SetRequestURI("http://" + addr + "/")
				req.SetBodyRaw(body)
				if err := host.Do(req, resp); err != nil {
					b.Error(err)
				}
				fasthttp.ReleaseRequest(req)
				fasthttp.ReleaseResponse(resp)
			}
		})
	}
	posts.Wait()
	report()
	host.CloseIdleConnections()
	stop()
}

func benchmarkDeliver(b *testing.B, durable bool, batch int) {
	addr, stop := benchReceiver(b)
	set := newApps()
	set.put(1, "http://"+addr+"/", func(w *directory.Webhook) { w.BatchEvents, w.TimeoutMS = batch, 60_000 })
	o := Options{App: set.get, AllowLoopback: true, MaxEvents: 1 << 20}
	store := newMemStorage()
	if durable {
		o.Storage = store
	}
	d, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	d.Start()
	r := &rig{d: d}
	users := logins(1, 10_000)
	delivered := d.meters.results[resultDelivered]
	report := perEvent(b)
	const chunk = 64 // of one commit
	for i := 0; i < b.N; i += chunk {
		ts := make([]presence.Transition, min(chunk, b.N-i))
		for j := range ts {
			ts[j] = users[(i+j)%len(users)]
			ts[j].EventSeq = uint64((i+j)/len(users) + 1)
		}
		for uint64(i) > delivered.Get()+20_000 {
			time.Sleep(200 * time.Microsecond)
		}
		r.decide(store, ts...)
	}
	for delivered.Get() < uint64(b.N) {
		time.Sleep(200 * time.Microsecond)
	}
	report()
	if shed := d.meters.results[resultCoalesced].Get() + d.meters.results[resultDiverted].Get(); shed != 0 {
		b.Errorf("%d events gave way", shed)
	}
	d.Close(context.Background())
	stop()
}

// perEvent starts the clock; what it returns stops it and reports rate and CPU time.
func perEvent(b *testing.B) (report func()) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/event")
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecord is what an event adds to the commit of its decision, and to
// the directory afterwards, with the log on and off.
func BenchmarkRecord(b *testing.B) {
	for _, logEvents := range []int{-1, 10_000} {
		b.Run(fmt.Sprintf("log=%d", logEvents), func(b *testing.B) {
			set := newApps()
			set.put(1, "http://127.0.0.1:1/", func(w *directory.Webhook) { w.Coalesce = true })
			d, err := New(Options{App: set.get, Storage: newMemStorage(), LogEvents: logEvents, AllowLoopback: true})
			if err != nil {
				b.Fatal(err)
			}
			users := logins(1, 1000)
			ts := make([]presence.Transition, 1)
			var discard discardWriter
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ts[0] = users[i%len(users)]
				ts[0].EventSeq = uint64(i/len(users) + 1)
				d.Record(&discard, ts)
				d.Transitions(ts)
			}
			d.Close(context.Background())
		})
	}
}

type discardWriter struct{ bytes int }

func (w *discardWriter) Set(key, value []byte) { w.bytes += len(key) + len(value) }
func (w *discardWriter) Delete(key []byte)     { w.bytes += len(key) }

// BenchmarkBacklog is the memory of an event that waits, its body on disk, with
// one and with ten events a user; an operation is half a million.
func BenchmarkBacklog(b *testing.B) {
	for _, perUser := range []int{1, 10} {
		b.Run(fmt.Sprintf("per-user=%d", perUser), func(b *testing.B) {
			const n = 500_000
			for b.Loop() {
				before := heapBytes()
				d, err := NewDurable(MemoryOptions{MaxEvents: n, MaxBytes: 1}, nowhere{}, clock.System{})
				if err != nil {
					b.Fatal(err)
				}
				for i := range n {
					t := login(1, fmt.Sprintf("user-%011d", i/perUser), uint64(i%perUser+1))
					if _, err := d.Append([]Event{newEvent(&t, 1, 1)}, 1); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heapBytes()-before)/n, "B/event")
				runtime.KeepAlive(d)
			}
		})
	}
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// nowhere is a Storage that keeps nothing.
type nowhere struct{}

func (nowhere) Commit(write func(Writer), done func(error))      { write(&discardWriter{}); done(nil) }
func (nowhere) Scan(_, _ []byte, _ func(_, _ []byte) bool) error { return nil }
