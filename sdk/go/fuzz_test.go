package rollcall

import (
	"testing"
	"testing/synctest"

	"github.com/rollcall-im/rollcall/codec"
)

// FuzzServer lets a server say anything to a client, before and after the login:
// the client ends its link or goes on, and Close always ends it.
func FuzzServer(f *testing.F) {
	ok := codec.AppendLoginOK(nil, &okAnswer)
	beat := codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	for _, said := range [][]byte{
		nil, ok, append(ok, beat...), ok[:len(ok)-1], {0xff}, {0, 0, 0xff, 0xff},
		codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeOverloaded, MayReconnect: true, RetryAfterMS: 1 << 31}),
		append(ok, codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeServerDraining, MayReconnect: true})...),
		codec.AppendRedirect(nil, &codec.Redirect{Address: "b:7700"}),
		append(ok, codec.AppendEmpty(nil, codec.TypeLogoutOK)...),
	} {
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		run(t, func(t *testing.T, fx *fixture) {
			fx.begin(t.Context())
			p := fx.accept()
			p.wantLogin(false, "")
			written := make(chan struct{})
			go func() {
				defer close(written)
				p.conn.Write(said) // the client may have hung up
				p.conn.Close()
			}()
			<-written
			synctest.Wait()
			for _, l := range fx.saw().logins {
				if len(l.Ticket) > codec.MaxTicket {
					t.Errorf("told of a ticket of %d bytes", len(l.Ticket))
				}
			}
			fx.client.Close()
			fx.wait()
		})
	})
}
