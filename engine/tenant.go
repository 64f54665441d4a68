package engine

import (
	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// tenant is an app as a login needs it.
type tenant struct {
	app     *directory.App
	secrets []string // of app.Keys
	// fingerprint stands for secrets among the verified UserSigs.
	fingerprint usersig.Fingerprint
}

// tenants keeps what a loop derived from apps, by SDKAppID. An entry is good as
// long as the Directory answers the same immutable App.
type tenants struct {
	byID map[uint32]*tenant
}

// maxTenants bounds the entries; beyond it they are derived anew.
const maxTenants = 4096

// find returns the app, or why nobody can log in to it.
func (t *tenants) find(d directory.Directory, id uint32) (*tenant, refusal) {
	app := d.App(id)
	if app == nil {
		delete(t.byID, id)
		return nil, refusal{code: codec.CodeUnknownApp}
	}
	if len(app.Keys) == 0 {
		return nil, refusal{code: codec.CodeAppWithoutKey}
	}
	if e := t.byID[id]; e != nil && e.app == app {
		return e, refusal{}
	}
	if t.byID == nil || len(t.byID) >= maxTenants {
		t.byID = make(map[uint32]*tenant)
	}
	e := &tenant{app: app}
	for i := range app.Keys {
		e.secrets = append(e.secrets, app.Keys[i].Secret)
	}
	e.fingerprint = usersig.FingerprintOf(e.secrets)
	t.byID[id] = e
	return e, refusal{}
}
