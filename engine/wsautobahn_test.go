package engine

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// The cases of the Autobahn test suite for servers, sections 1 to 7, 9 and 10,
// with RFC 6455's clause beside each. That suite talks to an echo server; here a
// message is a heartbeat, padded to the case's size or holding its text, and the
// echo is its answer. What ends a link is told by a message before the Close frame.
// Sections 12 and 13 are about compression, which is not offered. 7.1.6 (256 KiB
// in flight at the close) cannot come here: 9.1.3 has the limit.

// row is a case: what the client sends behind its login, and what it gets.
type row struct {
	name   string // Autobahn's number, and a letter where one of ours is beside it
	clause string
	in     [][]byte
	want   []string
}

const (
	beatOK = "HeartbeatOK"
	sub    = wsJSONName
)

// beat is a heartbeat of n bytes, n >= 20.
func beat(n int) string {
	const b = `{"Type":"Heartbeat"}`
	return b + strings.Repeat(" ", n-len(b))
}

// beatWith is a heartbeat that holds a text.
func beatWith(text string) string { return `{"Type":"Heartbeat","x":"` + text + `"}` }

// optional is a native frame of n bytes that is skipped.
func optional(n int) string {
	h := codec.AppendHeader(nil, 40, codec.FlagOptional, n-codec.HeaderSize)
	return string(h) + strings.Repeat("\xfe", n-codec.HeaderSize)
}

func oneText(s string) [][]byte { return [][]byte{wsFrame(ws.Text, true, s)} }

// fragments cuts a text into frames at the given places.
func fragments(op ws.Op, s string, at ...int) (all [][]byte) {
	from := 0
	for i, to := range append(at, len(s)) {
		all = append(all, wsFrame(op, i == len(at), s[from:to]))
		from, op = to, ws.Continuation
	}
	return all
}

// every cuts a text into frames of n bytes.
func every(op ws.Op, s string, n int) [][]byte {
	var at []int
	for i := n; i < len(s); i += n {
		at = append(at, i)
	}
	return fragments(op, s, at...)
}

// rawFrame is a frame whose first byte is b.
func rawFrame(b byte, payload string) [][]byte {
	f := wsFrame(ws.Text, true, payload)
	f[0] = b
	return [][]byte{f}
}

func ping(payload string) []byte { return wsFrame(ws.Ping, true, payload) }

func closing(code int, reason string) []byte {
	return wsFrame(ws.Close, true, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

func frames(parts ...[][]byte) [][]byte { return slices.Concat(parts...) }

func one(f []byte) [][]byte { return [][]byte{f} }

func dies(code codec.Code) []string { return ends("ForcedOffline", code) }

func then(first string, rest []string) []string { return append([]string{first}, rest...) }

func framingRows() (rows []row) {
	for i, n := range []int{20, 125, 126, 127, 128, 65535, 65536} { // an empty text is no JSON: 1.1.1a
		rows = append(rows, row{fmt.Sprintf("1.1.%d", i+1), "5.6, 5.2", oneText(beat(n)), []string{beatOK}})
	}
	return append(rows,
		row{"1.1.1a", "5.6", oneText(""), dies(codec.CodeMalformedBody)},
		row{"1.1.8", "5.2", oneText(beat(codec.MaxFrame)), []string{beatOK}}, // the rig cuts every case into pieces
		row{"2.1", "5.5.2", one(ping("")), []string{`pong ""`}},
		row{"2.2", "5.5.2", one(ping("Hello, world!")), []string{`pong "Hello, world!"`}},
		row{"2.3", "5.5.2", one(ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")), []string{`pong "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"`}},
		row{"2.4", "5.5", one(ping(strings.Repeat("\xfe", 125))), []string{fmt.Sprintf("pong %q", strings.Repeat("\xfe", 125))}},
		row{"2.5", "5.5", one(ping(strings.Repeat("\xfe", 126))), dies(codec.CodeMalformedFrame)},
		row{"2.6", "5.5.2", one(ping(strings.Repeat("\xfe", 125))), []string{fmt.Sprintf("pong %q", strings.Repeat("\xfe", 125))}},
		row{"2.7", "5.5.3", frames(one(wsFrame(ws.Pong, true, "")), oneText(beat(20))), []string{beatOK}},
		row{"2.8", "5.5.3", frames(one(wsFrame(ws.Pong, true, "unsolicited")), oneText(beat(20))), []string{beatOK}},
		row{"2.9", "5.5.3", frames(one(wsFrame(ws.Pong, true, "unsolicited")), one(ping("p"))), []string{`pong "p"`}},
		row{"2.10", "5.5.3", frames(one(ping("a")), one(ping("b")), one(ping("c"))), []string{`pong "a"`, `pong "b"`, `pong "c"`}},
		row{"2.11", "5.5.3", frames(one(ping("a")), one(ping("b")), one(ping("c"))), []string{`pong "a"`, `pong "b"`, `pong "c"`}},

		row{"3.1", "5.2", rawFrame(0x91, beat(20)), dies(codec.CodeMalformedFrame)},
		row{"3.2", "5.2", frames(oneText(beat(20)), rawFrame(0xa1, beat(20)), one(ping(""))), then(beatOK, dies(codec.CodeMalformedFrame))},
		row{"3.3", "5.2", frames(oneText(beat(20)), rawFrame(0xb1, beat(20)), one(ping(""))), then(beatOK, dies(codec.CodeMalformedFrame))},
		row{"3.4", "5.2", frames(oneText(beat(20)), rawFrame(0xc1, beat(20)), one(ping(""))), then(beatOK, dies(codec.CodeMalformedFrame))},
		row{"3.5", "5.2", rawFrame(0xd2, "\x00\xff\xfe"), dies(codec.CodeMalformedFrame)},
		row{"3.6", "5.2", rawFrame(0xe9, "ping"), dies(codec.CodeMalformedFrame)},
		row{"3.7", "5.2", rawFrame(0xf8, "\x03\xe8"), dies(codec.CodeMalformedFrame)},
		row{"5.1a", "5.1: no mask", one([]byte{0x81, 2, '{', '}'}), dies(codec.CodeMalformedFrame)},
		row{"5.2a", "5.2: 125 bytes in 16 bits", one([]byte{0x81, 0xfe, 0, 125}), dies(codec.CodeMalformedFrame)},
		row{"5.2b", "5.2: 65535 bytes in 64 bits", one([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}), dies(codec.CodeMalformedFrame)},
		row{"5.2c", "5.2: the highest bit", one([]byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1}), dies(codec.CodeMalformedFrame)},
	)
}

func opcodeRows() (rows []row) {
	for i, op := range []byte{3, 4, 5, 6, 7} {
		rows = append(rows, row{fmt.Sprintf("4.1.%d", i+1), "5.2", frames(oneText(beat(20)), rawFrame(0x80|op, "x"), one(ping(""))), then(beatOK, dies(codec.CodeMalformedFrame))})
	}
	for i, op := range []byte{11, 12, 13, 14, 15} {
		rows = append(rows, row{fmt.Sprintf("4.2.%d", i+1), "5.2", frames(oneText(beat(20)), rawFrame(0x80|op, "x"), one(ping(""))), then(beatOK, dies(codec.CodeMalformedFrame))})
	}
	return rows
}

func fragmentRows() []row {
	orphan := func(fin bool) []byte { return wsFrame(ws.Continuation, fin, "non-continuation payload") }
	two := fragments(ws.Text, beat(24), 7)
	five := every(ws.Text, beat(25), 5)
	fivePings := frames(five[:2], one(ping("1")), five[2:4], one(ping("2")), five[4:])
	return []row{
		{"5.1", "5.5", rawFrame(0x09, "fragment1"), dies(codec.CodeMalformedFrame)},
		{"5.2", "5.5", rawFrame(0x0a, "fragment1"), dies(codec.CodeMalformedFrame)},
		{"5.3", "5.4", two, []string{beatOK}},
		{"5.4", "5.4", two, []string{beatOK}},
		{"5.5", "5.4", two, []string{beatOK}},
		{"5.6", "5.4", frames(two[:1], one(ping("ping")), two[1:]), []string{`pong "ping"`, beatOK}},
		{"5.7", "5.4", frames(two[:1], one(ping("ping")), two[1:]), []string{`pong "ping"`, beatOK}},
		{"5.8", "5.4", frames(two[:1], one(ping("ping")), two[1:]), []string{`pong "ping"`, beatOK}},
		{"5.9", "5.4", frames(one(orphan(true)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.10", "5.4", frames(one(orphan(true)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.11", "5.4", frames(one(orphan(true)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.12", "5.4", frames(one(orphan(false)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.13", "5.4", frames(one(orphan(false)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.14", "5.4", frames(one(orphan(false)), oneText(beat(20))), dies(codec.CodeMalformedFrame)},
		{"5.15", "5.4", frames(two, one(orphan(false)), oneText(beat(20))), then(beatOK, dies(codec.CodeMalformedFrame))},
		{"5.16", "5.4", frames(one(orphan(false)), two), dies(codec.CodeMalformedFrame)},
		{"5.17", "5.4", frames(one(orphan(true)), two), dies(codec.CodeMalformedFrame)},
		{"5.18", "5.4", frames(two[:1], oneText(beat(24)[7:])), dies(codec.CodeMalformedFrame)},
		{"5.19", "5.4", fivePings, []string{`pong "1"`, `pong "2"`, beatOK}},
		{"5.20", "5.4", fivePings, []string{`pong "1"`, `pong "2"`, beatOK}},
	}
}

func textRows() []row {
	greek := beatWith("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5") // κόσμε
	bad := beatWith("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")
	rows := []row{
		{"6.1.1", "5.6", oneText(beatWith("")), []string{beatOK}},
		{"6.1.2", "5.6", fragments(ws.Text, "", 0, 0), dies(codec.CodeMalformedBody)}, // an empty text is no JSON
		{"6.1.3", "5.6", fragments(ws.Text, beat(20), 0, 20), []string{beatOK}},
		{"6.2.1", "5.6", oneText(greek), []string{beatOK}},
		{"6.2.2", "5.6", fragments(ws.Text, greek, 26), []string{beatOK}},
		{"6.2.3", "5.6", every(ws.Text, greek, 1), []string{beatOK}},
		{"6.2.4", "5.6", every(ws.Text, beatWith("\xce\xba"), 1), []string{beatOK}},
		{"6.3.1", "8.1", oneText(bad), dies(codec.CodeMalformedBody)},
		{"6.3.2", "8.1", every(ws.Text, bad, 1), dies(codec.CodeMalformedBody)},
		{"6.4.1", "8.1", [][]byte{wsFrame(ws.Text, false, greek[:35]), wsFrame(ws.Continuation, false, "\xf4\x90\x80\x80")}, dies(codec.CodeMalformedBody)},
		{"6.4.2", "8.1", [][]byte{wsFrame(ws.Text, false, greek[:35]+"\xf4"), wsFrame(ws.Continuation, false, "\x90")}, dies(codec.CodeMalformedBody)},
		{"6.4.3", "8.1", one(wsFrame(ws.Text, true, greek[:35]+"\xf4\x90\x80\x80"+strings.Repeat("x", 500))[:80]), dies(codec.CodeMalformedBody)},
		{"6.4.4", "8.1", one(wsFrame(ws.Text, true, greek[:35]+"\xf4\x90"+strings.Repeat("x", 500))[:46]), dies(codec.CodeMalformedBody)},
	}
	for i, s := range []string{ // 6.5 and 6.7 to 6.11, 6.22: valid
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf3\xbf\xbf\xbf",
	} {
		rows = append(rows, row{fmt.Sprintf("6.5 to 6.22, valid %d", i+1), "8.1", oneText(beatWith(s)), []string{beatOK}})
	}
	for i, s := range []string{ // 6.6, 6.12 to 6.21: cut short, alone, overlong, surrogates, too high
		"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf",
		"\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf", "\xc0 \xc1 ", "\xe0 \xe1 ", "\xf0 \xf1 ", "\xf8 ", "\xfc ", "\xc0", "\xe0\x80", "\xf0\x80\x80", "\xfe", "\xff", "\xfe\xfe\xff\xff",
		"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xc0\x80", "\xe0\x80\x80",
		"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
	} {
		rows = append(rows, row{fmt.Sprintf("6.6 to 6.21, invalid %d", i+1), "8.1", oneText(beatWith(s)), dies(codec.CodeMalformedBody)})
	}
	return rows
}

func closeRows() []row {
	two := fragments(ws.Text, beat(24), 7)
	rows := []row{
		{"7.1.1", "5.5.1", frames(oneText(beat(20)), one(closing(1000, ""))), []string{beatOK, "close 1000"}},
		{"7.1.2", "5.5.1", frames(one(closing(1000, "")), one(closing(1000, ""))), []string{"close 1000"}},
		{"7.1.3", "5.5.1", frames(one(closing(1000, "")), one(ping(""))), []string{"close 1000"}},
		{"7.1.4", "5.5.1", frames(one(closing(1000, "")), oneText(beat(20))), []string{"close 1000"}},
		{"7.1.5", "5.4", frames(two[:1], one(closing(1000, "")), two[1:]), []string{"close 1000"}},
		{"7.3.1", "5.5.1", one(wsFrame(ws.Close, true, "")), []string{"close 1005"}}, // 1005: a Close frame without a code
		{"7.3.2", "5.5.1", one(wsFrame(ws.Close, true, "a")), dies(codec.CodeMalformedFrame)},
		{"7.3.3", "5.5.1", one(closing(1000, "")), []string{"close 1000"}},
		{"7.3.4", "5.5.1", one(closing(1000, "Hello World!")), []string{"close 1000"}},
		{"7.3.5", "5.5", one(closing(1000, strings.Repeat("*", 123))), []string{"close 1000"}},
		{"7.3.6", "5.5", one(closing(1000, strings.Repeat("*", 124))), dies(codec.CodeMalformedFrame)},
		{"7.5.1", "5.5.1, 8.1", one(closing(1000, "\xce\xba\xed\xa0\x80")), dies(codec.CodeMalformedBody)},
	}
	for i, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		rows = append(rows, row{fmt.Sprintf("7.7.%d", i+1), "7.4", one(closing(code, "")), []string{fmt.Sprintf("close %d", code)}})
	}
	for i, code := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		rows = append(rows, row{fmt.Sprintf("7.9.%d", i+1), "7.4", one(closing(code, "")), dies(codec.CodeMalformedFrame)})
	}
	return append(rows,
		row{"7.13.1", "7.4", one(closing(5000, "")), dies(codec.CodeMalformedFrame)},
		row{"7.13.2", "7.4", one(closing(65535, "")), dies(codec.CodeMalformedFrame)},
	)
}

func limitRows() []row {
	const most = codec.MaxFrame
	return []row{
		{"9.1.1", "10.4", oneText(beat(65536)), []string{beatOK}},
		{"9.1.2", "10.4", oneText(beat(most)), []string{beatOK}},
		{"9.1.3", "10.4", oneText(beat(most + 1)), dies(codec.CodeFrameTooLarge)},
		{"9.1.4", "10.4", one([]byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), dies(codec.CodeFrameTooLarge)},
		{"9.3.1", "5.4, 10.4", every(ws.Text, beat(most), 64), []string{beatOK}},
		{"9.3.2", "5.4, 10.4", every(ws.Text, beat(most), 4096), []string{beatOK}},
		{"9.3.3", "5.4, 10.4", every(ws.Text, beat(most+1), 4096), dies(codec.CodeFrameTooLarge)},
		{"9.3.4", "5.4, 10.4", frames(fragments(ws.Text, beat(most), most-1)[:1], one(wsFrame(ws.Continuation, false, "  "))), dies(codec.CodeFrameTooLarge)},
		{"10.1.1", "5.4", every(ws.Text, beat(65536), 1300), []string{beatOK}},
	}
}

// Each case gives the same, however the network cuts it.
func TestAutobahn(t *testing.T) {
	for _, rows := range [][]row{framingRows(), opcodeRows(), fragmentRows(), textRows(), closeRows(), limitRows()} {
		for _, c := range rows {
			runRow(t, c, sub, true)
		}
	}
}

// The binary halves of sections 1 and 9, and of 5: a frame that is skipped, then a
// heartbeat, which shows that the link lives.
func TestAutobahnBinary(t *testing.T) {
	beat := string(heartbeat)
	rows := []row{
		{"1.2.1", "5.6", one(wsFrame(ws.Binary, true, "")), dies(codec.CodeMalformedFrame)}, // an empty message holds no frame
		{"5.3", "5.4", fragments(ws.Binary, beat, 2), []string{beatOK}},
		{"5.6", "5.4", frames(fragments(ws.Binary, beat, 2)[:1], one(ping("p")), fragments(ws.Binary, beat, 2)[1:]), []string{`pong "p"`, beatOK}},
		{"9.2.3", "10.4", one(wsFrame(ws.Binary, true, optional(codec.MaxFrame)+"x")), dies(codec.CodeFrameTooLarge)},
		{"9.4.1", "5.4, 10.4", every(ws.Binary, optional(codec.MaxFrame), 64), nil},
		{"9.4.2", "5.4, 10.4", every(ws.Binary, optional(codec.MaxFrame)+"x", 4096), dies(codec.CodeFrameTooLarge)},
	}
	for i, n := range []int{4, 125, 126, 127, 128, 65535, 65536, codec.MaxFrame} {
		rows = append(rows, row{fmt.Sprintf("1.2.%d", i+1), "5.6, 5.2", frames(one(wsFrame(ws.Binary, true, optional(n))), one(wsFrame(ws.Binary, true, beat))), []string{beatOK}})
	}
	for _, c := range rows {
		runRow(t, c, wsNativeName, true)
	}
}

// Before the login less is taken.
func TestAutobahnBeforeLogin(t *testing.T) {
	const most = codec.MaxFrameBeforeLogin
	for _, c := range []row{
		{"9.1.2a", "10.4", oneText(beat(most)), ends("LoginRefused", codec.CodeNotLoggedIn)},
		{"9.1.3a", "10.4", oneText(beat(most + 1)), ends("LoginRefused", codec.CodeFrameTooLarge)},
		{"9.3.2a", "10.4", every(ws.Text, beat(most), 100), ends("LoginRefused", codec.CodeNotLoggedIn)},
		{"9.3.3a", "10.4", every(ws.Text, beat(most+1), 100), ends("LoginRefused", codec.CodeFrameTooLarge)},
		{"2.2a", "5.5.2", one(ping("early")), []string{`pong "early"`}},
		{"3.1a", "5.2", rawFrame(0x91, "{}"), ends("LoginRefused", codec.CodeMalformedFrame)},
		{"7.1.1a", "5.5.1", one(closing(1000, "")), []string{"close 1000"}},
	} {
		runRow(t, c, sub, false)
	}
}

var autobahnSet = metrics.NewSet() // making one takes most of the time

func runRow(t *testing.T, c row, protocol string, loggedIn bool) {
	t.Helper()
	stream := slices.Concat(c.in...)
	for _, cut := range []int{1, 2, 7, 997, 1300, len(stream)} {
		r := newWSRig(t, func(o *Options) { o.Metrics = autobahnSet })
		k := r.openWS().upgrade(protocol, "")
		if loggedIn {
			k.login("alice")
		}
		for _, p := range pieces(stream, cut) {
			k.send(p...)
			if len(k.in) >= ws.MaxHeader+ws.MaxControl {
				t.Fatalf("%s: %d bytes wait unread", c.name, len(k.in))
			}
		}
		if got := k.answers(); !slices.Equal(got, c.want) {
			t.Errorf("case %s (%s) cut at %d: %.300q, want %.300q", c.name, c.clause, cut, got, c.want)
		}
		ended := len(c.want) > 0 && strings.HasPrefix(c.want[len(c.want)-1], "close")
		if ended != (k.s.State() == "draining") || ended != k.conn.fin {
			t.Errorf("case %s cut at %d: the link is %s", c.name, cut, k.s.State())
		}
		if n := len(r.loop.parts.bySlot); n > 0 {
			t.Errorf("case %s cut at %d: something is still in progress", c.name, cut)
		}
		k.fin()
	}
}
