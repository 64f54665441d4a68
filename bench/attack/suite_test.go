package attack

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/bench"
)

func TestMain(m *testing.M) {
	// fasthttp's own cleaner of idle connections sleeps out its last turn after
	// the last connection is gone.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// TestRows plays every row in a small size against the real server: honest users
// get every answer right, memory stays below the row's ceiling and goes back,
// nothing panics, and the counters tell of the attack. How long anything takes
// is not judged.
func TestRows(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts servers")
	}
	server := filepath.Join(t.TempDir(), "rollcall")
	if out, err := exec.Command("go", "build", "-o", server, "github.com/rollcall-im/rollcall/cmd/rollcall").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Run("all", func(t *testing.T) {
		r, err := Run(t.Context(), Options{Server: server, Small: true, Lanes: 4, Rate: 50, Settle: 2 * time.Minute})
		names, err2 := Offered(server)
		if err != nil || err2 != nil || !r.OK || len(r.Hostile) != len(names) || len(names) < 25 {
			t.Fatalf("%v, %v\n%s", err, err2, r.Summary())
		}
		for i := range r.Hostile {
			h := &r.Hostile[i]
			if h.Name != names[i] || len(h.Did) == 0 || h.NormalP99 == 0 || h.AttackP99 == 0 || h.MemoryPeak == 0 || h.GoroutinesAfter == 0 || len(h.Counters) == 0 {
				t.Errorf("the row lacks figures: %+v", h)
			}
		}
	})
	// What is not as it should be must be found, or the rows prove nothing.
	t.Run("noticed", func(t *testing.T) {
		r := *findRow("tokens")
		r.name, r.ceiling, r.shows = "impossible", -1000, map[string]float64{"rollcall_no_such_total": 1}
		o := Options{Server: server, Small: true, Rate: 50, MaxRatio: 1e-6}
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
		defer func() { rows = rows[:len(rows)-1] }()
		got := strings.Join(runRow(t.Context(), &o, &r).Wrong, "\n")
		for _, want := range []string{"login p99 was", "memory grew", "rollcall_no_such_total grew by 0, want at least 1"} {
			if !strings.Contains(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
		}
	})
	t.Run("no server", func(t *testing.T) {
		r, err := Run(t.Context(), Options{Server: "/bin/false", Names: []string{"tokens"}, Small: true})
		if err != nil || r.OK || r.Errors[bench.FaultHostile] != 1 {
			t.Errorf("%v, %+v", err, r)
		}
	})
}

func TestOptionsRefused(t *testing.T) {
	for _, o := range []Options{{}, {Server: "x", Names: []string{"nothing"}}, {Server: "x", Rate: -1}, {Server: "x", During: -1}} {
		if _, err := Run(context.Background(), o); !errors.Is(err, bench.ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := New("nothing", Target{}, 0); err == nil || !strings.Contains(err.Error(), "slow-logins") {
		t.Errorf("an unknown row: %v", err)
	}
}

// TestBombs: the bombs inflate as they should and fit into a frame before login.
func TestBombs(t *testing.T) {
	all := bombs()
	if len(all) < 3 {
		t.Fatalf("%d bombs", len(all))
	}
	for _, b := range all {
		if len(b) > 7<<10 || len(b) < 500 {
			t.Errorf("a bomb of %d bytes", len(b))
		}
	}
}

func TestTable(t *testing.T) {
	r := &bench.Result{Started: time.UnixMilli(0), Hostile: []bench.HostileRow{
		{Name: "good", What: "nothing", Size: 2, Unit: "sockets", NormalP50: 300, NormalP99: 1000, AttackP50: 400, AttackP99: 1500, MemoryPeak: 30e6, Did: map[string]int64{"calls": 3}, Counters: map[string]float64{"rollcall_accepts_total": 7}},
		{Name: "bad", Wrong: []string{"it broke"}},
	}}
	var b bytes.Buffer
	if err := WriteTable(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| good | 2 sockets: nothing | 0.3 ms / 1.0 ms | 0.4 ms / 1.5 ms | 1.5 |", "3 calls | nobody noticed |", "**it broke**", "| good | `accepts_total` 7 |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}
