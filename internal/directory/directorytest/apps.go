package directorytest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func appsLife(w *world) {
	if w.d.App(5) != nil {
		w.Fatal("app 5 is known")
	}
	made := w.mustUpdate(5, true, func(a *directory.App) error {
		a.Name = "five"
		a.Version = 99
		return nil
	})
	if made.Version != 1 || made.Name != "five" || made.CreatedMS != w.nowMS() || made.TicketKey == ([32]byte{}) {
		w.Fatalf("made %+v", made)
	}
	if got := w.d.App(5); got == nil || got.Name != "five" {
		w.Fatalf("App(5) = %+v", got)
	}
	w.clock.Advance(1e9)
	changed := w.mustUpdate(5, false, func(a *directory.App) error {
		a.Keys = append(a.Keys, directory.Key{ID: 1, Secret: "s"})
		a.CreatedMS, a.Version = 0, 0
		return nil
	})
	if changed.Version != 2 || changed.CreatedMS != made.CreatedMS || changed.TicketKey != made.TicketKey || len(made.Keys) != 0 {
		w.Fatalf("changed %+v, was %+v", changed, made)
	}
	w.mustUpdate(3, true, func(*directory.App) error { return nil })
	var ids []uint32
	for _, a := range w.d.Apps() {
		ids = append(ids, a.SDKAppID)
	}
	if fmt.Sprint(ids) != fmt.Sprint([]uint32{3, 5, app}) {
		w.Fatalf("apps %v", ids)
	}
}

func appsRefusals(w *world) {
	ours := errors.New("not now")
	for name, c := range map[string]struct {
		op   directory.UpdateAppOp
		code int
	}{
		"exists":      {directory.UpdateAppOp{SDKAppID: app, Create: true}, directory.CodeConflict},
		"unknown":     {directory.UpdateAppOp{SDKAppID: 77}, directory.CodeUnknownApp},
		"id 0":        {directory.UpdateAppOp{SDKAppID: 0, Create: true}, directory.CodeBadRequest},
		"another id":  {directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error { a.SDKAppID++; return nil }}, directory.CodeBadRequest},
		"no admin":    {directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error { a.Administrators = nil; return nil }}, directory.CodeBadRequest},
		"bad limit":   {directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error { a.Policy.Limits[presence.Web] = 101; return nil }}, directory.CodeBadRequest},
		"bad preset":  {directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error { a.Policy.Preset = "none"; return nil }}, directory.CodeBadRequest},
		"says Mutate": {directory.UpdateAppOp{SDKAppID: app, Mutate: func(*directory.App) error { return ours }}, 0},
	} {
		before := w.d.App(app)
		if c.op.Mutate == nil {
			c.op.Mutate = func(*directory.App) error { return nil }
		}
		op := w.update(&c.op)
		var de *directory.Error
		switch {
		case c.code == 0 && !errors.Is(op.Err, ours):
			w.Errorf("%s: %v", name, op.Err)
		case c.code != 0 && (!errors.As(op.Err, &de) || de.Code != c.code || de.Text == ""):
			w.Errorf("%s: %v, want code %d", name, op.Err, c.code)
		}
		if w.d.App(app) != before {
			w.Errorf("%s: the app was changed", name)
		}
	}
}

// appsConcurrent: each update sees the one before, versions have no gaps.
func appsConcurrent(w *world) {
	const routines, each = 8, 10
	var wg sync.WaitGroup
	for range routines {
		wg.Go(func() {
			for range each {
				c := w.completion("update")
				op := &directory.UpdateAppOp{SDKAppID: app, NowMS: w.nowMS(), Done: func(*directory.UpdateAppOp) { c.done() }}
				op.Mutate = func(a *directory.App) error {
					a.Timeouts.PushRetentionMS++
					return nil
				}
				w.d.UpdateApp(op)
				c.wait()
				if op.Err != nil || w.d.App(app).Version < op.App.Version {
					w.Errorf("update: %v", op.Err)
				}
			}
		})
	}
	wg.Wait()
	got, want := w.d.App(app), directory.NewApp(app).Timeouts.PushRetentionMS+routines*each
	if got.Version != 1+routines*each || got.Timeouts.PushRetentionMS != want {
		w.Fatalf("version %d, retention %d, want %d", got.Version, got.Timeouts.PushRetentionMS, want)
	}
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	for i, a := range w.told.apps {
		if a.Version != uint64(i+1) {
			w.Fatalf("AppChanged %d brought version %d", i, a.Version)
		}
	}
}

// appsWatchers: who watches is told before the update is answered.
func appsWatchers(w *world) {
	a := w.mustUpdate(app, false, func(a *directory.App) error { a.Name = "new"; return nil })
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	if n := len(w.told.apps); n != 2 || w.told.apps[n-1].Name != "new" || w.told.apps[n-1].Version != a.Version {
		w.Fatalf("told of %d apps", n)
	}
}

func enforceSweeps(w *world) {
	w.setPolicy(presence.PresetMulti, map[presence.Platform]uint8{presence.Web: 3})
	const users = 300
	stay := map[string]uint32{}
	for i := range users {
		user := fmt.Sprintf("u%d", i)
		w.leave(w.login(user, device(presence.Android, "d1")), directory.LeaveLinkClosed)
		w.login(user, device(presence.Web, "w1"))
		w.clock.Advance(1e6)
		stay[user] = w.login(user, device(presence.Web, "w2")).Decision.Inst.InstID
	}
	w.login("good", device(presence.Web, "w1"))
	w.told.take()
	single := policy(presence.PresetSingle, nil)
	dry := w.dryRun(single)
	if dry.Code != ok || dry.Users != users || dry.Instances != 2*users {
		w.Fatalf("dry run: code %d, %d instances of %d users", dry.Code, dry.Instances, dry.Users)
	}
	w.mustTell()
	op := w.update(&directory.UpdateAppOp{SDKAppID: app, Enforce: true, Mutate: func(a *directory.App) error { a.Policy = single; return nil }})
	if op.Err != nil || op.Kicked != 2*users {
		w.Fatalf("enforce: %v, kicked %d", op.Err, op.Kicked)
	}
	ts, notices := w.told.take()
	if len(ts) != 2*users || len(notices) != users {
		w.Fatalf("%d transitions, %d notices", len(ts), len(notices))
	}
	for _, n := range notices {
		if n.Cause != directory.CausePolicyChange || n.TimeMS != w.nowMS() {
			w.Fatalf("notice %+v", n)
		}
	}
	for user, inst := range stay {
		if in := w.query(user).Users[0].Instances; len(in) != 1 || in[0].InstID != inst {
			w.Fatalf("%s: left %+v, want %d", user, in, inst)
		}
	}
	w.mustBe("good", presence.Online)
	if dry := w.dryRun(single); dry.Users != 0 {
		w.Fatalf("%d users still break the policy", dry.Users)
	}
}

func dryRunRefusals(w *world) {
	if op := w.dryRun(presence.Policy{Preset: "none"}); op.Code != directory.CodeBadRequest {
		w.Errorf("bad policy: code %d", op.Code)
	}
	c := w.completion("dry run")
	op := &directory.DryRunOp{App: app + 1, Done: func(*directory.DryRunOp) { c.done() }}
	w.d.DryRun(op)
	if c.wait(); op.Code != directory.CodeUnknownApp {
		w.Errorf("unknown app: code %d", op.Code)
	}
}
