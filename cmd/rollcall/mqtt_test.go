package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	mqtt5 "github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Stock MQTT clients against a server: Paho for Go, for 3.1.1 and 5.0, and Debian's mosquitto-clients.

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

// triple lets a phone, a desktop and a browser be online together.
func triple(t *testing.T, s *server) {
	t.Helper()
	s.command(t, "policy", "set", "--app", fmt.Sprint(devApp), "--preset", "triple")
}

// presenceView is what a subscriber is told.
type presenceView struct {
	UserID, Status, Action, Reason, Platform string
	Seq                                      uint64
	InstID                                   uint32
	Instances                                []struct{ Platform, Status, DeviceModel string }
}

func parsePresence(t *testing.T, payload []byte) (v presenceView) {
	t.Helper()
	if err := json.Unmarshal(payload, &v); err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return v
}

// One's own presence: what is retained, then every change of one's devices.
func TestPaho5Subscribe(t *testing.T) {
	s := running(t, startServer)
	triple(t, s)
	phone, _, err := dialPaho5(t, s, "a/b", "phone", codec.Android, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan mqtt5.PublishReceived, 16)
	phone.AddOnPublishReceived(func(p mqtt5.PublishReceived) (bool, error) { got <- p; return true, nil })
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	topic := mqtt.Topic("a/b")
	ack, err := phone.Subscribe(ctx, &mqtt5.Subscribe{Subscriptions: []mqtt5.SubscribeOptions{{Topic: topic, QoS: 1}, {Topic: "presence/bob"}}})
	if err == nil || ack == nil || len(ack.Reasons) != 2 || ack.Reasons[0] != 0 || ack.Reasons[1] != 0x87 { // the client calls a part that failed an error
		t.Fatalf("SUBACK %+v, %v", ack, err)
	}
	p := within(t, got, "the state").Packet
	v := parsePresence(t, p.Payload)
	if !p.Retain || p.Topic != topic || v.UserID != "a/b" || v.Status != "Online" || len(v.Instances) != 1 || v.Instances[0].DeviceModel != "Model of phone" || v.Action != "" {
		t.Errorf("the state: %+v %+v", p, v)
	}
	seq := v.Seq
	want := func(action, reason, platform string, instances int) {
		t.Helper()
		p := within(t, got, action).Packet
		v := parsePresence(t, p.Payload)
		if p.Retain || v.Seq != seq+1 || v.Action != action || v.Reason != reason || v.Platform != platform || len(v.Instances) != instances {
			t.Errorf("after %d: %+v %+v", seq, p, v)
		}
		seq = v.Seq
	}
	web, _, err := dialPaho5(t, s, "a/b", "browser", codec.Web, nil)
	if err != nil {
		t.Fatal(err)
	}
	want("Login", "Register", "Web", 2)
	login(t, s.addr["native"], "a/b", codec.Windows) // over another protocol
	want("Login", "Register", "Windows", 3)
	if err := web.Disconnect(&mqtt5.Disconnect{ReasonCode: 4}); err != nil {
		t.Fatal(err)
	}
	want("Disconnect", "LinkClose", "Web", 2)
	un, err := phone.Unsubscribe(ctx, &mqtt5.Unsubscribe{Topics: []string{topic, topic}})
	if err != nil || len(un.Reasons) != 2 || un.Reasons[0] != 0 || un.Reasons[1] != 0x11 {
		t.Errorf("UNSUBACK %+v, %v", un, err)
	}
}

func TestPaho311Subscribe(t *testing.T) {
	s := running(t, startServer)
	triple(t, s)
	phone := newPaho3(t, s, "alice", "phone", codec.Android, true)
	done(t, phone.Connect())
	got := make(chan mqtt3.Message, 16)
	done(t, phone.Subscribe("presence/alice", 2, func(_ mqtt3.Client, m mqtt3.Message) { got <- m }))
	m := within(t, got, "the state")
	if v := parsePresence(t, m.Payload()); !m.Retained() || m.Qos() != 0 || v.Status != "Online" || len(v.Instances) != 1 {
		t.Errorf("the state: %+v", v)
	}
	done(t, newPaho3(t, s, "alice", "browser", codec.Web, true).Connect())
	m = within(t, got, "the login")
	if v := parsePresence(t, m.Payload()); m.Retained() || v.Action != "Login" || v.Platform != "Web" || len(v.Instances) != 2 {
		t.Errorf("the login: %+v", v)
	}
	token := phone.Subscribe("presence/bob", 0, nil)
	if !token.WaitTimeout(deadline) || token.(*mqtt3.SubscribeToken).Result()["presence/bob"] != 0x80 {
		t.Errorf("others' presence: %v", token.(*mqtt3.SubscribeToken).Result())
	}
	done(t, phone.Unsubscribe("presence/alice"))
}

// mosquitto runs one of Debian's clients against the server. It ends with the test.
func mosquitto(t *testing.T, s *server, program, version, user, device string, args ...string) (cmd *exec.Cmd, out *bufio.Reader, log *syncBuffer) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs mosquitto-clients, and it is not here")
		}
		t.Skip("mosquitto-clients is not installed; Debian has it")
	}
	host, port, _ := net.SplitHostPort(s.addr["mqtt"])
	cmd = exec.Command(path, append([]string{"-V", version, "-h", host, "-p", port, "-i", device, "-u", mqtt.UserName(devApp, user, codec.Android)}, args...)...)
	log = new(syncBuffer)
	cmd.Stderr = log
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(deadline, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Kill()
		cmd.Wait() //nolint:errcheck // mostly killed, or waited for already
		if t.Failed() {
			t.Logf("%s said:\n%s", program, log)
		}
	})
	return cmd, bufio.NewReader(pipe), log
}

// mosquitto_sub logs in, sees its user's presence, hears of a change, logs out.
func TestMosquittoSub(t *testing.T) {
	s := running(t, startServer)
	triple(t, s)
	for version, user := range map[string]string{"mqttv311": "alice", "mqttv5": "bob"} {
		cmd, out, _ := mosquitto(t, s, "mosquitto_sub", version, user, "phone", "-P", userSig(t, user), "-t", mqtt.Topic(user), "-v", "-C", "2")
		line := func() presenceView {
			t.Helper()
			text, err := out.ReadString('\n')
			topic, payload, _ := strings.Cut(text, " ")
			if err != nil || topic != mqtt.Topic(user) {
				t.Fatalf("%s printed %q, %v", version, text, err)
			}
			return parsePresence(t, []byte(payload))
		}
		if v := line(); v.UserID != user || v.Status != "Online" || len(v.Instances) != 1 {
			t.Errorf("%s: the state is %+v", version, v)
		}
		login(t, s.addr["native"], user, codec.Windows)
		if v := line(); v.Action != "Login" || v.Platform != "Windows" || len(v.Instances) != 2 {
			t.Errorf("%s: the change is %+v", version, v)
		}
		if err := cmd.Wait(); err != nil { // after two messages it disconnects
			t.Errorf("%s ended with %v", version, err)
		}
	}
}

// A client that reconnects by itself (-c: no clean session) does not push back
// the device that pushed it out: on 5.0 it hears why its link ends, and leaves it
// at that; on 3.1.1 it tries again, is refused, and ends.
func TestMosquittoForcedOffline(t *testing.T) {
	s := running(t, startServer)
	for version, user := range map[string]string{"mqttv311": "alice", "mqttv5": "bob"} {
		cmd, out, log := mosquitto(t, s, "mosquitto_sub", version, user, "phone-1", "-c", "-P", userSig(t, user), "-t", mqtt.Topic(user), "-d")
		for text := ""; !strings.Contains(text, "Instances"); {
			var err error
			if text, err = out.ReadString('\n'); err != nil {
				t.Fatal(err, log)
			}
		}
		second := login(t, s.addr["native"], user, codec.IPhone)
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		said := string(rest) + log.String()
		want, good := "not authorised", err != nil
		if version == "mqttv5" {
			want, good = "Received DISCONNECT (142)", err == nil // 0x8E
		}
		if !good || !strings.Contains(said, want) {
			t.Errorf("%s ended with %v, and said %s", version, err, said)
		}
		second.heartbeat(t)
		wantStatus(t, s, user, "Online")
	}
}

// A bad UserSig, and a PUBLISH, are refused by the standard's codes.
func TestMosquittoRefused(t *testing.T) {
	s := running(t, startServer)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		cmd, out, log := mosquitto(t, s, "mosquitto_sub", version, "alice", "phone", "-P", "nonsense", "-t", "presence/alice")
		io.Copy(io.Discard, out) //nolint:errcheck // until it ends
		if err := cmd.Wait(); err == nil || !strings.Contains(strings.ToLower(log.String()), "bad user name or password") {
			t.Errorf("%s ended with %v, and said %s", version, err, log)
		}
	}
	cmd, out, log := mosquitto(t, s, "mosquitto_pub", "mqttv5", "alice", "phone", "-P", userSig(t, "alice"), "-t", mqtt.TopicSelf, "-m", "busy", "-q", "1")
	io.Copy(io.Discard, out)                                  //nolint:errcheck // until it ends
	cmd.Wait()                                                //nolint:errcheck // it says that it failed, and ends with 0
	if !strings.Contains(log.String(), "QoS not supported") { // Maximum QoS 0 [MQTT-3.2.2-11]
		t.Errorf("mosquitto_pub said %s", log)
	}
}

// The first example of docs/mqtt.md, as it stands but for port and path, after what README has newcomers do first.
func TestMosquittoPage(t *testing.T) {
	s := running(t, startServer)
	login(t, s.addr["native"], "alice", codec.Android)
	_, rest, _ := strings.Cut(string(readFile(t, "../../docs/mqtt.md")), "\n```\nmosquitto_sub ")
	example, _, ok := strings.Cut(rest, "\n```\n")
	if !ok {
		t.Fatal("the page has no example that begins with mosquitto_sub")
	}
	_, port, _ := net.SplitHostPort(s.addr["mqtt"])
	script := "mosquitto_sub -p " + port + " -C 1 " + strings.ReplaceAll(example, "bin/rollcall", "rollcall")
	if _, err := exec.LookPath("mosquitto_sub"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs mosquitto-clients, and it is not here")
		}
		t.Skip("mosquitto-clients is not installed; Debian has it")
	}
	cmd := exec.Command("sh", "-c", "rollcall() { "+asServer+"=1 "+os.Args[0]+` "$@"; }`+"\n"+script)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"DeviceModel":"Pixel 9"`) {
		t.Errorf("the example ended with %v, and printed\n%s", err, out)
	}
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
