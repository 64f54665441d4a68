package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestQueryTwoWays: the usual shape of a body and any other get the same answer,
// byte for byte, whoever is asked for and whatever is to be told.
func TestQueryTwoWays(t *testing.T) {
	for _, iPhone := range []string{"", `I"Phone`} {
		r := newRESTRig(t, func(o *Options, a *directory.App) {
			a.Policy, _ = presence.Preset("multi")
			a.QueryIPhoneName = iPhone
		})
		phone := r.login("two", presence.IPhone, "d1")
		r.login("two", presence.Web, "d2")
		r.lose("two", phone)
		for p := presence.Android; p <= presence.MiniProgram; p++ {
			in := r.login("lost "+p.String(), p, "d")
			r.login("on "+p.String(), p, "d")
			r.lose("lost "+p.String(), in)
		}
		r.post(importCommand, `{"UserID":"offline"}`).want(t, 0)
		all := []string{"nobody", "two", "offline", "no one"}
		for p := presence.Android; p <= presence.MiniProgram; p++ {
			all = append(all, "on "+p.String(), "lost "+p.String(), "nobody")
		}
		for _, ids := range [][]string{all, {"two"}, {"offline"}, {"nobody"}, {"nobody", "offline"}, {"offline", "nobody"}, {"on Web", "on iPhone"}} {
			for bits := range 8 {
				flags := fmt.Sprintf(`,"IsNeedDetail":%d,"IsReturnInstid":%d,"IsReturnCustomStatus":%d`, bits&1, bits>>1&1, bits>>2)
				usual, other := queryBody(t, ids, flags), queryBody(t, ids, flags+`,"random":[1]`)
				var q queryRequest
				if !q.scanPlain([]byte(usual)) || q.scanPlain([]byte(other)) {
					t.Fatalf("%s and %s do not take two ways", usual, other)
				}
				if got, want := r.post(queryCommand, usual).raw, r.post(queryCommand, other).raw; got != want {
					t.Errorf("%s:\n got %s\nwant %s", usual, got, want)
				}
			}
		}
	}
}

// keeper is a directory that keeps queries instead of answering them.
type keeper struct {
	directory.Directory
	kept chan *directory.QueryOp
}

func (k *keeper) Query(op *directory.QueryOp) { k.kept <- op }

// TestQueryKeepsItsIDs: the ids of a query that timed out lie in the memory of
// its request. The requests that follow on the connection do not change them.
func TestQueryKeepsItsIDs(t *testing.T) {
	k := &keeper{kept: make(chan *directory.QueryOp, 1)}
	r := newRESTRig(t, func(o *Options, a *directory.App) {
		k.Directory = o.Directory
		o.Directory = k
	})
	for round := range 3 {
		id := fmt.Sprintf("kept user %d", round)
		answers := make(chan restAnswer, 1)
		go func() { answers <- r.post(queryCommand, queryBody(t, []string{id, id}, "")) }()
		op := <-k.kept
		advanceUntil(t, r, answers, 91000)
		for range 20 { // of the same size, on the same connection
			r.post(importCommand, fmt.Sprintf(`{"UserID":%q}`, strings.Repeat("x", 31))).want(t, 0)
		}
		if op.UserIDs[0] != id || op.UserIDs[1] != id {
			t.Errorf("the ids became %q", op.UserIDs)
		}
		op.Done(op)
	}
}
