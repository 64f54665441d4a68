package attack

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Attacks on the native listener.

func slowLogins(a *Assault) {
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(i, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.trickle(c, a.loginFrame(i, []byte(strings.Repeat("x", 4000))), slowly)
	})
}

func halfOpen(a *Assault) {
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(i, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		for a.stillOpen(c, time.Minute) {
			continue
		}
	})
}

// crowding holds as many places as one address may, with logins that never end.
func crowding(a *Assault) {
	half := a.loginFrame(1, nil)
	half = half[:len(half)/2]
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(0, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if _, err := c.Write(half); err == nil {
			a.stillOpen(c, time.Minute)
		}
	})
}

// login logs the i-th attacker in with a good UserSig.
func (a *Assault) login(c net.Conn, i int) bool {
	if _, err := c.Write(a.loginFrame(i, a.sig(attacker(i)))); err != nil {
		return false
	}
	ok := a.await(c, codec.TypeLoginOK)
	if ok {
		a.count("logins")
	}
	return ok
}

// await reads frames until one of the type comes.
func (a *Assault) await(c net.Conn, want codec.Type) bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head [codec.HeaderSize]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return false
		}
		body := int64(head[2])<<8 | int64(head[3])
		if _, err := io.CopyN(io.Discard, c, body); err != nil {
			return false
		}
		if codec.Type(head[0]) == want {
			return true
		}
	}
}

func neverReading(a *Assault) {
	beats := bytes.Repeat(codec.AppendEmpty(nil, codec.TypeHeartbeat), 4096)
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetReadBuffer(4096)
		if !a.login(c, i) {
			a.pause(100 * time.Millisecond)
			return
		}
		for {
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Write(beats)
			a.counter("heartbeats").Add(int64(n / codec.HeaderSize))
			if err != nil {
				a.closedOn()
				return
			}
		}
	})
}

func floodOf(a *Assault, sources int, reset bool) {
	var next = a.counter("connections")
	a.each(a.size, func(int) {
		c := a.dial(int(next.Load())%sources, a.target.Native)
		if c == nil {
			return
		}
		if reset {
			_ = c.SetLinger(0)
		}
		c.Close()
	})
}

// bomb is a UserSig of about that many bytes which inflates by the ratio.
func bomb(ratio, size int) []byte {
	var packed bytes.Buffer
	w, _ := zlib.NewWriterLevel(&packed, zlib.BestCompression)
	if ratio < 100 { // less than zlib can do: some of it is noise
		noise := make([]byte, size/ratio)
		for i := range noise {
			noise[i] = byte(rand.Uint32())
		}
		_, _ = w.Write(noise)
	}
	_, _ = w.Write(bytes.Repeat([]byte{'{'}, size))
	_ = w.Close()
	return toSig(packed.Bytes())
}

// toSig encodes what a UserSig has packed.
func toSig(packed []byte) []byte {
	return []byte(strings.NewReplacer("+", "*", "/", "-", "=", "_").Replace(base64.StdEncoding.EncodeToString(packed)))
}

// bombs inflate 10 to 1,000 times, to as much as what fits into a frame before login.
func bombs() [][]byte {
	var all [][]byte
	for _, b := range []struct{ ratio, size int }{{10, 40 << 10}, {50, 200 << 10}, {200, 800 << 10}, {1000, 4 << 20}} {
		if s := bomb(b.ratio, b.size); len(s) <= 7<<10 {
			all = append(all, s)
		}
	}
	return all
}

func zlibBombs(a *Assault) {
	sigs := bombs()
	a.each(a.size, func(i int) { a.try(i, sigs[rand.IntN(len(sigs))]) })
}

// try sends a login that will be refused, from one of the addresses.
func (a *Assault) try(i int, sig []byte) {
	n := rand.IntN(addresses)
	if c := a.dial(n, a.target.Native); c != nil {
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(a.loginFrame(i*addresses+n, sig)); err == nil && a.await(c, codec.TypeLoginRefused) {
			a.count("logins refused")
		}
	}
}

func badUserSigs(a *Assault) {
	const wrongKey = "a key that nobody has given to the app"
	a.each(a.size, func(i int) {
		sig, err := usersig.Sign(wrongKey, a.target.App, attacker(i*addresses), time.Now().Unix(), 3600, nil)
		if err != nil {
			a.count("not signed")
			return
		}
		c := a.dial(rand.IntN(addresses), a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(a.loginFrame(i*addresses, []byte(sig))); err == nil && a.await(c, codec.TypeLoginRefused) {
			a.count("logins refused")
		}
	})
}

// oneVictim guesses at one user's UserSigs, all from one address.
func oneVictim(a *Assault) {
	a.each(a.size, func(int) {
		sig, err := usersig.Sign("a key that nobody has given to the app", a.target.App, "victim", time.Now().Unix(), int64(1+rand.IntN(1<<30)), nil)
		if err != nil {
			a.count("not signed")
			return
		}
		c := a.dial(0, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		m := codec.Login{SDKAppID: a.target.App, UserID: []byte("victim"), UserSig: []byte(sig), Platform: codec.Web, DeviceID: []byte("d")}
		if _, err := c.Write(codec.AppendLogin(nil, &m)); err == nil && a.await(c, codec.TypeLoginRefused) {
			a.count("logins refused")
		}
		a.pause(5 * time.Millisecond) // below the rate of new links, which would hide it
	})
}

// garbled are frames that no client sends.
func garbled(i int) []byte {
	switch i % 6 {
	case 0: // a login of invalid UTF-8 and NULs
		return codec.AppendLogin(nil, &codec.Login{
			SDKAppID: 1, UserID: []byte("\xff\x00\xfe"), UserSig: []byte{0, 0xff}, Platform: codec.Web, DeviceID: []byte("\xc3\x28"),
			SDKVersion: []byte("\xed\xa0\x80"), DeviceModel: []byte("\x00"),
		})
	case 1: // a length that goes beyond the limit
		return []byte{byte(codec.TypeLogin), 0x10, 0xff, 0xff, 1, 2, 3}
	case 2: // a field that is longer than its frame
		return []byte{byte(codec.TypeLogin), 0x10, 0, 3, 0x12, 0x7f, 'a'}
	case 3: // an endless varint
		return append([]byte{byte(codec.TypeLogin), 0x10, 0, 12, 0x08}, bytes.Repeat([]byte{0xff}, 11)...)
	case 4: // a heartbeat before the login
		return codec.AppendEmpty(nil, codec.TypeHeartbeat)
	}
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func garbage(a *Assault) {
	a.each(a.size, func(i int) {
		if c := a.dial(rand.IntN(addresses), a.target.Native); c != nil {
			defer a.closes(c)()
			a.ask(c, garbled(rand.IntN(6)), 10*time.Second)
			a.count("frames")
		}
	})
}

func loginLogout(a *Assault) {
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if !a.login(c, i) {
			a.pause(10 * time.Millisecond)
			return
		}
		if _, err := c.Write(codec.AppendEmpty(nil, codec.TypeLogout)); err == nil && a.await(c, codec.TypeLogoutOK) {
			a.count("logouts")
		}
	})
}

func heartbeats(a *Assault) {
	beats := bytes.Repeat(codec.AppendEmpty(nil, codec.TypeHeartbeat), 64) // as many as may come at once
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.Native)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if !a.login(c, i) {
			a.pause(100 * time.Millisecond)
			return
		}
		for !a.over() {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write(beats); err != nil {
				a.closedOn()
				return
			}
			if _, err := io.CopyN(io.Discard, c, int64(len(beats))); err != nil {
				a.closedOn()
				return
			}
			a.counter("heartbeats").Add(int64(len(beats) / codec.HeaderSize))
		}
	})
}
