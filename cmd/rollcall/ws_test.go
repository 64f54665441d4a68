package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// wsClient is a client that knows nothing of ours but the page on WebSocket.
type wsClient struct {
	t    *testing.T
	conn *websocket.Conn
}

func dialWS(t *testing.T, s *server, protocol, origin string) *wsClient {
	t.Helper()
	return dialWSAt(t, "ws://"+s.addr["ws"]+"/v1", http.DefaultClient, protocol, origin)
}

func dialWSAt(t *testing.T, url string, client *http.Client, protocol, origin string) *wsClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	o := &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"unknown", protocol}, HTTPHeader: http.Header{}}
	if origin != "" {
		o.HTTPHeader.Set("Origin", origin)
	}
	conn, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	if conn.Subprotocol() != protocol {
		t.Fatalf("the server speaks %q, want %q", conn.Subprotocol(), protocol)
	}
	return &wsClient{t, conn}
}

func (c *wsClient) send(kind websocket.MessageType, p []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	if err := c.conn.Write(ctx, kind, p); err != nil {
		c.t.Fatal(err)
	}
}

func (c *wsClient) receive(kind websocket.MessageType) []byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	got, p, err := c.conn.Read(ctx)
	if err != nil || got != kind {
		c.t.Fatalf("%v %q: %v", got, p, err)
	}
	return p
}

// say sends a JSON message, hear takes one.
func (c *wsClient) say(fields map[string]any) {
	c.t.Helper()
	p, err := json.Marshal(fields) // names in alphabetical order: Type is not the first
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(websocket.MessageText, p)
}

func (c *wsClient) hear(want string) (m map[string]any) {
	c.t.Helper()
	p := c.receive(websocket.MessageText)
	if err := json.Unmarshal(p, &m); err != nil || m["Type"] != want {
		c.t.Fatalf("heard %s, want %s (%v)", p, want, err)
	}
	return m
}

func (c *wsClient) login(user, device string) map[string]any {
	c.t.Helper()
	c.say(c.loginFields(user, device))
	return c.hear("LoginOK")
}

func (c *wsClient) loginFields(user, device string) map[string]any {
	c.t.Helper()
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return map[string]any{"Type": "Login", "SDKAppID": devApp, "UserID": user, "UserSig": sig, "Platform": "Web", "DeviceID": device, "DeviceModel": "a page"}
}

// pingAndBeat sends a ping and, once it is answered, a heartbeat. The client's
// library sees the pong while somebody reads.
func (c *wsClient) pingAndBeat() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := c.conn.Ping(ctx)
		if err == nil {
			err = c.conn.Write(ctx, websocket.MessageText, []byte(`{"Type":"Heartbeat"}`))
		}
		done <- err
	}()
	c.hear("HeartbeatOK")
	if err := <-done; err != nil {
		c.t.Fatal(err)
	}
}

// closed reads to the Close frame.
func (c *wsClient) closed(code int, reason string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), deadline)
	defer cancel()
	_, p, err := c.conn.Read(ctx)
	var end websocket.CloseError
	if !errors.As(err, &end) || int(end.Code) != code || end.Reason != reason {
		c.t.Fatalf("read %q, %v, want close %d %q", p, err, code, reason)
	}
}

func TestWebSocketJSON(t *testing.T) {
	s := running(t, startServer)
	first := dialWS(t, s, "rollcall.json.v1", "https://anywhere.example")
	ok := first.login("alice", "tab-1")
	if ok["InstID"] == 0.0 || ok["Ticket"] == "" || ok["HeartbeatIntervalMS"] != 20000.0 || ok["SilenceTimeoutMS"] != 60000.0 {
		t.Errorf("logged in with %v", ok)
	}
	waitStatus(t, s, "alice", "Online")
	if got := consoleUser(t, s, "alice"); !strings.Contains(got, `"Protocol":"ws"`) || !strings.Contains(got, `"Listener":"ws"`) {
		t.Errorf("the console shows %s", got)
	}
	first.pingAndBeat()

	second := dialWS(t, s, "rollcall.json.v1", "")
	kicked := second.login("alice", "tab-2")["Kicked"]
	if want := fmt.Sprintf("[map[InstID:%v Platform:Web]]", ok["InstID"]); fmt.Sprint(kicked) != want {
		t.Errorf("kicked %v, want %s", kicked, want)
	}
	forced := first.hear("ForcedOffline")
	if forced["Code"] != 6001.0 || forced["Name"] != "AnotherLogin" || forced["ByPlatform"] != "Web" || forced["ByDeviceModel"] != "a page" || forced["MayReconnect"] != false {
		t.Errorf("forced offline with %v", forced)
	}
	first.closed(4101, "AnotherLogin")

	if err := second.conn.Close(websocket.StatusNormalClosure, "the page was left"); err != nil {
		t.Errorf("the server did not answer the Close frame: %v", err)
	}
	waitStatus(t, s, "alice", "Offline")

	third := dialWS(t, s, "rollcall.json.v1", "")
	third.login("alice", "tab-1")
	third.say(map[string]any{"Type": "Logout"})
	third.hear("LogoutOK")
	third.closed(1000, "LogoutOK")
	waitStatus(t, s, "alice", "Offline")
	if m := get(t, "http://"+s.addr["admin"]+"/metrics"); !strings.Contains(m, "\nrollcall_websocket_handshakes_total{status=\"101\"} 3\n") || !strings.Contains(m, "\nrollcall_links{protocol=\"ws\"} ") {
		t.Error("the metrics do not show three handshakes")
	}
}

func TestWebSocketBinary(t *testing.T) {
	s := running(t, startServer)
	c := dialWS(t, s, "rollcall.v1", "")
	sig, err := usersig.Sign(devKey, devApp, "bob", time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.send(websocket.MessageBinary, codec.AppendLogin(nil, &codec.Login{SDKAppID: devApp, UserID: []byte("bob"), UserSig: []byte(sig), Platform: codec.Android, DeviceID: []byte("d")}))
	f, _, err := codec.Next(c.receive(websocket.MessageBinary), codec.MaxFrame)
	if err != nil || f.Type != codec.TypeLoginOK {
		t.Fatalf("%v, %v", f.Type, err)
	}
	waitStatus(t, s, "bob", "Online")

	// In pieces: the client's library makes a frame of each Write.
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	w, err := c.conn.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	big := append(codec.AppendHeader(nil, 40, codec.FlagOptional, 60_000), make([]byte, 60_000)...)
	for _, piece := range [][]byte{big[:1], big[1:5000], big[5000:]} {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	beat := codec.AppendEmpty(nil, codec.TypeHeartbeat)
	c.send(websocket.MessageBinary, beat)
	if got := c.receive(websocket.MessageBinary); !bytes.Equal(got, codec.AppendEmpty(nil, codec.TypeHeartbeatOK)) {
		t.Fatalf("answered with %x", got)
	}
	c.send(websocket.MessageText, beat)
	f, _, err = codec.Next(c.receive(websocket.MessageBinary), codec.MaxFrame)
	if err != nil || f.Type != codec.TypeForcedOffline {
		t.Fatalf("%v, %v", f.Type, err)
	}
	c.closed(1003, "UnsupportedData")
	waitStatus(t, s, "bob", "PushOnline") // a lost link of a phone
}

// A stop is told to WebSocket clients as to others, and is no disconnect.
func TestWebSocketStop(t *testing.T) {
	s := running(t, startServer)
	c := dialWS(t, s, "rollcall.json.v1", "")
	c.login("alice", "tab-1")
	ended := make(chan error, 1)
	go func() { ended <- s.terminate() }()
	if m := c.hear("ForcedOffline"); m["Code"] != 5002.0 || m["MayReconnect"] != true || m["RetryAfterMS"] == 0.0 {
		t.Errorf("told %v", m)
	}
	c.closed(1001, "ServerDraining")
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func TestWebSocketOrigins(t *testing.T) {
	s := running(t, startServer)
	req, err := http.NewRequest("PATCH", fmt.Sprintf("http://%s/console/v1/apps/%d", s.addr["admin"], devApp), strings.NewReader(`{"AllowedOrigins":["https://chat.example.com"]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.DevToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	dialWS(t, s, "rollcall.json.v1", "https://chat.example.com").login("alice", "tab-1")
	stranger := dialWS(t, s, "rollcall.json.v1", "https://evil.example")
	stranger.say(stranger.loginFields("bob", "tab-1"))
	if m := stranger.hear("LoginRefused"); m["Code"] != 4012.0 || m["Name"] != "OriginNotAllowed" {
		t.Errorf("refused with %v", m)
	}
	stranger.closed(1008, "OriginNotAllowed")
}

// What is no WebSocket client gets an HTTP answer.
func TestWebSocketHTTP(t *testing.T) {
	s := running(t, startServer)
	for path, want := range map[string]int{"/": 404, "/v1": 426} {
		resp, err := http.Get("http://" + s.addr["ws"] + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != want || len(body) == 0 {
			t.Errorf("GET %s: %s %q, %v, want %d", path, resp.Status, body, err, want)
		}
	}
}

// consoleUser is what the console shows of a user.
func consoleUser(t *testing.T, s *server, user string) string {
	t.Helper()
	req, err := http.NewRequest("GET", fmt.Sprintf("http://%s/console/v1/apps/%d/users/%s", s.addr["admin"], devApp, user), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.DevToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
