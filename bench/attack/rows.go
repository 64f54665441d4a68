package attack

import "time"

// row is one attack with what it may cost.
type row struct {
	name string
	what string // what the attacker does, for people
	unit string // of the size
	// needs is a listener that not every server has; "" = one that all have.
	needs string
	// Sizes: of the suite, and of the tests, where it shall be quick.
	full, small int
	// flags of the server beside the suite's own, where a bound's default would take longer than a short run.
	flags      []string
	shortFlags []string // with small sizes
	attack     func(*Assault)
	// ceiling is how much the server's resident memory may grow beyond what it had
	// before, in MiB: what the bounds of the listeners under attack allow.
	ceiling int
	// shows are counters of the server, by the beginning of their name and labels, of
	// which each must have grown by at least so much; "or" joins some that count together.
	shows map[string]float64
}

func findRow(name string) *row {
	for i := range rows {
		if rows[i].name == name {
			return &rows[i]
		}
	}
	return nil
}

// Times that attackers keep. A byte a second is what makes a slow client hard to
// tell from a bad network.
const slowly = time.Second

// again is how long slow attackers wait, on average, until they replace a socket
// that was closed, and within which they all come at first: 2,000 a second if
// there are 10,000. Who comes faster is a flood, and a row of its own.
const again = 5 * time.Second

var quickLogin = []string{"--first-frame-timeout", "1s"}

// rows are in the order of the table.
var rows = []row{
	{
		name: "slow-logins", what: "sockets that trickle a login, a byte a second", unit: "sockets", full: 10_000, small: 100,
		shortFlags: quickLogin, attack: slowLogins, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="first_frame_timeout"} or rollcall_closes_total{reason="crowded_out"}`: 50},
	},
	{
		name: "half-open", what: "sockets that never send a byte", unit: "sockets", full: 10_000, small: 100,
		shortFlags: quickLogin, attack: halfOpen, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="first_frame_timeout"} or rollcall_closes_total{reason="crowded_out"}`: 50},
	},
	{
		name: "never-reading", what: "logged-in links that heartbeat and never read the answers", unit: "links", full: 200, small: 4,
		attack: neverReading, ceiling: 96,
		shows: map[string]float64{`rollcall_closes_total{reason="slow_reader"} or rollcall_closes_total{reason="protocol_error"}`: 1},
	},
	{
		name: "crowding", what: "logins that stop in the middle, from one address, to take all places", unit: "sockets", full: 4000, small: 300,
		shortFlags: []string{"--max-links", "2000", "--max-unauthenticated", "10", "--max-unauthenticated-per-ip", "5"}, attack: crowding, ceiling: 64,
		shows: map[string]float64{`rollcall_refused_total{reason="ip_unauthenticated"}`: 50},
	},
	{
		name: "flood-one", what: "connections that are closed at once, from one address", unit: "workers", full: 16, small: 2,
		shortFlags: []string{"--accept-rate-per-ip", "10"}, attack: func(a *Assault) { floodOf(a, 1, false) }, ceiling: 64,
		shows: map[string]float64{`rollcall_refused_total{reason="ip_rate"}`: 20},
	},
	{
		name: "flood-many", what: "the same from 1,000 addresses", unit: "workers", full: 16, small: 2,
		attack: func(a *Assault) { floodOf(a, addresses, false) }, ceiling: 64,
		shows: map[string]float64{`rollcall_accepts_total`: 20},
	},
	{
		name: "rst", what: "connections that end by RST, from 1,000 addresses", unit: "workers", full: 16, small: 2,
		attack: func(a *Assault) { floodOf(a, addresses, true) }, ceiling: 64,
		shows: map[string]float64{`rollcall_accepts_total`: 20},
	},
	{
		name: "zlib-bombs", what: "logins whose UserSigs inflate 10 to 1,000 times", unit: "workers", full: 16, small: 2,
		attack: zlibBombs, ceiling: 64,
		shows: map[string]float64{`rollcall_logins_total{code="70003"}`: 20},
	},
	{
		name: "bad-usersigs", what: "logins with UserSigs of a wrong key, from 1,000 addresses", unit: "workers", full: 16, small: 2,
		attack: badUserSigs, ceiling: 64,
		shows: map[string]float64{`rollcall_logins_total{code="70009"}`: 20},
	},
	{
		name: "one-victim", what: "logins of one user with UserSigs of a wrong key, from one address", unit: "workers", full: 16, small: 2,
		attack: oneVictim, ceiling: 64,
		shows: map[string]float64{`rollcall_logins_total{code="70009"}`: 5, `rollcall_logins_barred_total`: 20},
	},
	{
		name: "garbage", what: "frames with invalid UTF-8, NULs, lengths that lie, random bytes", unit: "workers", full: 16, small: 2,
		attack: garbage, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="protocol_error"}`: 20},
	},
	{
		name: "wrong-protocol", what: "HTTP, TLS, MQTT, WebSocket and native bytes, each on the ports of the others", unit: "workers", full: 16, small: 2,
		shortFlags: quickLogin, attack: wrongProtocol, ceiling: 64,
		shows: map[string]float64{`rollcall_http_bad_requests_total`: 4, `rollcall_closes_total`: 4},
	},
	{
		name: "login-logout", what: "a good user who logs in and out as fast as it goes", unit: "links", full: 16, small: 2,
		attack: loginLogout, ceiling: 96,
		shows: map[string]float64{`rollcall_closes_total{reason="logout"}`: 20},
	},
	{
		name: "heartbeats", what: "links that heartbeat without pause", unit: "links", full: 8, small: 2,
		attack: heartbeats, ceiling: 64,
		shows: map[string]float64{`rollcall_heartbeats_total`: 1000},
	},
	{
		name: "ws-handshakes", what: "sockets that trickle a WebSocket handshake, a byte a second", unit: "sockets", full: 4000, small: 100,
		shortFlags: quickLogin, attack: wsSlowHandshakes, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="first_frame_timeout"} or rollcall_closes_total{reason="crowded_out"}`: 50},
	},
	{
		name: "ws-garbage", what: "WebSocket frames without mask, with reserved bits, lengths that lie, endless pieces, no UTF-8, JSON 4,000 deep", unit: "workers", full: 16, small: 2,
		attack: wsGarbage, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="protocol_error"}`: 20},
	},
	{
		name: "ws-pieces", what: "WebSocket messages that stop after 7,000 bytes", unit: "sockets", full: 3000, small: 100,
		shortFlags: []string{"--login-timeout", "1s"}, attack: wsPieces, ceiling: 96,
		shows: map[string]float64{`rollcall_closes_total{reason="login_timeout"} or rollcall_closes_total{reason="slow_sender"}`: 50},
	},
	{
		name: "ws-unread", what: "logged-in WebSocket links that ping and heartbeat and never read", unit: "links", full: 100, small: 4,
		attack: wsPings, ceiling: 96,
		shows: map[string]float64{`rollcall_closes_total{reason="slow_reader"} or rollcall_closes_total{reason="protocol_error"}`: 1},
	},
	{
		name: "mqtt-slow", what: "sockets that trickle an MQTT CONNECT, a byte a second", unit: "sockets", needs: "mqtt", full: 4000, small: 100,
		shortFlags: quickLogin, attack: mqttSlow, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="first_frame_timeout"}`: 50},
	},
	{
		name: "mqtt-garbage", what: "MQTT packets with lengths of five bytes and of 256 MB, reserved types and flags, no UTF-8, deep filters", unit: "workers", needs: "mqtt", full: 16, small: 2,
		attack: mqttGarbage, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="protocol_error"} or rollcall_closes_total{reason="login_refused"}`: 20},
	},
	{
		name: "mqtt-unread", what: "logged-in MQTT links that ping and never read", unit: "links", needs: "mqtt", full: 100, small: 4,
		attack: mqttUnread, ceiling: 96,
		shows: map[string]float64{`rollcall_closes_total{reason="slow_reader"} or rollcall_closes_total{reason="protocol_error"}`: 1},
	},
	{
		name: "tls-slow", what: "sockets that trickle a ClientHello, a byte a second", unit: "sockets", needs: "native-tls", full: 4000, small: 100,
		shortFlags: quickLogin, attack: tlsSlowHellos, ceiling: 64,
		shows: map[string]float64{`rollcall_closes_total{reason="first_frame_timeout"}`: 50},
	},
	{
		name: "tls-hellos", what: "ClientHellos whose answers nobody goes on with", unit: "workers", needs: "native-tls", full: 64, small: 6,
		attack: tlsHellos, ceiling: 160,
		shows: map[string]float64{`rollcall_tls_failures_total`: 10},
	},
	{
		name: "tls-garbage", what: "records that are too long, half hellos, frames in the clear before and after a handshake", unit: "workers", needs: "native-tls", full: 16, small: 4,
		attack: tlsGarbage, ceiling: 128,
		shows: map[string]float64{`rollcall_tls_failures_total{reason="not_tls"}`: 10},
	},
	{
		name: "slow-requests", what: "HTTP requests that trickle, on API and admin", unit: "sockets", full: 2000, small: 40,
		flags: []string{"--api-conns-per-ip", "16"}, attack: slowRequests, ceiling: 96,
		shows: map[string]float64{},
	},
	{
		name: "big-bodies", what: "bodies of 10 MiB, with a length and in chunks", unit: "workers", full: 32, small: 2,
		attack: bigBodies, ceiling: 128,
		shows: map[string]float64{`rollcall_http_bad_requests_total`: 2},
	},
	{
		name: "deep-json", what: "an administrator's bodies, nested 100 to 60,000 deep", unit: "workers", full: 16, small: 2,
		flags: []string{"--rate-calls", "0"}, attack: deepJSON, ceiling: 96,
		shows: map[string]float64{`rollcall_rest_calls_total{code="90001",command="querystate"}`: 4},
	},
	{
		name: "big-queries", what: "an administrator's queries of 501 users, and of 500", unit: "workers", full: 8, small: 2,
		flags: []string{"--rate-calls", "0"}, attack: bigQueries, ceiling: 96,
		shows: map[string]float64{`rollcall_rest_calls_total{code="90011",command="querystate"}`: 4},
	},
	{
		name: "smuggling", what: "requests that servers read differently, and 500 in one piece", unit: "workers", full: 16, small: 2,
		attack: smuggling, ceiling: 96,
		shows: map[string]float64{`rollcall_http_bad_requests_total`: 4},
	},
	{
		name: "unread-answers", what: "pipelined requests whose answers are read a byte a second", unit: "sockets", full: 500, small: 8,
		flags: []string{"--api-conns-per-ip", "16"}, attack: unreadAnswers, ceiling: 160,
		shows: map[string]float64{},
	},
	{
		name: "rest-bad-usersigs", what: "REST calls with bad UserSigs and bombs, from one address and 1,000", unit: "workers", full: 16, small: 2,
		attack: restBadSigs, ceiling: 96,
		shows: map[string]float64{
			`rollcall_rest_calls_total{code="70050",command="querystate"}`: 4, `rollcall_rest_calls_total{code="70003",command="querystate"}`: 4,
		},
	},
	{
		name: "tokens", what: "guesses of the admin token, from one address and 1,000, and calls without one", unit: "workers", full: 16, small: 2,
		attack: tokens, ceiling: 96,
		shows: map[string]float64{
			`rollcall_console_auth_failures_total{reason="wrong"}`: 4, `rollcall_console_auth_failures_total{reason="missing"}`: 4,
			`rollcall_console_auth_failures_total{reason="limited"}`: 4,
		},
	},
}
