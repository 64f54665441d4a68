package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/api"
	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// TestDemoPage: --dev says where the page is, and tells it what was bound and a key that works.
func TestDemoPage(t *testing.T) {
	if new(node).demo(&config.Config{}) != nil {
		t.Error("there is a demo page without --dev")
	}
	s := running(t, startServer)
	page := "http://" + s.addr["admin"] + "/demo/"
	said := make(chan bool, 1)
	go func() {
		for {
			line, err := s.out.ReadString('\n')
			if err != nil || strings.Contains(line, page) {
				said <- err == nil
				return
			}
		}
	}()
	select {
	case ok := <-said:
		if !ok {
			t.Error("the server does not say where the demo page is")
		}
	case <-time.After(deadline):
		t.Fatal("the server does not say where the demo page is")
	}
	if html := get(t, page); !strings.Contains(html, `src="demo.js"`) {
		t.Errorf("the page is %.200s", html)
	}
	var d api.Demo
	if err := json.Unmarshal([]byte(get(t, page+"config.json")), &d); err != nil {
		t.Fatal(err)
	}
	want := api.Demo{
		SDKAppID: config.DevAppID, Key: config.DevKey, Administrator: "administrator",
		WS: "ws://" + s.addr["ws"] + "/v1", API: "http://" + s.addr["api"],
	}
	if d != want {
		t.Errorf("the page is told %+v, want %+v", d, want)
	}
	sig, err := usersig.Sign(d.Key, d.SDKAppID, d.Administrator, time.Now().Unix(), 60, nil)
	if err != nil {
		t.Fatal(err)
	}
	url := d.API + "/v4/openim/query_online_status?sdkappid=1400000000&identifier=" + d.Administrator + "&usersig=" + sig
	resp, err := http.Post(url, "text/plain", strings.NewReader(`{"To_Account":["nobody"]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ ErrorCode int }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.ErrorCode != 70107 {
		t.Errorf("a query with the page's key: %+v, %v", answer, err)
	}
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("the page may not read the answer: Access-Control-Allow-Origin %q", got)
	}
}
