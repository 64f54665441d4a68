// Package rollcall keeps one device of one user logged in to a Rollcall server.
//
// A Client logs in, sends heartbeats at the interval the server asks for, and
// when the link is lost comes back by itself, with back-off and jitter, using
// the session ticket of its last login. Such a return never pushes another
// device out; only the first login does, because a person asked for it.
//
//	c, err := rollcall.New(rollcall.Options{
//		Addr:     "presence.example.com:7700",
//		SDKAppID: 1400000000,
//		UserID:   "alice",
//		UserSig:  fetchUserSig, // func(context.Context) (string, error)
//		Platform: codec.Android,
//		DeviceID: installID, // chosen once per install and kept
//	})
//	if err != nil { ... }
//	err = c.Run(ctx)
//
// Run ends when it makes no sense to go on: with nil after Logout, with a
// *ForcedOfflineError or *RefusedError when the server says that the client may
// not come back by itself, with ErrClosed after Close, with the context's error.
// What to tell the person is in the error's Code and Text:
//
//	var forced *rollcall.ForcedOfflineError
//	if errors.As(err, &forced) && forced.Code == codec.CodeAnotherLogin {
//		fmt.Println("logged in elsewhere on", forced.ByPlatform, forced.ByDeviceModel)
//	}
//
// After such an end make a new Client, when the person logs in again.
//
// A UserSig and a ticket are passwords for their time: on a network that is not yours, set Options.TLSConfig and
// connect to the server's TLS listener, port 8700 by default. An empty &tls.Config{} checks the server's certificate
// against the system's authorities.
//
// Logout tells the server that the person left: no instance remains. Close just
// drops the link: a mobile device stays reachable by push.
//
// An app that wants to come back as the same instance after its process was
// restarted keeps Login.Ticket from OnLogin and passes it as Options.Ticket.
package rollcall
