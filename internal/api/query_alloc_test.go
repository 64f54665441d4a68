//go:build !race

// The race detector makes pools forget at random.

package api

import (
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestQueryAllocations: a query on a connection that has seen one before
// allocates nothing, however many users it asks for, whoever they are.
func TestQueryAllocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	r := newRESTRig(t, func(o *Options, a *directory.App) {
		a.Policy, _ = presence.Preset("multi")
		a.Limits = directory.Limits{CallsPerSecond: 1e9}
	})
	r.server.dir = r.dir.Directory // without the meddler's closures
	var ids []string
	for i := range maxQuery {
		id := fmt.Sprintf("user_%011d", i)
		if ids = append(ids, id); i%10 == 0 {
			continue // unknown
		}
		r.login(id, presence.Android, "d")
		if i%10 == 1 {
			r.login(id, presence.Web, "d")
		}
	}
	target := "/v4/" + queryCommand + "?" + r.params().Encode()
	allocations := func(n int, flags string) float64 {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, nil)
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.SetRequestURI(target)
		ctx.Request.SetBodyRaw([]byte(queryBody(t, ids[maxQuery-n:], flags)))
		got := testing.AllocsPerRun(100, func() { r.server.serveAPI(&ctx) })
		if body := ctx.Response.Body(); len(body) < 50*n {
			t.Errorf("%s", body)
		}
		return got
	}
	for _, flags := range []string{"", `,"IsNeedDetail":1`, `,"IsNeedDetail":1,"IsReturnInstid":1,"IsReturnCustomStatus":1`} {
		for _, n := range []int{1, 100, 500} {
			if got := allocations(n, flags); got != 0 {
				t.Errorf("%d ids with %q: %v allocations", n, flags, got)
			}
		}
	}
	// The general scanner allocates for functions, not for what it reads.
	const unusual = `,"IsNeedDetail":1,"more":[{}]`
	if one, many := allocations(1, unusual), allocations(500, unusual); one != many || one > 10 {
		t.Errorf("an unusual body: %v allocations with 1 id, %v with 500", one, many)
	}
}
