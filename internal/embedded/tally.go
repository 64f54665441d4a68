package embedded

import (
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// What is counted: registered users by status, instances by status.
const (
	usersOffline = iota
	usersPushOnline
	usersOnline
	instancesPushOnline
	instancesOnline
	instancesOrphan // Online on a link of an earlier run; counted in instancesOnline too
	tallyEnd
)

// tally counts committed states, or what a decision changes about them.
type tally [tallyEnd]int64

// tallyOf counts one user.
func tallyOf(u *presence.User) (t tally) {
	for i := range u.Instances {
		if u.Instances[i].Status == presence.Online {
			t[instancesOnline]++
			if u.Instances[i].IsOrphan() {
				t[instancesOrphan]++
			}
		} else {
			t[instancesPushOnline]++
		}
	}
	if u.Registered {
		t[usersOffline+int(u.Status())]++
	}
	return t
}

func (t tally) minus(o tally) tally {
	for i := range t {
		t[i] -= o[i]
	}
	return t
}

// sharedTally is written by a lane's owner and read by anybody.
type sharedTally [tallyEnd]atomic.Int64

func (s *sharedTally) add(delta tally) {
	for i, n := range delta {
		if n != 0 {
			s[i].Add(n)
		}
	}
}

func (s *sharedTally) load() (t tally) {
	for i := range s {
		t[i] = s[i].Load()
	}
	return t
}
