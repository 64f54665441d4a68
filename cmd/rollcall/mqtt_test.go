package main

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	mqtt5 "github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Stock MQTT clients against a server: Paho for Go, for 3.1.1 and 5.0.

// userSig signs for a user of the demo app.
func userSig(t *testing.T, user string) string {
	t.Helper()
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// wantStatus waits until the REST API answers the status.
func wantStatus(t *testing.T, s *server, user, want string) {
	t.Helper()
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if last = queryStatus("http://"+s.addr["api"], user); last == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %q", user, last, want)
}

// within returns what comes from c, and fails if nothing does.
func within[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(deadline):
		t.Fatalf("%s did not come", what)
	}
	return v
}

// paho3 is a 3.1.1 client.
type paho3 struct {
	mqtt3.Client
	lost chan error
}

func newPaho3(t *testing.T, s *server, user, device string, p codec.Platform, clean bool) *paho3 {
	t.Helper()
	c := &paho3{lost: make(chan error, 1)}
	o := mqtt3.NewClientOptions().AddBroker("tcp://" + s.addr["mqtt"]).SetProtocolVersion(4).
		SetClientID(device).SetUsername(mqtt.UserName(devApp, user, p)).SetPassword(userSig(t, user)).
		SetCleanSession(clean).SetAutoReconnect(false).SetConnectRetry(false).SetKeepAlive(time.Second).
		SetConnectionLostHandler(func(_ mqtt3.Client, err error) { c.lost <- err })
	c.Client = mqtt3.NewClient(o)
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// done waits for what the client was asked to do.
func done(t *testing.T, token mqtt3.Token) {
	t.Helper()
	if !token.WaitTimeout(deadline) || token.Error() != nil {
		t.Fatal(token.Error())
	}
}

func TestPaho311(t *testing.T) {
	s := running(t, startServer)
	first := newPaho3(t, s, "alice", "phone-1", codec.Android, true)
	done(t, first.Connect())
	wantStatus(t, s, "alice", "Online")

	second := newPaho3(t, s, "alice", "phone-2", codec.Android, true)
	done(t, second.Connect()) // one phone at a time: the first is forced offline
	within(t, first.lost, "the end of the first link")

	back := newPaho3(t, s, "alice", "phone-1", codec.Android, false) // a resume pushes nobody out
	token := back.Connect()
	if !token.WaitTimeout(deadline) || token.Error() == nil || token.(*mqtt3.ConnectToken).ReturnCode() != 5 {
		t.Fatalf("a resume after the kick: %v, code %d", token.Error(), token.(*mqtt3.ConnectToken).ReturnCode())
	}

	again := newPaho3(t, s, "alice", "phone-2", codec.Android, false) // the second is still there: taken back
	token = again.Connect()
	done(t, token)
	if !token.(*mqtt3.ConnectToken).SessionPresent() {
		t.Error("the instance was taken back, Session Present is false")
	}
	within(t, second.lost, "the end of the replaced link")
	again.Disconnect(1000) // a logout; 0 would not wait until it is sent
	wantStatus(t, s, "alice", "Offline")
}

// paho5 is a 5.0 client.
type paho5 struct {
	*mqtt5.Client
	told chan *mqtt5.Disconnect
	lost chan error
}

// dialPaho5 logs a device in.
func dialPaho5(t *testing.T, s *server, user, device string, p codec.Platform, more func(*mqtt5.Connect)) (*paho5, *mqtt5.Connack, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr["mqtt"], deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &paho5{told: make(chan *mqtt5.Disconnect, 1), lost: make(chan error, 16)}
	c.Client = mqtt5.NewClient(mqtt5.ClientConfig{
		Conn:               conn,
		OnServerDisconnect: func(d *mqtt5.Disconnect) { c.told <- d },
		OnClientError: func(err error) {
			select {
			case c.lost <- err:
			default:
			}
		},
	})
	cp := &mqtt5.Connect{
		KeepAlive: 30, ClientID: device, CleanStart: true, Username: mqtt.UserName(devApp, user, p), Password: []byte(userSig(t, user)),
		UsernameFlag: true, PasswordFlag: true, Properties: &mqtt5.ConnectProperties{RequestProblemInfo: true},
	}
	cp.Properties.User.Add("sdk-version", "1.2.3").Add("device-model", "Model of "+device)
	if more != nil {
		more(cp)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	ack, err := c.Connect(ctx, cp)
	return c, ack, err
}

func TestPaho5(t *testing.T) {
	s := running(t, startServer)
	first, ack, err := dialPaho5(t, s, "alice", "phone-1", codec.Android, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := ack.Properties
	if ack.SessionPresent || *p.ServerKeepAlive != 120 || *p.MaximumQoS != 0 || p.RetainAvailable || p.WildcardSubAvailable || p.SubIDAvailable || p.SharedSubAvailable ||
		*p.MaximumPacketSize != mqtt.MaxPacket || *p.SessionExpiryInterval != 0 || p.User.Get("inst-id") != "1" || p.User.Get("ticket") == "" {
		t.Errorf("CONNACK %+v", ack)
	}
	wantStatus(t, s, "alice", "Online")

	second, _, err := dialPaho5(t, s, "alice", "phone-2", codec.Android, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := within(t, first.told, "DISCONNECT of the first")
	if u := d.Properties.User; d.ReasonCode != 0x8e || d.Properties.ReasonString == "" || u.Get("code") != "6001" || u.Get("by-platform") != "Android" ||
		u.Get("by-device-model") != "Model of phone-2" || u.Get("time") == "" || u.Get("may-reconnect") != "false" {
		t.Errorf("DISCONNECT %#x %+v", d.ReasonCode, d.Properties)
	}

	// A resume without the ticket, by the UserSig, after the kick: refused.
	_, ack, err = dialPaho5(t, s, "alice", "phone-1", codec.Android, func(cp *mqtt5.Connect) { cp.CleanStart = false })
	if err == nil || ack == nil || ack.ReasonCode != 0x87 || ack.Properties.User.Get("code") != "6208" {
		t.Errorf("a resume after the kick: %v, %+v", err, ack)
	}
	if err := second.Disconnect(&mqtt5.Disconnect{ReasonCode: 0}); err != nil { // a logout
		t.Fatal(err)
	}
	wantStatus(t, s, "alice", "Offline")
}

// A phone whose link is lost, or that leaves with 0x04, is PushOnline, and its
// ticket takes the instance back.
func TestPaho5Resume(t *testing.T) {
	s := running(t, startServer)
	first, ack, err := dialPaho5(t, s, "bob", "phone", codec.IPhone, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Disconnect(&mqtt5.Disconnect{ReasonCode: 4}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s, "bob", "PushOnline")
	_, back, err := dialPaho5(t, s, "bob", "phone", codec.IPhone, func(cp *mqtt5.Connect) {
		cp.CleanStart, cp.Password = false, nil
		cp.Properties.User.Add("ticket", ack.Properties.User.Get("ticket"))
	})
	if err != nil || !back.SessionPresent || back.Properties.User.Get("inst-id") != ack.Properties.User.Get("inst-id") {
		t.Fatalf("a resume by ticket: %v, %+v", err, back)
	}
	wantStatus(t, s, "bob", "Online")
}

// The server goes down: its clients hear it.
func TestPahoDrain(t *testing.T) {
	s := running(t, startServer)
	c, _, err := dialPaho5(t, s, "carol", "phone", codec.Android, nil)
	if err != nil {
		t.Fatal(err)
	}
	old := newPaho3(t, s, "dave", "phone", codec.Android, true)
	done(t, old.Connect())
	if err := s.terminate(); err != nil {
		t.Fatal(err)
	}
	if d := within(t, c.told, "DISCONNECT"); d.ReasonCode != 0x8b || d.Properties.User.Get("may-reconnect") != "true" {
		t.Errorf("DISCONNECT %#x %+v", d.ReasonCode, d.Properties)
	}
	if err := within(t, old.lost, "the end of the link"); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the 3.1.1 client lost its link by %v", err)
	}
}
