package admission

import (
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// model is a gate as plain maps: nothing is forgotten, nothing shared. It asks the
// levels that the gate asks, and counts at both.
type model struct {
	gate    *Gate
	ip, net Limits
	byAddr  map[netip.Addr]*modelAddr
	byNet   map[netip.Prefix]*modelAddr
}

type modelAddr struct {
	bucket          bucketModel
	rate            Rate
	pending, logged int
	knownTo         int64 // in ticks of 1<<32 ns
}

// modelLink is a link that was let in.
type modelLink struct {
	of       []*modelAddr
	loggedIn bool
}

func newModel(g *Gate, ip, net Limits) *model {
	return &model{g, ip, net, map[netip.Addr]*modelAddr{}, map[netip.Prefix]*modelAddr{}}
}

func known[K comparable](m map[K]*modelAddr, k K, l Limits) *modelAddr {
	if m[k] == nil {
		r := PerSecond(l.Rate, l.Burst)
		m[k] = &modelAddr{rate: r, bucket: bucketModel{credit: r.roomNS + r.eachNS}}
	}
	return m[k]
}

func (a *modelAddr) admit(l Limits, nowNS int64, room float64) int {
	most := float64(l.Pending)
	if a.logged == 0 && nowNS>>32 >= a.knownTo {
		most = max(math.Ceil(most*room), 1)
	}
	switch {
	case !a.bucket.take(a.rate, nowNS):
		return 1
	case l.Links > 0 && a.pending+a.logged >= l.Links:
		return 2
	case l.Pending > 0 && float64(a.pending) >= most:
		return 3
	}
	return 0
}

func (m *model) admit(addr netip.Addr, nowNS int64, room float64) (*modelLink, Refusal) {
	k := &modelLink{}
	asked := m.gate.v4
	k.of = append(k.of, known(m.byAddr, addr, m.ip))
	if addr.Is6() {
		asked = m.gate.v6
		p, _ := addr.Prefix(64)
		k.of = append(k.of, known(m.byNet, p, m.net))
	}
	limits := [numLevels]Limits{m.ip, m.net}
	for _, lv := range asked {
		if no := k.of[lv].admit(limits[lv], nowNS, room); no != 0 {
			return nil, Refusal(no) + Refusal(lv)*IPPending
		}
	}
	for _, a := range k.of {
		a.pending++
	}
	return k, Admitted
}

// within reports whether every limit of links holds, also those of levels that are not asked.
func (m *model) within() bool {
	ok := func(a *modelAddr, l Limits) bool {
		return (l.Links == 0 || a.pending+a.logged <= l.Links) && (l.Pending == 0 || a.pending <= l.Pending)
	}
	for _, a := range m.byAddr {
		if !ok(a, m.ip) {
			return false
		}
	}
	for _, a := range m.byNet {
		if !ok(a, m.net) {
			return false
		}
	}
	return true
}

func (k *modelLink) logIn(nowNS int64) {
	for _, a := range k.of {
		if !k.loggedIn {
			a.pending, a.logged = a.pending-1, a.logged+1
			a.knownTo = max(a.knownTo, nowNS>>32+15)
		}
	}
	k.loggedIn = true
}

func (k *modelLink) release() {
	for _, a := range k.of {
		if k.loggedIn {
			a.logged--
		} else {
			a.pending--
		}
	}
}

// source draws what a test does next: rapid's generators or a fuzzer's bytes.
type source func(n int) int

// replay does the same to a gate and to its model.
func replay(tb fataler, steps int, next source) {
	drawLimits := func() Limits {
		return Limits{Rate: float64(next(4)) * 0.5, Burst: float64(next(6)), Links: next(5), Pending: next(4)}
	}
	o := Options{IP: drawLimits(), Net: drawLimits(), Key: testKey, MaxLinks: 1 + next(3)*4000}
	g, err := New(o)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	m := newModel(g, o.IP, o.Net)
	type pair struct {
		h Hold
		k *modelLink
	}
	var open []pair
	now := int64(0)
	for i := range steps {
		switch what := next(8); {
		case what < 4 || len(open) == 0:
			addr := ip(next(3))
			if next(2) == 0 {
				addr = ip6(next(2), next(3))
			}
			quarters := next(5)
			h, got := g.Admit(addr, now, quarters*AllRoom/4)
			k, want := m.admit(addr, now, float64(quarters)/4)
			if got != want {
				tb.Fatalf("step %d: %v is %v, want %v (%+v)", i, addr, got, want, o)
			}
			if !m.within() {
				tb.Fatalf("step %d: %v has too many links (%+v)", i, addr, o)
			}
			if got == Admitted {
				open = append(open, pair{h, k})
			}
		case what == 4:
			now += int64(next(5)) * second / 2
		case what == 5:
			p := &open[next(len(open))]
			p.h = g.LoggedIn(p.h, now)
			p.k.logIn(now)
		default:
			at := next(len(open))
			g.Release(open[at].h)
			open[at].k.release()
			open[at] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
	for _, p := range open {
		g.Release(p.h)
	}
	if c := g.Counts(); c != (Counts{}) {
		tb.Fatalf("%+v is left when all links are gone", c)
	}
}

// fataler is what a testing.TB and a rapid.T have in common.
type fataler interface {
	Fatalf(format string, args ...any)
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		replay(t, rapid.IntRange(1, 300).Draw(t, "steps"), func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") })
	})
}

// FuzzGate is the model with the fuzzer's choices.
func FuzzGate(f *testing.F) {
	f.Add([]byte{1, 3, 2, 1, 1, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 6, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		at := 0
		replay(t, len(p), func(n int) int {
			if at >= len(p) {
				return 0
			}
			at++
			return int(p[at-1]) % n
		})
	})
}
