package api

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	socketAsks   = 500_000 // ids in the requests of a case
	socketLasts  = time.Second
	socketClient = 64 // connections
)

// socketCase is a row of the table: requests of one size, and who answers them.
type socketCase struct {
	server string // "rollcall", "static", "redis"
	ids    int
	detail bool

	cpuUS []float64 // server CPU per request, a value per round
	rps   []float64 // requests per second as the client saw them
	ratio []float64 // CPU of the static answer of the same round / cpuUS
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}

var (
	onlyCases = flag.String("only", "", "rows to measure, a regular expression over \"server ids detail\"")
	userCount = flag.Int("users", 1_000_000, "users in the table of BenchmarkQuerySockets")
)

// BenchmarkQuerySockets measures querystate over real sockets: this process is
// the server, on one core's worth of Go threads, wrk the client. Each iteration
// is a round of all cases, one after the other, so that what else the machine
// does hits all alike; the table has the medians, and of ratios the median of
// the ratios of each round. "static" answers the same requests with prepared
// bytes, redis (if installed) MGETs of as many ids from as many users.
// `make bench-query` runs it.
func BenchmarkQuerySockets(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("wrk is not installed")
	}
	if testing.Short() {
		b.Skip("a million users")
	}
	rig := newQuerySockets(b)
	cases := rig.cases()
	only := regexp.MustCompile(*onlyCases)
	var redis *redisRig
	if only.MatchString("redis 500 false") {
		redis = startRedis(b)
	}
	if redis != nil {
		for _, n := range []int{1, 100, 500} {
			cases = append(cases, &socketCase{server: "redis", ids: n})
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cases = slices.DeleteFunc(cases, func(c *socketCase) bool {
		return !only.MatchString(fmt.Sprint(c.server, " ", c.ids, " ", c.detail))
	})
	for b.Loop() {
		static := map[string]float64{}
		for _, c := range cases {
			var cpuUS, rps float64
			if c.server == "redis" {
				cpuUS, rps = redis.round(b, c.ids)
			} else {
				cpuUS, rps = rig.round(b, wrk, c)
			}
			c.cpuUS, c.rps = append(c.cpuUS, cpuUS), append(c.rps, rps)
			key := fmt.Sprint(c.ids, c.detail)
			switch c.server {
			case "static":
				static[key] = cpuUS
			case "rollcall":
				c.ratio = append(c.ratio, static[key]/cpuUS)
			}
		}
	}
	for code, n := range rig.server.rest.calls[commands[queryCommand]].served {
		if code != 0 && n.Get() != 0 {
			b.Errorf("%d answers with code %d", n.Get(), code)
		}
	}
	fmt.Printf("\n%s\n", socketTable(cases)) // b.Log would cut it off
}

// socketTable formats medians, and in brackets the best of all rounds.
func socketTable(cases []*socketCase) string {
	var t strings.Builder
	fmt.Fprintf(&t, "%d users, %d rounds of %v each, 1 Go thread; median (best)\n", *userCount, len(cases[0].cpuUS), socketLasts)
	fmt.Fprintf(&t, "| server | ids | detail | server CPU per request, us | requests/s/core | M ids/s/core | of static | requests/s seen |\n|---|---|---|---|---|---|---|---|\n")
	static := map[string]float64{}
	for _, c := range cases {
		cpu, best, ratio := median(c.cpuUS), slices.Min(c.cpuUS), "-"
		key := fmt.Sprint(c.ids, c.detail)
		switch c.server {
		case "static":
			static[key] = best
		case "rollcall":
			ratio = fmt.Sprintf("%.2f (%.2f)", median(c.ratio), static[key]/best)
		}
		fmt.Fprintf(&t, "| %s | %d | %v | %.1f (%.1f) | %.0f (%.0f) | %.2f (%.2f) | %s | %.0f |\n",
			c.server, c.ids, c.detail, cpu, best, 1e6/cpu, 1e6/best, float64(c.ids)/cpu, float64(c.ids)/best, ratio, median(c.rps))
	}
	return t.String()
}

// querySockets is our server and the static one, on loopback ports.
type querySockets struct {
	server *Server
	dir    string
	params string
	static map[string]string // address by case
}

func newQuerySockets(b *testing.B) *querySockets {
	s, params := restHandler(b)
	logInAll(b, s.dir, *userCount)
	s.opts.ListenAPI = "127.0.0.1:0"
	s.https = []*httpServer{{name: "api", addr: s.opts.ListenAPI, fast: s.newRESTFast()}}
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			b.Error(err)
		}
	})
	return &querySockets{server: s, params: params, dir: b.TempDir(), static: map[string]string{}}
}

// cases returns the rows, each answer of ours behind the static one of its size,
// and starts the static servers.
func (r *querySockets) cases() []*socketCase {
	var out []*socketCase
	for _, n := range []int{1, 100, 500} {
		for _, detail := range []bool{true, false} {
			out = append(out, &socketCase{server: "static", ids: n, detail: detail}, &socketCase{server: "rollcall", ids: n, detail: detail})
		}
	}
	return out
}

// round lets wrk ask for a while and returns what the server paid per request.
func (r *querySockets) round(b *testing.B, wrk string, c *socketCase) (cpuUS, rps float64) {
	script := r.script(b, c)
	addr := r.server.Addr("api")
	if c.server == "static" {
		addr = r.staticAddr(b, c)
	}
	begin := cpuTime(b)
	out, err := exec.Command(wrk, "-t1", fmt.Sprintf("-c%d", socketClient), fmt.Sprintf("-d%ds", int(socketLasts/time.Second)), "-s", script, "http://"+addr).CombinedOutput()
	cpu := cpuTime(b) - begin
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	var n, us, bad uint64
	at := bytes.LastIndex(out, []byte("result "))
	if _, err := fmt.Sscanf(string(out[max(at, 0):]), "result %d %d %d", &n, &us, &bad); err != nil || bad != 0 || n == 0 {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	return float64(cpu) / 1e3 / float64(n), float64(n) / float64(us) * 1e6
}

// script writes a wrk script that posts the bodies of the case one after another.
func (r *querySockets) script(b *testing.B, c *socketCase) string {
	path := filepath.Join(r.dir, fmt.Sprintf("%d-%v.lua", c.ids, c.detail))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	var t bytes.Buffer
	fmt.Fprintf(&t, "local reqs = {}\nlocal at = 0\nfunction init(args)\nfor line in io.lines(%q) do reqs[#reqs+1] = wrk.format('POST', %q, nil, line) end\nend\n",
		path+".bodies", "/v4/"+queryCommand+"?"+r.params)
	t.WriteString("function request() at = at % #reqs + 1; return reqs[at] end\n" +
		"function done(s) print('result '..string.format('%d %d %d', s.requests, s.duration, s.errors.connect+s.errors.read+s.errors.write+s.errors.status+s.errors.timeout)) end\n")
	bodies := bytes.Join(socketBodies(c.ids, c.detail), []byte("\n"))
	if err := os.WriteFile(path+".bodies", append(bodies, '\n'), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, t.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// socketBodies asks for users in a scattered order, none twice before the end.
func socketBodies(n int, detail bool) [][]byte {
	bodies := make([][]byte, min(20_000, socketAsks/n))
	user := 0
	for i := range bodies {
		ids := make([]string, n)
		for j := range ids {
			user = (user + 611_953) % *userCount // a prime
			ids[j] = `"` + benchUser(user) + `"`
		}
		flag := 0
		if detail {
			flag = 1
		}
		bodies[i] = fmt.Appendf(nil, `{"To_Account":[%s],"IsNeedDetail":%d}`, strings.Join(ids, ","), flag)
	}
	return bodies
}

// staticAddr starts a server that answers like ours does to the first body,
// with the same headers, whatever is asked, as cheaply as fasthttp can.
func (r *querySockets) staticAddr(b *testing.B, c *socketCase) string {
	key := fmt.Sprint(c.ids, c.detail)
	if addr := r.static[key]; addr != "" {
		return addr
	}
	target := "http://" + r.server.Addr("api") + "/v4/" + queryCommand + "?" + r.params
	res, err := http.Post(target, "", bytes.NewReader(socketBodies(c.ids, c.detail)[0]))
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	sample, err := io.ReadAll(res.Body)
	if err != nil || strings.Count(string(sample), `"Status":"Online","State":"Online"`) != c.ids || strings.Contains(string(sample), "Detail") != c.detail {
		b.Fatalf("%v: %s", err, sample)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			setCORS(ctx)
			ctx.SetContentType("application/json")
			ctx.Response.SetBodyRaw(sample)
		},
		NoDefaultServerHeader: true, ReadBufferSize: readBufferSize, WriteBufferSize: writeBufferSize,
	}
	go func() { _ = s.Serve(ln) }()
	b.Cleanup(func() { _ = s.Shutdown() })
	r.static[key] = ln.Addr().String()
	return r.static[key]
}
