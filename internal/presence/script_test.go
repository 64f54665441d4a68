package presence

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScripts runs testdata/script: what the rules do, one block a step, in the
// order told. `go test ./internal/presence -rewrite` writes the answers anew;
// review them as a diff.
//
//	policy multi Web=2            the app's login policy (notation_test.go)
//	set retention=1h mac-push     settings; retention=0 is none; expiry-event
//	login Android d1              active login; options:
//	    resume                    the client reconnects by itself
//	    sig=-5s                   UserSig issued 5 s before now (default: now)
//	    ticket=4                  by a ticket issued at that sequence number; ticket alone: the device's last
//	logout|fin|silent Android d1  the device's last link; link=2 another one
//	advance 401s                  time passes; PushOnline ends when due
//	kick, delete, kick-inst 3, enforce, status text
//	last-inst-id 7                as if so many had been given
//	show                          all that is kept
//
// Lines above ---- run in order; each effect is told on its own line.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.out.Reset()
			s.run(t, d.Pos, commandLine(d))
			for line := range strings.Lines(d.Input) {
				s.run(t, d.Pos, strings.Fields(line))
			}
			return s.out.String()
		})
	})
}

func commandLine(d *datadriven.TestData) []string {
	words := []string{d.Cmd}
	for _, a := range d.CmdArgs {
		words = append(words, a.String())
	}
	return words
}

// script is one user and what its clients hold.
type script struct {
	key      Key
	settings Settings
	user     User
	nowMS    int64
	nextLink uint32
	links    map[string]LinkID // of each device, the last
	tickets  map[string]uint64 // of each device, the last
	out      strings.Builder
}

const scriptStartS = 1_000_000

func newScript() *script {
	return &script{
		key:      Key{App: 1400000000, UserID: "alice"},
		settings: Settings{PushRetentionMS: 7 * 24 * 3600 * 1000},
		nowMS:    scriptStartS * 1000,
		links:    map[string]LinkID{},
		tickets:  map[string]uint64{},
	}
}

func (s *script) run(t *testing.T, pos string, words []string) {
	cmd, args := words[0], words[1:]
	switch cmd {
	case "policy":
		s.settings.Policy = parsePolicy(strings.Join(args, " "))
		if err := s.settings.Policy.Validate(Ceilings{}); err != nil {
			t.Fatalf("%s: %v", pos, err)
		}
	case "set":
		s.set(t, pos, args)
	case "login":
		s.login(t, pos, args)
	case "logout":
		s.leave(LeaveLogout, args)
	case "fin":
		s.leave(LeaveLinkClosed, args)
	case "silent":
		s.leave(LeaveTimeOut, args)
	case "advance":
		s.nowMS += duration(t, pos, args[0])
		_, ts := s.user.Expire(s.key, &s.settings, s.nowMS, nil)
		s.tell(ts)
	case "kick":
		_, ts := s.user.KickAll(s.key, s.nowMS, nil)
		s.tell(ts)
	case "delete":
		_, ts := s.user.Delete(s.key, s.nowMS, nil)
		s.tell(ts)
	case "kick-inst":
		_, ok, ts := s.user.KickInstance(s.key, uint32(mustInt(args[0])), s.nowMS, nil)
		s.tell(ts)
		if !ok {
			s.say("no such instance")
		}
	case "enforce":
		_, ts := s.user.Enforce(s.key, &s.settings, s.nowMS, nil)
		s.tell(ts)
	case "status":
		s.user.CustomStatus = args[0]
	case "last-inst-id":
		s.user.LastInstID = uint32(mustInt(args[0]))
	case "show":
		s.show()
	default:
		t.Fatalf("%s: no command %q", pos, cmd)
	}
	if err := checkUser(&s.user); err != nil {
		t.Fatalf("%s: after %q: %v", pos, words, err)
	}
}

func duration(t *testing.T, pos, s string) int64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s: %v", pos, err)
	}
	return d.Milliseconds()
}

func (s *script) set(t *testing.T, pos string, args []string) {
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "retention":
			s.settings.PushRetentionMS = duration(t, pos, value)
		case "mac-push":
			s.settings.MacPushOnline = true
		case "expiry-event":
			s.settings.ExpiryEvent = true
		default:
			t.Fatalf("%s: no setting %q", pos, a)
		}
	}
}

func (s *script) login(t *testing.T, pos string, args []string) {
	name := args[0] + " " + args[1]
	l := Login{
		Device: Device{Platform: mustPlatform(args[0]), ID: args[1]},
		Cred:   Credential{SigTimeS: s.nowMS / 1000},
		NowMS:  s.nowMS,
	}
	for _, a := range args[2:] {
		option, value, _ := strings.Cut(a, "=")
		switch option {
		case "resume":
			l.Resume = true
		case "sig":
			l.Cred.SigTimeS += duration(t, pos, value) / 1000
		case "ticket":
			l.Cred = Credential{ByTicket: true, TicketSeq: s.tickets[name]}
			if value != "" {
				l.Cred.TicketSeq = uint64(mustInt(value))
			}
		default:
			t.Fatalf("%s: no option %q", pos, a)
		}
	}
	s.nextLink++
	l.Link = Link{
		Node: 1, ID: MakeLinkID(0, s.nextLink, 1), Protocol: ProtocolNative, Listener: "native", ConnectedMS: s.nowMS,
		Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(s.nextLink)}), 7700),
	}

	before := s.user.Clone()
	d, ts := s.user.Login(s.key, &s.settings, &l, nil)
	if d.Code != CodeOK {
		s.say("refused %s", codeName(d.Code))
		if err := sameUser(&before, &s.user); err != nil || len(ts) > 0 {
			t.Fatalf("%s: a refused login changed the user: %v, %d transitions", pos, err, len(ts))
		}
		return
	}
	s.links[name], s.tickets[name] = l.Link.ID, s.user.Seq
	s.tell(ts)
	if d.TakenBack {
		s.say("taken back: login time %s", since(d.Inst.LoginMS))
	}
	if d.Replaced.ID != 0 {
		s.say("replaced: link %d", d.Replaced.ID.Slot())
	}
	for _, in := range d.Kicked {
		if in.Link.ID != 0 {
			s.say("close: link %d of #%d", in.Link.ID.Slot(), in.InstID)
		}
	}
}

func codeName(code int) string {
	switch code {
	case CodeTicketRevoked:
		return "ticket"
	case CodeSigRevoked:
		return "70001"
	}
	return fmt.Sprint(code)
}

func (s *script) leave(r LeaveReason, args []string) {
	l := Leave{Platform: mustPlatform(args[0]), DeviceID: args[1], Node: 1, Reason: r, NowMS: s.nowMS}
	l.Link = s.links[args[0]+" "+args[1]]
	for _, a := range args[2:] {
		option, value, _ := strings.Cut(a, "=")
		switch option {
		case "link":
			l.Link = MakeLinkID(0, uint32(mustInt(value)), 1)
			if value == "0" {
				l.Link = 0
			}
		case "node":
			l.Node = uint32(mustInt(value))
		}
	}
	before := s.user.Clone()
	changed, ts := s.user.Leave(s.key, &s.settings, &l, nil)
	s.tell(ts)
	if changed {
		return
	}
	s.say("stale")
	if err := sameUser(&before, &s.user); err != nil {
		s.say("BUT CHANGED: %v", err)
	}
}

func (s *script) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// tell words transitions, one a line.
func (s *script) tell(ts []Transition) {
	for i := range ts {
		t := &ts[i]
		event := "no event"
		if t.EventSeq != 0 {
			event = fmt.Sprintf("event %d", t.EventSeq)
		}
		s.say("%d %s: %s(%s) %s: %s -> %s, user %s%s%s%s", t.Seq, event, t.Action, t.Reason, instName(&t.Inst),
			statusName(t.Before), statusName(t.Inst.Status), t.UserStatus, kickedNames(t.Kicked), rest(t), custom(t.CustomStatus))
	}
}

func instName(in *Instance) string {
	return fmt.Sprintf("#%d %s %s", in.InstID, in.Device.Platform, in.Device.ID)
}

func statusName(s Status) string {
	if s == Offline {
		return "none"
	}
	return s.String()
}

func kickedNames(kicked []Instance) string {
	if len(kicked) == 0 {
		return ""
	}
	var words []string
	for i := range kicked {
		words = append(words, fmt.Sprintf("#%d %s", kicked[i].InstID, kicked[i].Device.Platform.KickedName()))
	}
	return ", kicked [" + strings.Join(words, ", ") + "]"
}

func rest(t *Transition) string {
	if t.ByREST {
		return ", by REST"
	}
	return ""
}

func custom(status string) string {
	if status == "" {
		return ""
	}
	return fmt.Sprintf(", custom %q", status)
}

// since words a time as the distance from the script's start.
func since(ms int64) string {
	if ms == 0 {
		return "never"
	}
	return (time.Duration(ms-scriptStartS*1000) * time.Millisecond).String()
}

func (s *script) show() {
	u := &s.user
	account := "registered"
	if !u.Registered {
		account = "no account"
	}
	s.say("%s, %s, seq %d, events %d, last seen %s%s", u.Status(), account, u.Seq, u.EventSeq, since(u.LastSeenMS), custom(u.CustomStatus))
	if u.RevokedSeq != 0 {
		s.say("revoked: UserSigs before %s, tickets before %d", since(u.CutoffS*1000), u.RevokedSeq)
	}
	for i := range u.Instances {
		in := &u.Instances[i]
		life := fmt.Sprintf("link %d", in.Link.ID.Slot())
		if in.Status == PushOnline {
			life = "until " + since(in.PushUntilMS)
		}
		s.say("  %s: %s since %s, %s, %s", instName(in), in.Status, since(in.LoginMS), life, in.Link.Addr.Addr())
	}
}

// checkUser reports a broken invariant of a user's state.
func checkUser(u *User) error {
	ids, devices := map[uint32]bool{}, map[Device]bool{}
	for i := range u.Instances {
		in := &u.Instances[i]
		device := Device{Platform: in.Device.Platform, ID: in.Device.ID}
		switch {
		case in.InstID < 1 || in.InstID > MaxInstID || ids[in.InstID]:
			return fmt.Errorf("InstID %d is out of range or given twice", in.InstID)
		case devices[device]:
			return fmt.Errorf("device %v has two instances", device)
		case i > 0 && compareLogin(&u.Instances[i-1], in) >= 0:
			return fmt.Errorf("instances %d and %d are out of login order", i-1, i)
		case in.Status == Online && (in.Link.ID == 0 || in.PushUntilMS != 0):
			return fmt.Errorf("#%d is Online with link %d and end %d", in.InstID, in.Link.ID, in.PushUntilMS)
		case in.Status == PushOnline && (in.Link.ID != 0 || in.PushUntilMS == 0):
			return fmt.Errorf("#%d is PushOnline with link %d and end %d", in.InstID, in.Link.ID, in.PushUntilMS)
		case in.Status == Offline:
			return fmt.Errorf("#%d is kept though it is none", in.InstID)
		}
		ids[in.InstID], devices[device] = true, true
	}
	switch {
	case u.Status() == Offline && u.CustomStatus != "":
		return fmt.Errorf("custom status %q outlives the last instance", u.CustomStatus)
	case len(u.Instances) > 0 && !u.Registered:
		return fmt.Errorf("instances without an account")
	case u.EventSeq > u.Seq || u.RevokedSeq > u.Seq:
		return fmt.Errorf("sequence %d is behind events %d or revocation %d", u.Seq, u.EventSeq, u.RevokedSeq)
	}
	return nil
}

// sameUser reports the difference between two states.
func sameUser(a, b *User) error {
	x, y := *a, *b
	x.Instances, y.Instances = nil, nil
	if fmt.Sprint(x) != fmt.Sprint(y) || !slices.Equal(a.Instances, b.Instances) {
		return fmt.Errorf("was %+v, is %+v", *a, *b)
	}
	return cmp.Or[error](checkUser(a), checkUser(b))
}
