package embedded

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// call is an operation on one user, answer what came back.
type call struct {
	user string
	op   string // login, resume, leave, kick, delete, query
	dev  presence.Device
	link presence.Link
	at   int64 // NowMS
}

type answer struct {
	code    int
	inst    uint32
	changed bool
	kicked  []uint32
	seq     uint64
	status  presence.Status
	insts   []directory.InstanceState
}

// oneUser is the sequential specification: the pure rules applied to one user.
// An operation that failed changed nothing.
var oneUser = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byUser := map[string][]porcupine.Operation{}
		for _, o := range history {
			user := o.Input.(call).user
			byUser[user] = append(byUser[user], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range byUser {
			parts = append(parts, p)
		}
		return parts
	},
	Init:  func() any { return presence.User{} },
	Equal: func(a, b any) bool { return reflect.DeepEqual(a, b) },
	Step: func(state, input, output any) (bool, any) {
		before, c, got := state.(presence.User), input.(call), output.(answer)
		u := before.Clone()
		if got.code == directory.CodeUnavailable {
			return true, state
		}
		want := c.apply(&u)
		if want.code != presence.CodeOK || c.op == "query" || c.op == "leave" && !want.changed {
			return reflect.DeepEqual(want, got), state
		}
		return reflect.DeepEqual(want, got), u
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

var linearSettings = presence.Settings{Policy: presence.Policy{Limits: presence.Limits{presence.Web: 2}}, PushRetentionMS: 1e9}

func ids(insts []presence.Instance) (ids []uint32) {
	for _, in := range insts {
		ids = append(ids, in.InstID)
	}
	return ids
}

// apply is what the operation does to a user and answers.
func (c *call) apply(u *presence.User) (a answer) {
	s, k := linearSettings, presence.Key{App: app, UserID: c.user}
	switch c.op {
	case "login", "resume":
		d, _ := u.Login(k, &s, c.login(), nil)
		a = answer{code: d.Code, inst: d.Inst.InstID, kicked: ids(d.Kicked), seq: u.Seq}
		if d.Code != presence.CodeOK {
			a.seq = 0
		}
	case "leave":
		a.changed, _ = u.Leave(k, &s, &presence.Leave{
			Platform: c.dev.Platform, DeviceID: c.dev.ID, Node: c.link.Node, Link: c.link.ID,
			Reason: presence.LeaveLinkClosed, NowMS: c.at,
		}, nil)
	case "kick", "delete":
		if !u.Registered {
			return answer{code: presence.CodeAccountNotExist}
		}
		kicked, _ := u.KickAll(k, c.at, nil)
		if c.op == "delete" {
			u.Registered = false
		} else {
			a.kicked = ids(kicked)
		}
	case "query":
		if !u.Registered {
			return answer{code: presence.CodeAccountNotExist}
		}
		a = answer{seq: u.Seq, status: u.Status()}
		for _, in := range u.Instances {
			a.insts = append(a.insts, directory.InstanceState{InstID: in.InstID, Platform: in.Device.Platform, Status: in.Status})
		}
	}
	return a
}

func (c *call) login() *presence.Login {
	return &presence.Login{
		Device: c.dev, Resume: c.op == "resume", Cred: presence.Credential{SigTimeS: c.at / 1000}, Link: c.link, NowMS: c.at,
	}
}

// perform asks the directory and waits for the answer.
func (c *call) perform(b *bed) (a answer) {
	done, k := make(chan struct{}), key(c.user)
	switch c.op {
	case "login", "resume":
		b.Login(&directory.LoginOp{Key: k, Login: *c.login(), Done: func(op *directory.LoginOp) {
			a = answer{code: op.Code, inst: op.Decision.Inst.InstID, kicked: ids(op.Decision.Kicked), seq: op.Seq}
			if op.Code != presence.CodeOK {
				a.seq = 0
			}
			close(done)
		}})
	case "leave":
		b.Leave(&directory.LeaveOp{
			Key: k, Platform: c.dev.Platform, DeviceID: c.dev.ID, Node: c.link.Node, Link: c.link.ID,
			Reason: directory.LeaveLinkClosed, NowMS: c.at,
			Done: func(op *directory.LeaveOp) { a = answer{code: op.Code, changed: op.Changed}; close(done) },
		})
	case "kick":
		b.Kick(&directory.KickOp{Key: k, NowMS: c.at, Done: func(op *directory.KickOp) {
			a = answer{code: op.Code, kicked: ids(op.Kicked)}
			close(done)
		}})
	case "delete":
		b.Accounts(&directory.AccountsOp{App: app, Action: directory.AccountsDelete, UserIDs: []string{c.user}, NowMS: c.at, Done: func(op *directory.AccountsOp) {
			a = answer{code: op.Results[0]}
			close(done)
		}})
	case "query":
		b.Query(&directory.QueryOp{App: app, UserIDs: []string{c.user}, Detail: true, Done: func(op *directory.QueryOp) {
			u := op.Users[0]
			a = answer{code: u.Code, seq: u.Seq, status: u.Status, insts: slices.Clone(u.Instances)}
			if len(a.insts) == 0 {
				a.insts = nil
			}
			close(done)
		}})
	}
	b.wait(c.op, done)
	return a
}

// randomCall speaks of one of the links that its goroutine made before, or of a new one.
func (b *bed) randomCall(rng *rand.Rand, mine *[]call) call {
	c := call{user: fmt.Sprintf("u%d", rng.IntN(3)), at: b.nowMS()}
	switch n := rng.IntN(20); {
	case n < 7:
		c.op = "login"
		if n < 2 {
			c.op = "resume"
		}
		c.dev = presence.Device{Platform: []presence.Platform{presence.Android, presence.Web}[rng.IntN(2)], ID: fmt.Sprintf("d%d", rng.IntN(3))}
		c.link = presence.Link{Node: node, ID: presence.MakeLinkID(0, 0, b.links.Add(1))}
		*mine = append(*mine, c)
	case n < 12 && len(*mine) > 0:
		c = (*mine)[rng.IntN(len(*mine))]
		c.op = "leave"
	case n < 14:
		c.op = "kick"
	case n < 15:
		c.op = "delete"
	default:
		c.op = "query"
	}
	return c
}

// Logins, resumes, leaves, kicks, deletions and queries of a user, issued by
// many goroutines at once, are atomic: there is an order of them, consistent
// with who came before whom, in which the rules give the answers that came back.
func TestLinearizable(t *testing.T) {
	for name, journal := range map[string]func() Journal{
		"memory":   func() Journal { return nil },
		"slow":     func() Journal { return newBusyJournal(t, 0) },
		"failing":  func() Journal { return newBusyJournal(t, 15) },
		"one step": func() Journal { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(4) {
				o := Options{Journal: journal(), Shards: 2}
				if name == "one step" {
					o.Step = 1
				}
				history := linearHistory(newBed(t, o), seed)
				switch porcupine.CheckOperationsTimeout(oneUser, history, time.Minute) {
				case porcupine.Illegal:
					t.Fatalf("seed %d: not linearizable", seed)
				case porcupine.Unknown:
					t.Logf("seed %d: not decided within a minute", seed)
				}
			}
		})
	}
}

func linearHistory(b *bed, seed uint64) (history []porcupine.Operation) {
	const routines, each = 5, 60
	if op := b.updateWithRetry(func(a *directory.App) error {
		a.Policy, a.Timeouts.PushRetentionMS = linearSettings.Policy, linearSettings.PushRetentionMS
		return nil
	}); op.Err != nil {
		b.Fatal(op.Err)
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		start = time.Now()
	)
	for r := range routines {
		rng := rand.New(rand.NewPCG(seed, uint64(r)))
		wg.Go(func() {
			var mine []call
			for range each {
				c := b.randomCall(rng, &mine)
				from := time.Since(start)
				a := c.perform(b)
				op := porcupine.Operation{ClientId: r, Input: c, Call: int64(from), Output: a, Return: int64(time.Since(start))}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return history
}

// updateWithRetry is for journals that fail now and then.
func (b *bed) updateWithRetry(mutate func(*directory.App) error) (op *directory.UpdateAppOp) {
	for range 100 {
		op = b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: mutate})
		if op.Err == nil {
			break
		}
	}
	return op
}
