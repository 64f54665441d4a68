//go:build !race

package shard

import "github.com/rollcall-im/rollcall/internal/presence"

// lend hands the table's own user to a visitor.
func lend(u *presence.User, visit func(*presence.User)) { visit(u) }
