package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fastjson"
)

// checker reads presence back over REST in batches and judges it.
type checker struct {
	rest   *rest
	pop    *population
	faults *faults
}

// online judges a user with a live link: Online, with its platform alone in the detail.
func (c *checker) online(n int, status string, item *fastjson.Value) Fault {
	if status != statusOnline {
		return FaultFalseOffline
	}
	detail := item.GetArray("Detail")
	if len(detail) != 1 || string(detail[0].GetStringBytes("Platform")) != specOf(c.pop.platform(n)).query ||
		string(detail[0].GetStringBytes("Status")) != statusOnline {
		return FaultDetail
	}
	return ""
}

// lost judges a user whose only link died.
func (c *checker) lost(n int, status string, _ *fastjson.Value) Fault {
	if status != specOf(c.pop.platform(n)).afterLoss() {
		return FaultStatus
	}
	return ""
}

// left judges a user who logged out.
func (c *checker) left(_ int, status string, _ *fastjson.Value) Fault {
	if status != statusOffline {
		return FaultStatus
	}
	return ""
}

// judge tells what is wrong with a user's presence, nothing if it is right.
type judge func(n int, status string, item *fastjson.Value) Fault

// wrongs are what one pass found, by kind.
type wrongs struct {
	counts  map[Fault]uint64
	samples map[Fault][]string // the first of each kind
}

func (w *wrongs) add(c *checker, kind Fault, n int, status string, item *fastjson.Value) {
	w.counts[kind]++
	if len(w.samples[kind]) < maxSamples {
		w.samples[kind] = append(w.samples[kind], fmt.Sprintf("user %q on %s reads %q with detail %s", c.pop.userID(n), c.pop.platform(n), status, item.Get("Detail")))
	}
}

// tell counts what was found as faults.
func (w *wrongs) tell(f *faults, when string) {
	for kind, n := range w.counts {
		f.addMany(kind, n, when, w.samples[kind])
	}
}

// pass asks for all users once and returns those that are not right, with the
// what was wrong. A call that fails is a fault; its users count as not right.
func (c *checker) pass(ctx context.Context, users []int, right judge) (bad []int, why wrongs, err error) {
	why = wrongs{make(map[Fault]uint64), make(map[Fault][]string)}
	var body []byte
	for from := 0; from < len(users); from += maxQueryIDs {
		if ctx.Err() != nil {
			return bad, why, errInterrupted
		}
		batch := users[from:min(from+maxQueryIDs, len(users))]
		body = appendQuery(body[:0], c.pop, batch, true)
		err := c.rest.call(queryCommand, body, func(v *fastjson.Value) error {
			err := eachResult(c.pop, batch, v, func(n int, status string, item *fastjson.Value) error {
				if kind := right(n, status, item); kind != "" {
					bad = append(bad, n)
					why.add(c, kind, n, status, item)
				}
				return nil
			})
			if err != nil {
				return errors.Join(errAnswer, err)
			}
			return nil
		})
		if err != nil {
			c.failed(err)
			bad = append(bad, batch...)
		}
	}
	return bad, why, nil
}

// errAnswer marks an answer that does not fit its question.
var errAnswer = errors.New("wrong answer")

func (c *checker) failed(err error) {
	kind := FaultQuery
	if errors.Is(err, errAnswer) {
		kind = FaultAnswer
	}
	c.faults.add(kind, "%v", err)
}

// once reads the users one time; what is not right is a fault.
func (c *checker) once(ctx context.Context, when string, users []int, right judge) CheckResult {
	return c.until(ctx, when, users, right, 0)
}

// until reads the users until all are right or limit has passed; those that are
// not right by then are faults.
func (c *checker) until(ctx context.Context, when string, users []int, right judge, limit time.Duration) CheckResult {
	begin := time.Now()
	bad, why, err := c.pass(ctx, users, right)
	for err == nil && len(bad) > 0 && time.Since(begin) < limit {
		if !pause(ctx, 50*time.Millisecond) {
			break
		}
		bad, why, err = c.pass(ctx, bad, right)
	}
	why.tell(c.faults, when)
	r := CheckResult{When: when, Users: len(users), Right: len(users) - len(bad), Seconds: time.Since(begin).Seconds()}
	if err != nil {
		r.Right = 0 // interrupted: not known
	}
	return r
}

// pause waits for d and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
