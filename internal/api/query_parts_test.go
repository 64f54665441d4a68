package api

import (
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// BenchmarkQueryParts takes apart what a query about 500 users, Online on one
// device each, costs beside its socket: the body read by the scanner for the
// usual shape and by the general one, the directory (a million users in random
// order, so all of them are far away), and the answer written.
func BenchmarkQueryParts(b *testing.B) {
	bodies := socketBodies(maxQuery, true)
	part := func(name string, do func(i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			begin := cpuTime(b)
			i := 0
			for ; b.Loop(); i++ {
				do(i % len(bodies))
			}
			b.ReportMetric(float64(cpuTime(b)-begin)/float64(i)/maxQuery, "cpu-ns/id")
		})
	}
	var q queryCall
	part("scan", func(i int) {
		if !q.req.scanPlain(bodies[i]) {
			b.Fatalf("%s", bodies[i])
		}
	})
	part("scan_general", func(i int) {
		var general queryRequest
		general.ids = q.req.ids
		if err := scanObject(aliased(bodies[i]), general.member); err != nil {
			b.Fatal(err)
		}
	})
	s, _ := restHandler(b)
	if !testing.Short() {
		logInAll(b, s.dir, *userCount)
		part("directory", func(i int) {
			q.req.scanPlain(bodies[i])
			q.op = directory.QueryOp{App: testApp, UserIDs: q.req.ids, Detail: true, Users: q.op.Users, Room: q.op.Room, Done: func(*directory.QueryOp) {}}
			s.dir.Query(&q.op)
		})
	}
	online := []directory.InstanceState{{InstID: 1, Platform: presence.Android, Status: presence.Online}}
	q.op.UserIDs, q.op.Users = q.req.ids, nil
	for range q.req.ids {
		q.op.Users = append(q.op.Users, directory.UserState{Status: presence.Online, Instances: online})
	}
	c := restCall{app: &directory.App{}}
	var out []byte
	part("answer", func(int) { out, _ = c.appendQuery(out[:0], &q) })
}
