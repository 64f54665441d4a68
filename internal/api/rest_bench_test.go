package api

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const benchUsers = 100_000

func benchUser(i int) string { return fmt.Sprintf("user_%011d", i) }

// benchBodies returns bodies that ask for n users each, with detail.
func benchBodies(n int) [][]byte {
	var bodies [][]byte
	for i := range 64 {
		ids := make([]string, n)
		for j := range ids {
			ids[j] = `"` + benchUser((i*7919+j*104_729)%benchUsers) + `"`
		}
		bodies = append(bodies, []byte(`{"To_Account":[`+strings.Join(ids, ",")+`],"IsNeedDetail":1}`))
	}
	return bodies
}

// BenchmarkQuery runs query_online_status through the whole handler, without a
// socket, with the checks of a real call: parameters, remembered UserSig,
// cut-off, body. "static" is the handler of an answer of equal size that was
// made before. Users are all Online on one device.
func BenchmarkQuery(b *testing.B) {
	s, params := restHandler(b)
	logInAll(b, s.dir, benchUsers)
	for _, n := range []int{1, 100, 500} {
		bodies := benchBodies(n)
		sample := append([]byte(nil), serveREST(s, "/v4/"+queryCommand+"?"+params, bodies[0]).Response.Body()...)
		if strings.Count(string(sample), `"Detail":[{`) != n {
			b.Fatalf("%s", sample)
		}
		static := func(ctx *fasthttp.RequestCtx) {
			setCORS(ctx)
			ctx.SetContentType("application/json")
			ctx.SetBody(sample)
		}
		b.Run(fmt.Sprintf("ids=%d/query", n), func(b *testing.B) { benchHandler(b, s.serveAPI, params, bodies, n) })
		b.Run(fmt.Sprintf("ids=%d/static", n), func(b *testing.B) { benchHandler(b, static, params, bodies, n) })
	}
}

// logInAll logs users in, each on one device.
func logInAll(b *testing.B, d directory.Directory, users int) {
	for i := range users {
		done := make(chan int, 1)
		links++
		d.Login(&directory.LoginOp{
			Key: presence.Key{App: testApp, UserID: benchUser(i)},
			Login: presence.Login{
				Device: presence.Device{Platform: presence.Platform(1 + i%presence.NumPlatforms), ID: "0b1b6f3e-9c07-4d6e-8a77-1f0c9d6f2a55"},
				Cred:   presence.Credential{SigTimeS: testStart.Unix()},
				Link:   presence.Link{Node: 1, ID: presence.MakeLinkID(0, links, 1)}, NowMS: testStart.UnixMilli(),
			},
			Done: func(op *directory.LoginOp) { done <- op.Code },
		})
		if code := <-done; code != 0 {
			b.Fatal(code)
		}
	}
}

func benchHandler(b *testing.B, h fasthttp.RequestHandler, params string, bodies [][]byte, n int) {
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, nil)
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/v4/" + queryCommand + "?" + params)
	b.ReportAllocs()
	i := 0
	begin := cpuTime(b)
	for b.Loop() {
		ctx.Request.SetRequestURI("/v4/" + queryCommand + "?" + params) // parsed anew, as of a new request
		ctx.Request.SetBodyRaw(bodies[i&63])
		ctx.Response.Header.Reset() // the buffer of the body stays with a connection
		h(&ctx)
		i++
	}
	cpu := float64(cpuTime(b)-begin) / float64(b.N)
	b.ReportMetric(cpu, "cpu-ns/op")
	b.ReportMetric(cpu/float64(n), "cpu-ns/id")
}

// cpuTime returns the process's CPU time in nanoseconds: on a machine that is
// shared with others the wall clock says little.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
