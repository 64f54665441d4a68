package embedded

import (
	"bytes"
	"fmt"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
)

// CheckRecord reports what is wrong with a record that the directory writes; of
// other keys it knows nothing.
func CheckRecord(key, value []byte) error {
	_, err := DescribeRecord(key, value)
	return err
}

// StoredUser is a user as a dump shows it.
type StoredUser struct {
	Key   presence.Key
	Epoch uint64 // the run of the node that wrote it
	presence.User
}

// StoredApp is an app as a dump shows it: without its secrets.
type StoredApp struct {
	*directory.App
	TicketKey string // in the place of App's
}

// SignOfLife returns when the node was alive last, if the key is that of such a sign.
func SignOfLife(key, value []byte) (at time.Time, ok bool) {
	if !bytes.HasPrefix(key, alivePrefix) || checkMeta(key, value) != nil {
		return time.Time{}, false
	}
	ms, _ := readNumber(value) // checked
	return time.UnixMilli(int64(ms)), true
}

// DescribeRecord returns what a record of the journal says, as a value for
// JSON: a StoredUser, a StoredApp, or nil for a key of
// somebody else.
func DescribeRecord(key, value []byte) (any, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("key %q: %w", key, errRecord)
	}
	switch key[0] {
	case store.PrefixUsers:
		k, err := parseUserKey(key)
		if err != nil {
			return nil, err
		}
		u := StoredUser{Key: k}
		u.Epoch, err = readRecord(value, &u.User)
		return u, err
	case store.PrefixApps:
		a, err := readApp(key, value)
		if err != nil {
			return nil, err
		}
		return hideSecrets(a), nil
	case store.PrefixMeta:
		return nil, checkMeta(key, value)
	}
	return nil, nil
}

// checkMeta reports what is wrong with the facts of a run of the node.
func checkMeta(key, value []byte) error {
	alive := bytes.HasPrefix(key, alivePrefix)
	if !alive && !bytes.Equal(key, keyBoot) {
		return nil
	}
	_, err := readNumber(value)
	if alive && len(key) != len(alivePrefix)+8 {
		err = errRecord
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	return nil
}

// hidden stands in a dump for a secret.
const hidden = "(hidden)"

func hideSecrets(a *directory.App) StoredApp {
	for i := range a.Keys {
		a.Keys[i].Secret = hidden
	}
	if a.Webhook.Token != "" {
		a.Webhook.Token = hidden
	}
	if a.Webhook.URL != "" {
		a.Webhook.URL = hidden // a query may hold a secret
	}
	return StoredApp{App: a, TicketKey: hidden}
}
