package store

// The first byte of each key says whose it is. This table is the only place
// that gives prefixes out; what follows the prefix is its owner's affair.
const (
	PrefixMeta        = 'm' // the store itself, and small facts of a node: boot epoch, alive stamp
	PrefixUsers       = 'u' // internal/embedded: one record per user
	PrefixApps        = 'a' // internal/embedded: one record per app
	PrefixOutbox      = 'o' // internal/webhook: events to be delivered
	PrefixDeadLetters = 'd' // internal/webhook: events given up
	PrefixEventLog    = 'e' // internal/webhook: events for the pull API
)

// Prefixes are all prefixes with the names that dump and check show.
var Prefixes = []struct {
	Prefix byte
	Name   string
}{
	{PrefixMeta, "meta"}, {PrefixUsers, "users"}, {PrefixApps, "apps"},
	{PrefixOutbox, "outbox"}, {PrefixDeadLetters, "dead letters"}, {PrefixEventLog, "event log"},
}

const lastPrefix = PrefixUsers

// Format is the version of all that is written under the keys. A store of a
// higher one is refused; of a lower one its owners read it and write this one.
const Format = 1

// keyFormat holds the format as a decimal number.
var keyFormat = []byte{PrefixMeta, 'f', 'o', 'r', 'm', 'a', 't'}

// Bounds returns the range of the keys that begin with prefix, as Scan takes it.
func Bounds(prefix ...byte) (lower, upper []byte) {
	upper = append([]byte(nil), prefix...)
	for i := len(upper) - 1; i >= 0; i-- {
		if upper[i]++; upper[i] != 0 {
			return prefix, upper[:i+1]
		}
	}
	return prefix, nil // all 0xff: to the end
}
