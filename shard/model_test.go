package shard

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// masks leave some bits of the hash: all; few in all parts of it; few at the
// bottom, so that everything falls into one bucket; none, so that all hashes
// are equal.
var masks = []uint64{^uint64(0), 0xc0c0_0000_0000_0007, 0xf, 0}

// model is the table as a plain map of versions.
type model struct {
	t    *rapid.T
	tab  *Table
	have map[presence.Key]uint64
	v    uint64
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, tab: small(rapid.SampledFrom([]int{1, 2, 8}).Draw(t, "shards")), have: map[presence.Key]uint64{}}
	m.tab.mask = rapid.SampledFrom(masks).Draw(t, "mask")
	return m
}

func (m *model) put(k presence.Key) {
	m.v++
	put(m.tab, k, m.v)
	m.have[k] = m.v
}

func (m *model) delete(k presence.Key) {
	_, had := m.have[k]
	if got := m.tab.Delete(k); got != had {
		m.t.Fatalf("Delete %v: %t, model had it: %t", k, got, had)
	}
	delete(m.have, k)
}

func (m *model) anyKey() presence.Key {
	return presence.Key{
		App:    rapid.Uint32Range(0, 1).Draw(m.t, "app"),
		UserID: fmt.Sprint("u", rapid.IntRange(0, 40).Draw(m.t, "user")),
	}
}

// write does one random write, or many of a kind, so that shards grow and shrink.
func (m *model) write() {
	switch rapid.IntRange(0, 9).Draw(m.t, "write") {
	case 0:
		for i := range rapid.IntRange(1, 100).Draw(m.t, "many") {
			m.put(presence.Key{App: 2, UserID: fmt.Sprint("many", i)})
		}
	case 1:
		for i := range 100 {
			m.delete(presence.Key{App: 2, UserID: fmt.Sprint("many", i)})
		}
	case 2, 3, 4:
		m.delete(m.anyKey())
	default:
		m.put(m.anyKey())
	}
}

func (m *model) get(k presence.Key) {
	if got := get(m.t, m.tab, k); got != m.have[k] {
		m.t.Fatalf("Get %v: version %d, model has %d", k, got, m.have[k])
	}
}

func (m *model) lookup() {
	app := rapid.Uint32Range(0, 2).Draw(m.t, "app")
	var ids []string
	for range rapid.IntRange(0, 80).Draw(m.t, "ids") {
		ids = append(ids, m.anyKey().UserID)
	}
	visits := 0
	m.tab.Lookup(app, ids, func(i int, u *presence.User) {
		var got uint64
		if u != nil {
			got = u.Seq
		}
		if want := m.have[presence.Key{App: app, UserID: ids[i]}]; i != visits || got != want {
			m.t.Fatalf("Lookup %d %q: version %d at visit %d, model has %d", i, ids[i], got, visits, want)
		}
		visits++
	})
	if visits != len(ids) {
		m.t.Fatalf("Lookup of %d made %d visits", len(ids), visits)
	}
}

// scan walks the whole table; write, if not nil, runs between the steps and
// inside the visits. Who stays through the scan must be seen once, nobody twice,
// nobody who was not there during it.
func (m *model) scan(write func()) {
	stayed, there := map[presence.Key]bool{}, map[presence.Key]bool{}
	for k := range m.have {
		stayed[k], there[k] = true, true
	}
	note := func() {
		if write == nil || !rapid.Bool().Draw(m.t, "now") {
			return
		}
		write()
		for k := range stayed {
			if _, ok := m.have[k]; !ok {
				delete(stayed, k)
			}
		}
		for k := range m.have {
			there[k] = true
		}
	}
	seen := map[presence.Key]bool{}
	size := rapid.IntRange(1, 20).Draw(m.t, "max")
	for c, done, steps := (Cursor{}), false, 0; !done; steps++ {
		if steps > 10_000 {
			m.t.Fatal("the scan does not end")
		}
		visits := 0
		c, done = m.tab.Scan(c, size, func(k presence.Key, u *presence.User) {
			if seen[k] || !there[k] {
				m.t.Fatalf("scan saw %v: again %t, ever there %t", k, seen[k], there[k])
			}
			if v, err := wholeVersion(u); err != nil || write == nil && v != m.have[k] {
				m.t.Fatalf("scan saw version %d of %v (%v), model has %d", v, k, err, m.have[k])
			}
			seen[k] = true
			delete(stayed, k)
			visits++
			note()
		})
		if visits > size {
			m.t.Fatalf("%d visits, max was %d", visits, size)
		}
		back, err := ParseCursor(c.String())
		if err != nil || back != c {
			m.t.Fatalf("cursor %+v came back as %+v: %v", c, back, err)
		}
		note()
	}
	if len(stayed) > 0 {
		m.t.Fatalf("the scan skipped %d users who were there all the time: %v", len(stayed), stayed)
	}
}

// TestModel replays random operations against a plain map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"write":              func(*rapid.T) { m.write() },
			"write more":         func(*rapid.T) { m.write() },
			"get":                func(*rapid.T) { m.get(m.anyKey()) },
			"lookup":             func(*rapid.T) { m.lookup() },
			"scan":               func(*rapid.T) { m.scan(nil) },
			"scan through write": func(*rapid.T) { m.scan(m.write) },
			"": func(t *rapid.T) {
				if err := m.tab.Check(); err != nil {
					t.Fatal(err)
				}
				if m.tab.Len() != len(m.have) {
					t.Fatalf("Len is %d, model has %d", m.tab.Len(), len(m.have))
				}
			},
		})
		for k := range m.have {
			m.get(k)
		}
	})
}
