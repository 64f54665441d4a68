package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fastjson"
)

// Ways in which links are dropped.
const (
	DropFIN     = "fin"
	DropRST     = "rst"
	DropSilence = "silence"
)

// drop ends the links of some users at once, and finds out when the server shows it.
type drop struct {
	// Immutable.
	c     *crowd
	how   string
	users []int
	limit time.Duration // how late the server may be

	// Owned by the swarm until its links are gone.
	closeLate *hdrhistogram.Histogram
	early     int // links closed before their time

	dead  map[int]time.Duration // by user: when it may first be shown as lost. Written by the swarm before begin returns
	late  *hdrhistogram.Histogram
	found int
}

func newDrop(c *crowd, how string, users []int, limit time.Duration) *drop {
	return &drop{
		c: c, how: how, users: users, limit: limit, dead: make(map[int]time.Duration, len(users)),
		closeLate: newHistogram(), late: newHistogram(),
	}
}

// begin ends the links; false if the swarm is gone.
func (d *drop) begin() bool {
	s := d.c.swarm
	return d.c.do(func() {
		d.c.endedLive = d.closed
		for _, n := range d.users {
			l := &s.links[d.c.linkOf[n]]
			if l.user != n || !l.live() {
				continue // it has failed meanwhile, which was counted
			}
			switch d.how {
			case DropSilence:
				d.dead[n] = s.fallSilent(l, d.limit)
				continue
			case DropRST:
				l.reset()
			}
			d.dead[n] = s.now()
			s.close(l, true)
		}
	})
}

// closed is told of links that end: a silent one is closed by the server.
func (d *drop) closed(l *link, clean bool) {
	if d.how != DropSilence || !clean {
		return
	}
	late := d.c.swarm.now() - d.dead[l.user]
	if late < 0 {
		d.early++
		d.c.faults.add(FaultEarly, "user %q: link closed %v before its time-out was over", d.c.pop.userID(l.user), -late)
	}
	record(d.closeLate, late)
}

// find polls until every user is shown as lost, or the limit has passed.
func (d *drop) find(ctx context.Context) (DropResult, bool) {
	begin, s, early := time.Now(), d.c.swarm, 0
	left := make([]int, 0, len(d.dead))
	first, last := time.Duration(math.MaxInt64), time.Duration(0)
	for _, n := range d.users {
		if at, ok := d.dead[n]; ok {
			left, first, last = append(left, n), min(first, at), max(last, at)
		}
	}
	res := DropResult{How: d.how, Users: len(left)}
	look := func(n int, status string, item *fastjson.Value) Fault {
		if kind := d.c.check.lost(n, status, item); kind != "" {
			return kind
		}
		late := s.now() - d.dead[n]
		if late < 0 {
			early++
			d.c.faults.add(FaultEarly, "user %q reads %q %v before its time-out was over", d.c.pop.userID(n), status, -late)
		}
		record(d.late, late)
		d.found++
		return ""
	}
	var why wrongs
	for len(left) > 0 {
		var err error
		round := time.Now()
		if left, why, err = d.c.check.pass(ctx, left, look); err != nil {
			return res, false
		}
		d.c.o.Progress(fmt.Sprintf("%d of %d found, %d errors", d.found, res.Users, d.c.faults.total()))
		if len(left) == 0 || s.now() > last+d.limit {
			break
		}
		// Polling must not keep the server from its work: half of the time at most.
		if !pause(ctx, max(5*time.Millisecond, time.Since(round), min(250*time.Millisecond, first-s.now()))) {
			return res, false
		}
	}
	why.tell(d.c.faults, "after the drop")
	res.Found, res.Early, res.Seconds, res.Lateness = d.found, early, time.Since(begin).Seconds(), latencyOf(d.late)
	return res, true
}

// closes waits until the server has closed every silent link, and adds to res
// what is known of that. It fails a link by its time limit, so it always ends.
func (d *drop) closes(ctx context.Context, res *DropResult) bool {
	if d.how != DropSilence {
		return true
	}
	for {
		var open int
		ok := d.c.do(func() {
			for n := range d.dead {
				if l := &d.c.swarm.links[d.c.linkOf[n]]; l.user == n && l.state == linkSilent {
					open++
					break
				}
			}
		})
		if !ok {
			return false
		}
		if open == 0 {
			break
		}
		if !pause(ctx, 20*time.Millisecond) {
			return false
		}
	}
	return d.c.do(func() {
		late := latencyOf(d.closeLate)
		res.CloseLateness = &late
		res.Early = max(res.Early, d.early)
	})
}
