package enginetest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestScripts runs testdata/script/*.txt, each on a node of its own. A block is commands,
// ----, and what could be seen from outside, in order:
//
//	[2 alice d1] <- LoginOK #1 ...   the client of connection 2 got a frame, or a FIN
//	event 3: Login(Register) ...     what a webhook is told
//
// `go test ./engine/enginetest -rewrite` writes what is seen anew; review the diff.
//
//	connect                         opens a connection; its number is told
//	login alice Android d1          opens a connection and logs in, active, with a fresh UserSig. Options:
//	    resume                      the client reconnects by itself, with the ticket of its last login
//	    ticket=none|bad|last|3      with another ticket: none, a broken one, the last, that of its third login
//	    ticket-of=bob/d2            with another device's
//	    nosig, badsig               no UserSig, or one with a wrong signature
//	    sig-age=5s, sig-lasts=60s   when it was issued, for how long
//	    on=3                        on a connection that is there
//	    beats                       the client sends heartbeats as it is told
//	    stubborn                    the client does not close when the server sends FIN
//	    model=X                     device model
//	logout|heartbeat|fin|rst alice d1   on the device's last connection; @3 names another by number
//	send @3 02 10 00 00             bytes in hex
//	late @3 02 10 00 00             bytes that are there, but read after the timers of the next step
//	still alice d1                  no heartbeats any more: the network is gone
//	query alice bob                 query_online_status in detail
//	kick alice, kick-inst alice 3, import alice, delete alice
//	policy dual Web=2, enforce policy single, dry-run single
//	app mac-push, app expiry-event, app close-on-sig-end, app retention=1h, app ticket-ttl=1h, app retire-keys
//	hold, release, fail             commits wait in the journal; become durable; are lost
//	advance 401s
//	drain                           the node stops
//
// After each block that leaves no commit held back or failed, engine and directory
// are checked, and that they agree on who is Online.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		n, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := &script{t: t, node: n, devices: map[string]*Device{}, links: map[string]*Link{}, tickets: map[string][][]byte{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.pos = t, d.Pos
			words := []string{d.Cmd}
			for _, a := range d.CmdArgs {
				words = append(words, a.String())
			}
			s.run(words)
			for line := range strings.Lines(d.Input) {
				s.run(strings.Fields(line))
			}
			if !n.Journal.holding && !s.failed {
				if err := n.Check(); err != nil {
					t.Errorf("%s: %v", d.Pos, err)
				}
			}
			return n.Told()
		})
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

type script struct {
	t       *testing.T
	pos     string
	node    *Node
	devices map[string]*Device  // by "user device"
	links   map[string]*Link    // by "@number"
	failed  bool                // a commit failed, and no time has passed since
	tickets map[string][][]byte // of a device, as it stood after each login it sent
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf(s.pos+": "+format, args...)
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.fatalf("%v", err)
	}
}

func (s *script) say(format string, args ...any) { s.node.log.say(format, args...) }

// commands are what a script can say; on a link, about presence, about the node.
var commands = map[string]func(s *script, args []string){
	"connect":   func(s *script, _ []string) { s.say("connection %d", s.connect().Number()) },
	"login":     (*script).login,
	"logout":    func(s *script, a []string) { s.link(a).Send(codec.AppendEmpty(nil, codec.TypeLogout)) },
	"heartbeat": func(s *script, a []string) { s.link(a).Send(codec.AppendEmpty(nil, codec.TypeHeartbeat)) },
	"fin":       func(s *script, a []string) { s.link(a).Lose(FIN) },
	"rst":       func(s *script, a []string) { s.link(a).Lose(RST) },
	"still":     func(s *script, a []string) { s.link(a).Beats = false },
	"send":      func(s *script, a []string) { s.link(a).Send(s.hex(a[1:])) },
	"late":      func(s *script, a []string) { s.link(a).SendLate(s.hex(a[1:])) },

	"query":     (*script).query,
	"kick":      func(s *script, a []string) { s.kick(a[0], 0) },
	"kick-inst": func(s *script, a []string) { s.kick(a[0], s.number(a[1])) },
	"import":    func(s *script, a []string) { s.accounts(directory.AccountsImport, a) },
	"delete":    func(s *script, a []string) { s.accounts(directory.AccountsDelete, a) },
	"policy":    func(s *script, a []string) { s.policy(a, false) },
	"enforce":   func(s *script, a []string) { s.policy(a[1:], true) },
	"dry-run":   (*script).dryRun,
	"app":       (*script).app,

	"hold":    func(s *script, _ []string) { s.node.Journal.Hold() },
	"release": func(s *script, _ []string) { s.node.Release(nil) },
	"fail":    (*script).fail,
	"advance": (*script).advance,
	"drain":   func(s *script, _ []string) { s.node.Drain() },
}

func (s *script) run(words []string) {
	c, ok := commands[words[0]]
	if !ok {
		s.fatalf("no command %q", words[0])
	}
	c(s, words[1:])
}

func (s *script) fail([]string) {
	s.node.Release(errors.New("disk full"))
	s.failed = true
}

func (s *script) advance(args []string) {
	s.node.Advance(s.duration(args[0]))
	s.failed = false
}

func (s *script) duration(v string) time.Duration {
	d, err := time.ParseDuration(v)
	s.must(err)
	return d
}

func (s *script) number(v string) uint32 {
	n, err := strconv.ParseUint(v, 10, 32)
	s.must(err)
	return uint32(n)
}

// link is named @number, or by user and device.
func (s *script) link(args []string) *Link {
	if strings.HasPrefix(args[0], "@") {
		if l := s.links[args[0]]; l != nil {
			return l
		}
		s.fatalf("no connection %s", args[0])
	}
	d := s.devices[args[0]+" "+args[1]]
	if d == nil {
		s.fatalf("%s never logged in", args)
	}
	return d.Link
}

func (s *script) connect() *Link {
	l := s.node.Connect()
	if l == nil {
		s.fatalf("no room for a connection")
	}
	s.links[fmt.Sprintf("@%d", l.Number())] = l
	return l
}

func (s *script) login(args []string) {
	name := args[0] + " " + args[2]
	d := s.devices[name]
	if d == nil {
		p, ok := presence.ParsePlatform(args[1])
		if !ok {
			s.fatalf("no platform %q", args[1])
		}
		d = &Device{UserID: args[0], Platform: p, ID: args[2]}
		s.devices[name] = d
	}
	if d.Platform.String() != args[1] {
		s.fatalf("%s is a %s", name, d.Platform)
	}
	var l *Link
	var c Credentials
	var stubborn, beats bool
	for _, a := range args[3:] {
		option, value, _ := strings.Cut(a, "=")
		switch option {
		case "resume":
			c.Resume, c.Ticket = true, d.Ticket
		case "ticket":
			c.Ticket = s.ticket(d, value)
		case "ticket-of":
			c.Ticket = s.devices[strings.Replace(value, "/", " ", 1)].Ticket
		case "nosig":
			c.NoSig = true
		case "badsig":
			c.Secret = strings.Repeat("0", len(Secret))
		case "sig-age":
			c.SigAge = s.duration(value)
		case "sig-lasts":
			c.SigLasts = s.duration(value)
		case "on":
			l = s.link([]string{"@" + value})
		case "beats":
			beats = true
		case "stubborn":
			stubborn = true
		case "model":
			d.Model = value
		default:
			s.fatalf("no option %q", a)
		}
	}
	if l == nil {
		l = s.connect()
	}
	l.Stubborn, l.Beats = stubborn, beats
	s.must(l.Login(d, c))
	s.tickets[name] = append(s.tickets[name], d.Ticket)
}

// ticket is the device's last, broken: bad; the one that it held after its n-th
// login: n; none: none.
func (s *script) ticket(d *Device, which string) []byte {
	switch which {
	case "none":
		return nil
	case "bad":
		broken := bytes.Clone(d.Ticket)
		broken[len(broken)/2] ^= 1
		return broken
	case "last":
		return d.Ticket
	}
	return s.tickets[d.UserID+" "+d.ID][s.number(which)-1]
}

func (s *script) hex(words []string) []byte {
	p, err := hex.DecodeString(strings.Join(words, ""))
	s.must(err)
	return p
}

func (s *script) query(users []string) {
	op := &directory.QueryOp{App: SDKAppID, UserIDs: users, Detail: true, Done: func(*directory.QueryOp) {}}
	s.node.Directory.Query(op)
	if op.Code != 0 {
		s.fatalf("query answers %d", op.Code)
	}
	for i, u := range op.Users {
		if u.Code != 0 {
			s.say("%s: %d", users[i], u.Code)
			continue
		}
		line := fmt.Sprintf("%s: %s", users[i], u.Status)
		for _, in := range u.Instances {
			line += fmt.Sprintf(", #%d %s %s", in.InstID, in.Platform.QueryName(), in.Status)
		}
		s.say("%s", line)
	}
}

func (s *script) kick(user string, instID uint32) {
	op := &directory.KickOp{
		Key: presence.Key{App: SDKAppID, UserID: user}, InstID: instID, NowMS: s.node.nowMS(),
		Done: func(op *directory.KickOp) {
			if op.Code != 0 {
				s.say("kick answers %d", op.Code)
				return
			}
			s.say("kicked %d", len(op.Kicked))
		},
	}
	s.node.Directory.Kick(op)
	s.node.settle()
}

func (s *script) accounts(action directory.AccountsAction, users []string) {
	s.node.Directory.Accounts(&directory.AccountsOp{
		App: SDKAppID, Action: action, UserIDs: users, NowMS: s.node.nowMS(),
		Done: func(op *directory.AccountsOp) { s.say("accounts answer %d %v", op.Code, op.Results) },
	})
	s.node.settle()
}

func (s *script) policy(words []string, enforce bool) {
	kicked, err := s.node.UpdateApp(enforce, func(a *directory.App) { a.Policy = s.parsePolicy(words) })
	s.must(err)
	if enforce {
		s.say("enforced: %d kicked", kicked)
	}
}

// parsePolicy reads a preset and limits, as in "multi Web=2"; groups of custom
// as in "custom Android+Web", all other platforms alone.
func (s *script) parsePolicy(words []string) presence.Policy {
	p, ok := presence.Preset(words[0])
	if !ok {
		p, _ = presence.Preset(presence.PresetMulti)
		p.Preset = words[0]
	}
	for _, w := range words[1:] {
		if name, n, ok := strings.Cut(w, "="); ok {
			p.Limits[s.platform(name)] = uint8(s.number(n))
			continue
		}
		for name := range strings.SplitSeq(w, "+") {
			p.Groups[s.platform(name)] = uint8(100 + s.platform(strings.Split(w, "+")[0]))
		}
	}
	return p
}

func (s *script) platform(name string) presence.Platform {
	p, ok := presence.ParsePlatform(name)
	if !ok {
		s.fatalf("no platform %q", name)
	}
	return p
}

func (s *script) dryRun(words []string) {
	done := make(chan struct{})
	op := &directory.DryRunOp{App: SDKAppID, Policy: s.parsePolicy(words), Done: func(*directory.DryRunOp) { close(done) }}
	s.node.Directory.DryRun(op)
	<-done
	s.say("dry run answers %d: %d instances of %d users", op.Code, op.Instances, op.Users)
}

func (s *script) app(settings []string) {
	_, err := s.node.UpdateApp(false, func(a *directory.App) {
		for _, w := range settings {
			name, value, _ := strings.Cut(w, "=")
			switch name {
			case "mac-push":
				a.MacPushOnline = true
			case "expiry-event":
				a.ExpiryEvent = true
			case "close-on-sig-end":
				a.CloseOnSigEnd = true
			case "retention":
				a.Timeouts.PushRetentionMS = s.duration(value).Milliseconds()
			case "ticket-ttl":
				a.Timeouts.TicketTTLMS = s.duration(value).Milliseconds()
			case "retire-keys":
				a.TicketEpoch++
			default:
				s.fatalf("no setting %q", name)
			}
		}
	})
	s.must(err)
}
