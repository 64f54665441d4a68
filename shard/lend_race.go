//go:build race

package shard

import (
	"reflect"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// lend hands a visitor a copy and poisons it when the visit is over. It panics
// if the visitor changed it.
func lend(u *presence.User, visit func(*presence.User)) {
	c := u.Clone()
	visit(&c)
	if want := u.Clone(); !reflect.DeepEqual(c, want) {
		panic("shard: a visitor changed the user that it was lent")
	}
	for i := range c.Instances {
		c.Instances[i] = presence.Instance{InstID: poison, Status: 0xdd, LoginMS: -poison}
	}
	c.Seq, c.EventSeq, c.LastInstID, c.LastSeenMS, c.CustomStatus = poison, poison, poison, -poison, "used after the visit"
	c.Registered = !c.Registered
}

// poison is a number that no test takes for a good one.
const poison = 0xdeaddead
