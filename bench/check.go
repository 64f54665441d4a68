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

// wrong is a user whose presence is not what it should be.
type wrong struct {
	kind Fault
	text string
}

// online judges a user with a live link: Online, with its platform alone in the detail.
func (c *checker) online(n int, status string, item *fastjson.Value) *wrong {
	id := c.pop.userID(n)
	if status != statusOnline {
		return &wrong{FaultFalseOffline, fmt.Sprintf("user %q has a live link and reads %q", id, status)}
	}
	want := specOf(c.pop.platform(n)).query
	detail := item.GetArray("Detail")
	if len(detail) != 1 || string(detail[0].GetStringBytes("Platform")) != want || string(detail[0].GetStringBytes("Status")) != statusOnline {
		return &wrong{FaultDetail, fmt.Sprintf("user %q is on %s and reads %v", id, want, detail)}
	}
	return nil
}

// lost judges a user whose only link died.
func (c *checker) lost(n int, status string, _ *fastjson.Value) *wrong {
	p := c.pop.platform(n)
	if want := specOf(p).afterLoss(); status != want {
		return &wrong{FaultStatus, fmt.Sprintf("user %q on %s lost its link and reads %q, want %q", c.pop.userID(n), p, status, want)}
	}
	return nil
}

// left judges a user who logged out.
func (c *checker) left(n int, status string, _ *fastjson.Value) *wrong {
	if status != statusOffline {
		return &wrong{FaultStatus, fmt.Sprintf("user %q logged out and reads %q", c.pop.userID(n), status)}
	}
	return nil
}

type judge func(n int, status string, item *fastjson.Value) *wrong

// pass asks for all users once and returns those that are not right, with the
// last of what was wrong. A call that fails is a fault; its users count as not right.
func (c *checker) pass(ctx context.Context, users []int, right judge) (bad []int, why map[int]*wrong, err error) {
	why = make(map[int]*wrong)
	var body []byte
	for from := 0; from < len(users); from += maxQueryIDs {
		if ctx.Err() != nil {
			return bad, why, errInterrupted
		}
		batch := users[from:min(from+maxQueryIDs, len(users))]
		body = appendQuery(body[:0], c.pop, batch, true)
		err := c.rest.call(queryCommand, body, func(v *fastjson.Value) error {
			err := eachResult(c.pop, batch, v, func(n int, status string, item *fastjson.Value) error {
				if w := right(n, status, item); w != nil {
					bad, why[n] = append(bad, n), w
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
	for _, w := range why {
		c.faults.add(w.kind, "%s: %s", when, w.text)
	}
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
