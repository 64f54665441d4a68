package api

import (
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// authenticate verifies the UserSig of the identifier: lock-out, signature,
// expiry, cut-off.
func (c *restCall) authenticate() (code int, text string) {
	who := caller{ip: c.ip, app: c.app.SDKAppID, identifier: c.identifier}
	if c.s.rest.failures.locked(who, c.now) {
		return codeLockedOut, fmt.Sprintf("verification of identifier %q of sdkappid %d from %s failed %d times within a minute; retry after 1 minute", c.identifier, c.app.SDKAppID, c.ip, maxFailures)
	}
	if len(c.params.sig) == 0 {
		return int(usersig.Empty), fmt.Sprintf("usersig of identifier %q is empty", c.identifier)
	}
	r := c.s.rest.verify(c)
	if r.Code == usersig.OK {
		code, text = c.checkCutoff(&r)
	} else {
		code, text = int(r.Code), r.Text
	}
	if code != 0 && code != c.cmd.service.timeout {
		c.s.audit.refused("REST caller's UserSig is refused", "app", c.app.SDKAppID, "identifier", c.identifier, "code", code, "remote", c.ip.String())
		if c.s.rest.failures.failed(who, c.now) {
			c.s.audit.refused("REST caller is locked out", "app", c.app.SDKAppID, "identifier", c.identifier, "for", lockout.String(), "remote", c.ip.String())
		}
	}
	return code, text
}

// checkCutoff refuses a UserSig that was issued before the identifier, who may
// be a user like any other, was kicked or deleted.
func (c *restCall) checkCutoff(r *usersig.Result) (code int, text string) {
	u := userCalls.Get().(*userCall)
	u.op.Key = presence.Key{App: c.app.SDKAppID, UserID: c.identifier}
	u.done.reset()
	c.s.dir.User(&u.op)
	if !c.s.awaitLatch(&u.done) {
		return c.cmd.service.timeout, fmt.Sprintf("the cut-off of identifier %q was not known within %v, retry", c.identifier, c.s.opts.CallTimeout)
	}
	known, cutoff := u.op.Code, u.op.User.CutoffS
	u.op.User = presence.User{}
	userCalls.Put(u)
	switch {
	case known != presence.CodeOK && known != presence.CodeAccountNotExist:
		return c.cmd.service.timeout, fmt.Sprintf("the cut-off of identifier %q is not known now (%d), retry", c.identifier, known)
	case r.TimeS < cutoff:
		return int(usersig.Expired), fmt.Sprintf("the UserSig of %q was issued at %d, before it was revoked at %d", c.identifier, r.TimeS, cutoff)
	}
	return 0, ""
}

// userCall is a reusable look-up of one user. One that timed out stays with the
// directory and is not used again.
type userCall struct {
	op   directory.UserOp
	done latch
}

var userCalls = sync.Pool{New: func() any {
	u := &userCall{done: newLatch()}
	u.op.Done = func(*directory.UserOp) { u.done.open() }
	return u
}}

// verify checks a UserSig, from memory if it was good before. The cut-off is not
// part of it: it changes without the UserSig or the app.
func (r *rest) verify(c *restCall) usersig.Result {
	nowS, sig := c.now.Unix(), c.params.sig
	if c.encoded {
		if e := r.recent.get(sig); e != nil && e.holds(c.app, c.identifier, nowS) {
			return e.res
		}
		sig = c.ctx.QueryArgs().Peek("usersig")
	}
	e := r.sigs.get(sig)
	if e == nil || !e.holds(c.app, c.identifier, nowS) {
		secrets := make([]string, len(c.app.Keys))
		for i := range c.app.Keys {
			secrets[i] = c.app.Keys[i].Secret
		}
		res := usersig.Verify(sig, &usersig.Check{AppID: c.app.SDKAppID, UserID: c.identifier, Secrets: secrets, NowS: nowS})
		if res.Code != usersig.OK {
			return res
		}
		e = &sigEntry{app: c.app, identifier: c.identifier, res: res}
		r.sigs.put(sig, e)
	}
	if c.encoded {
		r.recent.put(c.params.sig, e)
	}
	return e.res
}

// sigEntry is a good UserSig. It holds only for the very settings it was verified
// under, so a change of keys ends it, and not past its expiry.
type sigEntry struct {
	app        *directory.App // as it was then; compared by identity
	identifier string
	res        usersig.Result
}

func (e *sigEntry) holds(app *directory.App, identifier string, nowS int64) bool {
	return e.app == app && e.identifier == identifier && nowS <= e.res.EndS && e.res.TimeS-usersig.MaxAheadS <= nowS
}

// sigCache remembers good UserSigs: a backend uses the same one for many calls.
type sigCache struct {
	max     int
	evicted *metrics.Counter

	// Guarded by mu.
	mu      sync.RWMutex
	entries map[string]*sigEntry
}

func newSigCache(limit int, m *metrics.Set) *sigCache {
	return &sigCache{max: limit, evicted: m.Counter("rollcall_rest_sig_cache_evicted_total"), entries: make(map[string]*sigEntry)}
}

// get returns the entry of a UserSig, nil if there is none.
func (s *sigCache) get(sig []byte) *sigEntry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.entries[string(sig)]
}

// put adds an entry; a full cache first drops an arbitrary other one.
func (s *sigCache) put(sig []byte, e *sigEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.entries[string(sig)]; !ok && len(s.entries) >= s.max {
		for k := range s.entries {
			delete(s.entries, k)
			s.evicted.Inc()
			break
		}
	}
	s.entries[string(sig)] = e
}

// recentSigs finds the entry of a UserSig by how it stands in a URL, escapes and
// all, without decoding it and without a lock that all cores write to. Each slot
// has the last one that fell into it; the keys are compared in full.
type recentSigs struct {
	seed  maphash.Seed
	slots [64]atomic.Pointer[recentSig]
}

type recentSig struct {
	text  string
	entry *sigEntry
}

func (r *recentSigs) slot(text []byte) *atomic.Pointer[recentSig] {
	// The end of a UserSig is as good as all of it to tell those of one app apart.
	end := text[max(0, len(text)-48):]
	return &r.slots[maphash.Bytes(r.seed, end)%uint64(len(r.slots))]
}

func (r *recentSigs) get(text []byte) *sigEntry {
	if s := r.slot(text).Load(); s != nil && s.text == string(text) {
		return s.entry
	}
	return nil
}

func (r *recentSigs) put(text []byte, e *sigEntry) {
	r.slot(text).Store(&recentSig{text: string(text), entry: e})
}
