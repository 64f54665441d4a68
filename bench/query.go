package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fastjson"
)

// QueryOptions are those of Query.
type QueryOptions struct {
	Options
	IDs      []int         // ids per request, one run after the other; default 1, 100, 500
	Rate     float64       // requests offered per second; 0 = each client asks as soon as it was answered
	Duration time.Duration // of each run; default 10 s
	Clients  int           // requests at once; default 16
	Users    int           // accounts that are asked for, imported first; default 10,000
}

func (o *QueryOptions) validate() error {
	if len(o.IDs) == 0 {
		o.IDs = []int{1, 100, 500}
	}
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Clients == 0 {
		o.Clients = 16
	}
	if o.Users == 0 {
		o.Users = 10_000
	}
	if o.Clients < 1 || o.Clients > 10_000 || o.Users < 1 || o.Duration < 0 {
		return fmt.Errorf("clients must be 1 to 10,000, users at least 1 and the duration not negative, got %d, %d, %v", o.Clients, o.Users, o.Duration)
	}
	for _, n := range o.IDs {
		if n < 1 || n > maxQueryIDs || n > o.Users {
			return fmt.Errorf("ids per request must be 1 to %d and at most the %d users, got %d", maxQueryIDs, o.Users, n)
		}
	}
	if err := checkRate(o.Rate, true); err != nil {
		return err
	}
	return o.Options.validate()
}

// queryRun is one run with one number of ids.
type queryRun struct {
	// Immutable.
	o      *QueryOptions
	ids    int
	rest   *rest
	pop    *population
	faults *faults
	begin  time.Time

	// Atomic.
	next     atomic.Uint64 // requests that clients have taken on
	begun    atomic.Uint64
	requests atomic.Uint64 // answered
}

// Query asks for the presence of random users and checks every answer: as many
// results as ids, in order, each with a status there is. See Connect for Result and error.
func Query(ctx context.Context, o QueryOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	pop := &population{o: &o.Options}
	rest, err := newRest(&o.Options, o.Clients)
	if err != nil {
		return nil, err
	}
	defer rest.close()
	m, err := newMeter(o.ServerPID)
	if err != nil {
		return nil, err
	}
	f, res := newFaults(), &Result{Scenario: "query", Started: time.Now()}
	o.Progress(fmt.Sprintf("importing %d accounts", o.Users))
	if err := rest.importUsers(ctx, pop, o.Users); err != nil && !errors.Is(err, errInterrupted) {
		f.add(FaultQuery, "%v", err)
	}
	for _, n := range o.IDs {
		if ctx.Err() == nil && f.total() == 0 {
			r := &queryRun{o: &o, ids: n, rest: rest, pop: pop, faults: f}
			res.Queries = append(res.Queries, r.run(ctx, m))
		}
	}
	res.Seconds = time.Since(res.Started).Seconds()
	res.Server = m.result()
	f.tell(res)
	res.Interrupted = ctx.Err() != nil
	res.OK = !res.Interrupted && f.total() == 0
	return res, nil
}

// run asks until the duration is over and, with an offered rate, all that was due
// has been asked, however late: what a slow server left undone would be its worst
// latencies. After SettleTimeout more the rest is a fault.
func (r *queryRun) run(ctx context.Context, m *meter) QueryResult {
	cpu := m.read().cpu
	r.begin = time.Now()
	limit := r.o.Duration
	if r.o.Rate > 0 {
		limit += r.o.SettleTimeout
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	hists := make([]*hdrhistogram.Histogram, r.o.Clients)
	var wg sync.WaitGroup
	for i := range hists {
		hists[i] = newHistogram()
		wg.Go(func() { r.client(limited, hists[i]) })
	}
	go func() {
		wg.Wait()
		cancel()
	}()
	r.progress(limited)
	wg.Wait()
	took := time.Since(r.begin).Seconds()
	if ctx.Err() == nil {
		took = max(took, r.o.Duration.Seconds()) // the last one was due before its end
		r.late()
	}
	for _, h := range hists[1:] {
		hists[0].Merge(h)
	}
	n := r.requests.Load()
	q := QueryResult{IDs: r.ids, OfferedRate: r.o.Rate, Requests: n, Rate: float64(n) / took, Latency: latencyOf(hists[0])}
	q.IDRate = q.Rate * float64(r.ids)
	q.ServerCPU = perEach(m.read().cpu-cpu, int(n))
	return q
}

// late makes a fault of requests that were due and have not begun.
func (r *queryRun) late() {
	offered := uint64(math.Ceil(r.o.Rate*r.o.Duration.Seconds() - 1e-9))
	if n := r.begun.Load(); n < offered {
		r.faults.add(FaultLate, "%d of %d queries of %d ids did not begin in time", offered-n, offered, r.ids)
	}
}

func (r *queryRun) progress(ctx context.Context) {
	for pause(ctx, time.Second) {
		r.o.Progress(fmt.Sprintf("querying %d ids: %d answers, %d errors", r.ids, r.requests.Load(), r.faults.total()))
	}
}

// client asks one request after the other. With an offered rate the clients
// share the schedule: each takes the next request that is due.
func (r *queryRun) client(ctx context.Context, h *hdrhistogram.Histogram) {
	users := make([]int, r.ids)
	var body []byte
	for {
		intended := time.Now()
		if r.o.Rate > 0 {
			due := dueAt(int(r.next.Add(1)-1), r.o.Rate)
			if due >= r.o.Duration {
				return
			}
			intended = r.begin.Add(due)
			if wait := time.Until(intended); wait > 0 && !pause(ctx, wait) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		r.begun.Add(1)
		for i := range users {
			users[i] = rand.IntN(r.o.Users)
		}
		body = appendQuery(body[:0], r.pop, users, true)
		r.ask(users, body)
		record(h, time.Since(intended))
	}
}

// ask makes one request and checks its answer.
func (r *queryRun) ask(users []int, body []byte) {
	err := r.rest.call(queryCommand, body, func(v *fastjson.Value) error {
		err := eachResult(r.pop, users, v, func(n int, status string, _ *fastjson.Value) error {
			if status != statusOnline && status != statusPushOnline && status != statusOffline {
				return fmt.Errorf("user %q reads %q", r.pop.userID(n), status)
			}
			return nil
		})
		if err != nil {
			return errors.Join(errAnswer, err)
		}
		return nil
	})
	if err != nil {
		(&checker{faults: r.faults}).failed(err)
		return
	}
	r.requests.Add(1)
}
