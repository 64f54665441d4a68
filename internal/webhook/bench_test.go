package webhook

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// BenchmarkDeliver is an event's way from the decision to the acknowledgement
// of a receiver on this machine, which does nothing but answer. An operation is an event.
func BenchmarkDeliver(b *testing.B) {
	for _, outbox := range []string{"memory", "durable"} {
		for _, batch := range []int{0, 100} {
			b.Run(fmt.Sprintf("%s/batch=%d", outbox, batch), func(b *testing.B) { benchmarkDeliver(b, outbox == "durable", batch) })
		}
	}
}

func benchmarkDeliver(b *testing.B, durable bool, batch int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString(answerOK) }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	set := newApps()
	set.put(1, "http://"+listener.Addr().String()+"/", func(w *directory.Webhook) { w.BatchEvents = batch })
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
	b.ReportAllocs()
	b.ResetTimer()
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
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if shed := d.meters.results[resultCoalesced].Get() + d.meters.results[resultDiverted].Get(); shed != 0 {
		b.Errorf("%d events gave way", shed)
	}
	d.Close(context.Background())
	server.Shutdown()
	<-served
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
