package store

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkCommit is durable writes in process on the machine's disk: submitters
// that each wait for their last one, with one or 256 transitions a submission, as
// busy lanes make them. A transition is a user's record of 160 bytes and an
// outbox entry of 120. Where -benchtime gives a number, it is of submissions.
func BenchmarkCommit(b *testing.B) {
	for _, mode := range []string{"sync", "interval"} {
		for _, c := range []struct{ submitters, transitions int }{{1, 1}, {128, 1}, {1024, 1}, {128, 16}, {64, 256}} {
			b.Run(fmt.Sprintf("%s/submitters=%d/transitions=%d", mode, c.submitters, c.transitions), func(b *testing.B) {
				o := Options{Dir: b.TempDir(), FS: vfs.Default, MinFree: -1, Ballast: -1}
				if mode == "interval" {
					o.Interval = 10_000_000
				}
				benchCommit(b, o, c.submitters, c.transitions)
			})
		}
	}
}

func benchCommit(b *testing.B, o Options, submitters, transitions int) {
	s, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	record, event := make([]byte, 160), make([]byte, 120)
	for i := range record {
		record[i] = byte(i * 7)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for m := range submitters {
		n := b.N/submitters + 1
		wg.Add(1)
		var next func(int)
		next = func(left int) {
			if left == 0 {
				wg.Done()
				return
			}
			s.Commit(func(w Writer) {
				var room [24]byte
				for t := range transitions {
					key := append(room[:0], PrefixUsers)
					key = binary.BigEndian.AppendUint32(key, uint32(m))
					key = binary.BigEndian.AppendUint32(key, uint32(left*transitions+t)*2654435761)
					w.Set(key, record)
					key[0] = PrefixOutbox
					w.Set(key, event)
				}
			}, func(err error) {
				if err != nil {
					b.Error(err)
				}
				next(left - 1)
			})
		}
		next(n)
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((b.N/submitters+1)*submitters*transitions)/b.Elapsed().Seconds(), "transitions/s")
	b.ReportMetric(float64(s.meters.commits.Get())/float64(s.meters.groups.Get()), "submissions/group")
}
