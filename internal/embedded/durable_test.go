package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/shard"
)

// openStore opens a store in memory that is closed after what is opened on it.
func openStore(t testing.TB, fs vfs.FS) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: "store", FS: fs, MemTable: 256 << 10, Cache: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

func TestConformanceOnAStore(t *testing.T) {
	for _, o := range []Options{{Shards: 1}, {Shards: 64}} {
		t.Run(fmt.Sprintf("shards=%d", o.Shards), func(t *testing.T) {
			directorytest.Run(t, func(t *testing.T, of directorytest.Options) directory.Directory {
				o := o
				o.Clock, o.Sink = of.Clock, of.Sink
				o.Store = openStore(t, vfs.NewMem())
				return open(t, o)
			})
		})
	}
}

// reborn is a bed on a store whose disk outlives it.
type reborn struct {
	*bed
	fs    *vfs.MemFS
	store *store.Store
}

// rebirth opens a directory on the disk, at the time of an earlier bed if there is one.
func rebirth(t testing.TB, fs *vfs.MemFS, before *bed, o Options) *reborn {
	t.Helper()
	b := &reborn{bed: &bed{TB: t}, fs: fs, store: openStore(t, fs)}
	if before == nil {
		before = newBed(t, Options{})
	}
	b.clock = before.clock
	b.links.Store(before.links.Load())
	o.Clock, o.Store, o.Sink = b.clock, b.store, b.bed
	if o.Shards == 0 {
		o.Shards = 4
	}
	b.Directory = open(t, o)
	b.Watch(node, b)
	return b
}

// firstLife is a directory on a new disk with the app of the tests.
func firstLife(t testing.TB, o Options) *reborn {
	t.Helper()
	b := rebirth(t, vfs.NewCrashableMem(), nil, o)
	if err := b.update(&directory.UpdateAppOp{SDKAppID: app, Create: true}).Err; err != nil {
		t.Fatal(err)
	}
	b.said()
	return b
}

// crash cuts the power and starts again: what was not synced is gone.
func (b *reborn) crash(o Options) *reborn {
	b.Helper()
	fs := b.fs.CrashClone(vfs.CrashCloneCfg{})
	if err := b.Close(); err != nil { // its timers are on the same clock
		b.Error(err)
	}
	return rebirth(b.TB, fs, b.bed, o)
}

// mustLogin logs in and waits for the answer.
func (b *reborn) mustLogin(user, dev string, p presence.Platform) *directory.LoginOp {
	b.Helper()
	done := make(chan struct{})
	op := b.loginOp(user, dev, p)
	op.Done = func(*directory.LoginOp) { close(done) }
	b.Login(op)
	b.wait("login", done)
	if op.Code != presence.CodeOK {
		b.Fatalf("login of %s: %d", user, op.Code)
	}
	return op
}

func (b *reborn) mustLeave(of *directory.LoginOp, r directory.LeaveReason) {
	b.Helper()
	done := make(chan struct{})
	op := b.leaveOp(of, r)
	op.Done = func(*directory.LeaveOp) { close(done) }
	b.Leave(op)
	b.wait("leave", done)
	if !op.Changed {
		b.Fatalf("leave of %s: %d", of.Key.UserID, op.Code)
	}
}

func (b *reborn) mustKick(user string) {
	b.Helper()
	done := make(chan struct{})
	op := &directory.KickOp{Key: key(user), NowMS: b.nowMS(), Done: func(*directory.KickOp) { close(done) }}
	b.Kick(op)
	b.wait("kick", done)
	if op.Code != presence.CodeOK {
		b.Fatalf("kick of %s: %d", user, op.Code)
	}
}

func (b *reborn) account(a directory.AccountsAction, user string, p directory.Profile) {
	b.Helper()
	done := make(chan struct{})
	op := &directory.AccountsOp{App: app, Action: a, UserIDs: []string{user}, Profiles: []directory.Profile{p}, NowMS: b.nowMS(), Done: func(*directory.AccountsOp) { close(done) }}
	b.Accounts(op)
	b.wait("account", done)
	if op.Results[0] != presence.CodeOK {
		b.Fatalf("account %s: %d", user, op.Results[0])
	}
}

func (b *reborn) user(name string) presence.User {
	b.Helper()
	op := &directory.UserOp{Key: key(name), Done: func(*directory.UserOp) {}}
	b.User(op)
	return op.User
}

// mustEventually waits for a status that a background job brings.
func (b *reborn) mustEventually(user, want string) {
	b.Helper()
	b.await(user+" is "+want, func() bool { return b.status(user) == want })
}

// passGrace lets the grace of a restart pass, and waits for its settlement.
func (b *reborn) passGrace(d time.Duration) {
	b.Helper()
	b.clock.Advance(d)
	b.await("the orphans are settled", func() bool { return b.Restarting() == 0 })
}

// all returns every user of the directory.
func (d *Directory) all() map[presence.Key]presence.User {
	m := map[presence.Key]presence.User{}
	var c shard.Cursor
	for done := false; !done; {
		c, done = d.table.Scan(c, 100, func(k presence.Key, u *presence.User) { m[k] = u.Clone() })
	}
	return m
}

// adrift is what a restart makes of a user: its links are gone.
func adrift(u presence.User, aliveMS int64) presence.User {
	u = u.Clone()
	for i := range u.Instances {
		if in := &u.Instances[i]; in.Status == presence.Online {
			in.Link.ID, in.PushUntilMS = 0, max(in.LoginMS, aliveMS)
		}
	}
	return u
}

// Everything that was acknowledged is there after a power loss.
func TestRestartForgetsNothing(t *testing.T) {
	b := firstLife(t, Options{})
	multi, _ := presence.Preset(presence.PresetMulti)
	multi.Limits[presence.Android] = 3
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error {
		a.Name, a.Policy = "chat", multi
		a.Keys = []directory.Key{{ID: 1, Secret: "0123456789abcdef", CreatedMS: 5}, {ID: 7, Secret: "fedcba9876543210", CreatedMS: 6}}
		a.TicketEpoch, a.Limits = 4, directory.Limits{CallsPerSecond: 12.5, BatchCallsPerSecond: 3}
		a.Timeouts.PushRetentionMS, a.CloseOnSigEnd = 86_400_000, true
		a.Webhook.URL, a.Webhook.Token = "https://example.com/hook", "xxxxyyyy"
		a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		a.AllowedOrigins = []string{"https://chat.example.com", "*.example.org"}
		return nil
	}})
	b.mustLogin("alice", "d1", presence.Android)
	b.mustLogin("alice", "d2", presence.Windows)
	b.clock.Advance(time.Second)
	b.mustLeave(b.mustLogin("bob", "d1", presence.IPhone), directory.LeaveTimeOut)
	b.mustLogin("carol", "d1", presence.Web)
	b.mustKick("carol")
	nick, face := "Dave", "https://example.com/dave.png"
	b.account(directory.AccountsImport, "dave", directory.Profile{Nick: &nick, FaceURL: &face})
	b.mustLogin("erin", "d1", presence.IPad)
	b.account(directory.AccountsDelete, "erin", directory.Profile{})
	apps, users := b.Apps(), b.all()

	after := b.crash(Options{})
	if got := after.Apps(); !reflect.DeepEqual(got, apps) {
		t.Errorf("apps:\n got %+v\nwant %+v", got[0], apps[0])
	}
	got := after.all()
	if len(got) != len(users) {
		t.Errorf("%d users, want %d", len(got), len(users))
	}
	start := directorytest.Start.UnixMilli() // no sign of life was written after the start
	for k, u := range users {
		if want := adrift(u, start); !reflect.DeepEqual(got[k], want) {
			t.Errorf("%s:\n got %+v\nwant %+v", k.UserID, got[k], want)
		}
	}
	if got[key("carol")].CutoffS == 0 || got[key("carol")].RevokedSeq == 0 || got[key("erin")].CutoffS == 0 {
		t.Error("the test has no cut-offs")
	}
	// The dead stay dead, and numbers go on.
	old := after.loginOp("carol", "d1", presence.Web)
	old.Login.Cred.SigTimeS -= 10
	done := make(chan struct{})
	old.Done = func(*directory.LoginOp) { close(done) }
	after.Login(old)
	after.wait("login", done)
	if old.Code != presence.CodeSigRevoked {
		t.Errorf("a UserSig from before the kick: %d", old.Code)
	}
	if op := after.mustLogin("carol", "d1", presence.Web); op.Seq != users[key("carol")].Seq+1 {
		t.Errorf("Seq goes on with %d after %d", op.Seq, users[key("carol")].Seq)
	}
}

// TestRestartGrace: who comes back in time was never away; the others are
// disconnected when the grace ends, not before.
func TestRestartGrace(t *testing.T) {
	b := firstLife(t, Options{})
	b.Serve()
	for _, user := range []string{"alice", "bob", "carol"} {
		b.mustLogin(user, "d1", presence.Android)
	}
	b.mustLogin("dora", "d1", presence.Windows)
	b.clock.Advance(12 * time.Second) // signs of life at 5 and 10 s
	alive := b.nowMS() - 2000
	b.await("the sign of life is written", func() bool { return b.aliveStamp() == alive })
	b.synced()

	after := b.crash(Options{RestartGrace: 20 * time.Second})
	after.clock.Advance(time.Hour)
	for _, user := range []string{"alice", "bob", "carol", "dora"} {
		after.mustBe(user, "Online")
	}
	after.Serve()
	after.clock.Advance(20*time.Second - time.Millisecond)
	after.jobs.Wait() // if a settlement had begun too early, it would be over now
	for _, user := range []string{"alice", "bob", "carol", "dora"} {
		after.mustBe(user, "Online")
	}
	after.said()
	after.mustLogin("alice", "d1", presence.Android)
	resume := after.loginOp("bob", "d1", presence.Android)
	resume.Login.Resume = true
	done := make(chan struct{})
	resume.Done = func(*directory.LoginOp) { close(done) }
	after.Login(resume)
	after.wait("resume", done)
	if resume.Code != presence.CodeOK || !resume.Decision.TakenBack {
		t.Errorf("resume: %d, taken back %t", resume.Code, resume.Decision.TakenBack)
	}
	after.mustSay("alice Login 2", "bob Login 2")
	if n := after.Restarting(); n != 2 {
		t.Errorf("%d orphans, want 2", n)
	}
	after.clock.Advance(time.Millisecond)
	after.mustEventually("carol", "PushOnline")
	after.mustEventually("dora", "Offline")
	said := after.said()
	slices.Sort(said)
	if want := []string{"carol Disconnect 2", "dora Disconnect 2"}; !slices.Equal(said, want) {
		t.Errorf("told %q, want %q", said, want)
	}
	after.mustBe("alice", "Online")
	after.mustBe("bob", "Online")
	carol := after.user("carol")
	if got := carol.Instances[0].PushUntilMS; got != alive+7*24*3600*1000 {
		t.Errorf("the retention of carol counts from %d, want the last sign of life %d", got-7*24*3600*1000, alive)
	}
	if carol.LastSeenMS != alive {
		t.Errorf("carol was last seen at %d, want %d", carol.LastSeenMS, alive)
	}
}

// synced waits until all that was committed before is durable: a read shows it earlier.
func (b *reborn) synced() {
	b.Helper()
	done := make(chan error, 1)
	b.store.Commit(func(store.Writer) {}, func(err error) { done <- err })
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// aliveStamp is this run's last sign of life in the store.
func (b *reborn) aliveStamp() int64 {
	v, ok, err := b.store.Get(aliveKey(b.durable.epoch))
	if err != nil || !ok {
		return 0
	}
	n, err := readNumber(v)
	if err != nil {
		b.Error(err)
	}
	return int64(n)
}

// A link's last sign of life is that of its own run, however many runs came and
// went before its device was given up; a login after it counts more.
func TestCrashesDuringTheGrace(t *testing.T) {
	b := firstLife(t, Options{})
	start := b.nowMS()
	b.mustLogin("alice", "d1", presence.Android)
	b.clock.Advance(time.Minute)
	b.mustLogin("bob", "d1", presence.Android)
	lateMS := b.nowMS()
	multi, _ := presence.Preset(presence.PresetMulti)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: b.setPolicy(multi)})
	for range 3 {
		b = b.crash(Options{})
		b.Serve()
		b.clock.Advance(10 * time.Second)
		b.await("a sign of life", func() bool { return b.aliveStamp() == b.nowMS() })
		b.synced()
		b.mustLogin("alice", "d9", presence.Windows) // writes alice's record in a later run
	}
	b = b.crash(Options{})
	b.Serve()
	b.passGrace(30 * time.Second)
	const week = 7 * 24 * 3600 * 1000
	for user, want := range map[string]int64{"alice": start, "bob": lateMS} {
		u := b.user(user)
		if len(u.Instances) != 1 || u.Instances[0].PushUntilMS != want+week {
			t.Errorf("%s: %+v, want PushOnline from %d on", user, u.Instances, want)
		}
	}
	// With the last orphan the signs of life of earlier runs go.
	lower, upper := store.Bounds(alivePrefix...)
	b.await("one sign of life is left", func() bool {
		n := 0
		if err := b.store.Scan(lower, upper, func(_, _ []byte) bool { n++; return true }); err != nil {
			t.Error(err)
		}
		return n == 1
	})
}

// A clean stop leaves what a crash leaves: no Disconnect, and the next start settles.
func TestCleanStop(t *testing.T) {
	b := firstLife(t, Options{})
	b.mustLogin("alice", "d1", presence.Android)
	b.said()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b.mustSay()
	after := rebirth(t, b.fs, b.bed, Options{RestartGrace: -1})
	after.mustBe("alice", "Online")
	after.Serve()
	after.mustEventually("alice", "PushOnline")
	after.mustSay("alice Disconnect 2")
}

// PushOnline ends on time across restarts: also what fell due while nobody ran.
func TestExpiryAcrossRestarts(t *testing.T) {
	b := firstLife(t, Options{})
	b.mustLeave(b.mustLogin("alice", "d1", presence.Android), directory.LeaveTimeOut)
	b.clock.Advance(time.Hour)
	b.mustLeave(b.mustLogin("bob", "d1", presence.Android), directory.LeaveTimeOut)
	after := b.crash(Options{})
	after.clock.Advance(7*24*time.Hour - time.Hour - time.Millisecond)
	after.mustBe("alice", "PushOnline")
	after.clock.Advance(time.Second)
	after.mustEventually("alice", "Offline")
	after.mustBe("bob", "PushOnline")
	b.clock.Advance(time.Hour)
	again := after.crash(Options{})
	again.clock.Advance(time.Second)
	again.mustEventually("bob", "Offline")
	again.mustBe("alice", "Offline")
}

// A settlement that cannot be made durable is tried again, and told once.
func TestSettlementIsTriedAgain(t *testing.T) {
	b := firstLife(t, Options{})
	b.mustLogin("alice", "d1", presence.Android)
	after := b.crash(Options{})
	after.said()
	journal := &heldJournal{}
	after.opts.Journal = journal
	after.Serve()
	after.clock.Advance(30 * time.Second)
	after.await("the settlement is handed over", func() bool { return journal.len() == 1 })
	journal.settle(t, errDisk)
	after.mustBe("alice", "Online")
	after.await("it is handed over again", func() bool {
		after.clock.Advance(settleRetry)
		return journal.len() == 1
	})
	journal.settle(t, nil)
	after.mustEventually("alice", "PushOnline")
	after.mustSay("alice Disconnect 2")
}

// fakeEvents is an outbox that writes a key per transition.
type fakeEvents struct {
	mu        sync.Mutex
	forgotten []string
}

func (*fakeEvents) Record(w store.Writer, ts []presence.Transition) {
	for i := range ts {
		w.Set(fmt.Appendf(nil, "%c%s/%05d", store.PrefixOutbox, ts[i].Key.UserID, ts[i].Seq), nil)
	}
}

func (e *fakeEvents) Forget(ts []presence.Transition) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range ts {
		e.forgotten = append(e.forgotten, fmt.Sprint(ts[i].Key.UserID, " ", ts[i].Seq))
	}
}

// An outbox is told of what it recorded for nothing.
func TestEventsOfAFailedCommit(t *testing.T) {
	events := new(fakeEvents)
	b := firstLife(t, Options{Events: events})
	b.Login(b.loginOp("alice", "d1", presence.Android))
	b.await("alice is told", func() bool { return b.pending() == 0 })
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b.Login(b.loginOp("bob", "d1", presence.Android))
	b.await("bob is told", func() bool { return b.pending() == 0 })
	events.mu.Lock()
	defer events.mu.Unlock()
	if fmt.Sprint(events.forgotten) != "[bob 1]" {
		t.Errorf("forgotten: %v", events.forgotten)
	}
}

// The outbox's part is in the same commit as the change: whatever the moment of
// a crash, both are there or neither.
func TestEventsAreOfTheSameCommit(t *testing.T) {
	b := firstLife(t, Options{Events: new(fakeEvents)})
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for i := range 200 {
		b.Login(b.loginOp(fmt.Sprintf("u%d", i%10), "d1", presence.Android))
	}
	clone := b.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
	after := rebirth(t, clone, b.bed, Options{})
	seen := map[string]uint64{}
	err := after.store.Scan([]byte{store.PrefixOutbox}, []byte{store.PrefixOutbox + 1}, func(k, _ []byte) bool {
		user, seq, _ := strings.Cut(string(k[1:]), "/")
		n, err := strconv.ParseUint(seq, 10, 64)
		if err != nil || n != seen[user]+1 {
			t.Errorf("%s: event %q follows %d", user, seq, seen[user])
		}
		seen[user] = n
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		user := fmt.Sprintf("u%d", i)
		if got := after.user(user).Seq; got != seen[user] {
			t.Errorf("%s: state %d, %d events", user, got, seen[user])
		}
	}
	b.await("all is told", func() bool { return b.pending() == 0 })
}

// A damaged record keeps the node from starting: it would be missing.
func TestDamagedRecords(t *testing.T) {
	for name, c := range map[string]struct {
		key, value []byte
		want       string
	}{
		"user":          {userKey(nil, key("alice")), []byte{recordVersion, 1}, `user "alice" of SDKAppID 1400000000: the record is damaged`},
		"later version": {userKey(nil, key("alice")), []byte{recordVersion + 1}, "its version is 2, this release knows 1"},
		"user's key":    {[]byte("u\x00"), nil, "the record is damaged"},
		"app":           {appKey(5), []byte{recordVersion, '{'}, "SDKAppID 5: the record is damaged"},
		"other app":     {appKey(5), []byte("\x01{}"), "it says that it is 0"},
		"boot":          {keyBoot, []byte("x"), "the record is damaged"},
		"alive":         {aliveKey(3), []byte("x"), "the last signs of life"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, vfs.NewMem())
			done := make(chan error, 1)
			s.Commit(func(w store.Writer) { w.Set(c.key, c.value) }, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			d, err := New(Options{Store: s})
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, errRecord) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if err := CheckRecord(c.key, c.value); !errors.Is(err, errRecord) {
				t.Errorf("what a start refuses, a check finds sound: %v", err)
			}
		})
	}
}

func randomText(rng *rand.Rand, max int) string {
	b := make([]byte, rng.IntN(max+1))
	for i := range b {
		b[i] = byte(rng.IntN(256))
	}
	return string(b)
}

func randomUser(rng *rand.Rand) (u presence.User) {
	n := func() int64 { return rng.Int64() >> rng.IntN(63) * int64(1-2*rng.IntN(2)) }
	u = presence.User{
		Registered: rng.IntN(2) == 0, Seq: rng.Uint64(), EventSeq: uint64(rng.IntN(9)), LastInstID: rng.Uint32() >> 1,
		CutoffS: n(), RevokedSeq: rng.Uint64(), LastSeenMS: n(), CustomStatus: randomText(rng, 100),
		Nick: randomText(rng, 500), FaceURL: randomText(rng, 3),
	}
	for range rng.IntN(12) {
		in := presence.Instance{
			InstID: rng.Uint32() >> 1, Status: presence.Status(1 + rng.IntN(2)), LoginMS: n(), PushUntilMS: n(),
			Device: presence.Device{Platform: presence.Platform(rng.IntN(256)), ID: randomText(rng, 64), SDKVersion: randomText(rng, 32), Model: randomText(rng, 64)},
			Link:   presence.Link{Node: rng.Uint32(), ID: presence.LinkID(rng.Uint64()), Protocol: presence.Protocol(rng.IntN(4)), Listener: randomText(rng, 9), ConnectedMS: n()},
		}
		switch rng.IntN(4) {
		case 0:
			in.Link.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(256))}), uint16(rng.IntN(1<<16)))
		case 1:
			in.Link.Addr = netip.MustParseAddrPort("[fe80::1%eth0]:99")
		case 2:
			in.Link.Addr = netip.MustParseAddrPort("[2001:db8::1]:443")
		}
		u.Instances = append(u.Instances, in)
	}
	return u
}

func TestRecordRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	var got presence.User
	for range 2000 {
		want, epoch := randomUser(rng), rng.Uint64()
		b := appendRecord(nil, epoch, &want)
		e, err := readRecord(b, &got)
		if len(got.Instances) == 0 {
			got.Instances = nil
		}
		if err != nil || e != epoch || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %v, epoch %d want %d\n got %+v\nwant %+v", seed, err, e, epoch, got, want)
		}
		if _, err := readRecord(b[:rng.IntN(len(b))], &got); err == nil {
			t.Fatalf("seed %d: a record that was cut off is read", seed)
		}
		if _, err := readRecord(append(b, 0), &got); err == nil {
			t.Fatalf("seed %d: a record with something behind it is read", seed)
		}
		got = presence.User{}
	}
}

func FuzzReadRecord(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 0))
	for range 20 {
		u := randomUser(rng)
		f.Add(appendRecord(nil, 7, &u))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var u, again presence.User
		epoch, err := readRecord(value, &u)
		if err != nil {
			return
		}
		e, err := readRecord(appendRecord(nil, epoch, &u), &again)
		if err != nil || e != epoch || !reflect.DeepEqual(u, again) {
			t.Errorf("%v: %+v became %+v", err, u, again)
		}
	})
}

// An app comes back with every field, also with those that are added later.
func TestAppRoundTrip(t *testing.T) {
	want := new(directory.App)
	n := 0
	fill(t, reflect.ValueOf(want).Elem(), &n)
	value, err := encodeApp(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readApp(appKey(want.SDKAppID), value)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, want)
	}
}

// fill sets everything in v to something.
func fill(t *testing.T, v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("10.1.0.0/16")))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s is not exported: it would not be kept", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n % 100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 100))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	default:
		t.Fatalf("fill %s", v.Type())
	}
}

// FuzzReadApp: an app's record is read as a whole that can be written again, or refused.
func FuzzReadApp(f *testing.F) {
	a := new(directory.App)
	n := 0
	fill(&testing.T{}, reflect.ValueOf(a).Elem(), &n)
	value, err := encodeApp(a)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appKey(a.SDKAppID), value)
	f.Add(appKey(1), []byte{recordVersion, '{', '}'})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		a, err := readApp(key, value)
		if err != nil {
			return
		}
		_ = a.Validate() // says what is wrong with it, whatever it holds
		again, err := encodeApp(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := readApp(appKey(a.SDKAppID), again); err != nil || b.SDKAppID != a.SDKAppID || b.Name != a.Name {
			t.Errorf("%+v became %+v: %v", a, b, err)
		}
	})
}

// FuzzUserKey: a key names the user that it was made of.
func FuzzUserKey(f *testing.F) {
	f.Add(userKey(nil, presence.Key{App: 1, UserID: "u"}))
	f.Add([]byte{0, 0, 0, 0, 0, 0x1f})
	f.Fuzz(func(t *testing.T, key []byte) {
		if k, err := parseUserKey(key); err == nil && string(userKey(nil, k)) != string(key) {
			t.Errorf("%q is %v", key, k)
		}
	})
}
