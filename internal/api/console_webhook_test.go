package api

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// newWebhookRig is a rig whose app has n dead letters of users u1, u2, ... and n
// recent events; nothing is delivered.
func newWebhookRig(t *testing.T, n int) (*rig, *webhook.Memory) {
	t.Helper()
	outbox, err := webhook.NewMemory(webhook.MemoryOptions{MaxEvents: 3})
	if err != nil {
		t.Fatal(err)
	}
	app := directory.NewApp(rigApp)
	app.Webhook.URL = "https://h.example/"
	d, err := webhook.New(webhook.Options{App: func(uint32) *directory.App { return app }, Outbox: outbox})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) { o.Webhooks = d })
	for i := range n {
		d.Transitions([]presence.Transition{{
			Key: presence.Key{App: rigApp, UserID: fmt.Sprint("u", i+1)}, EventSeq: 1, Action: presence.ActionLogin, Reason: presence.ReasonRegister,
			Inst: presence.Instance{InstID: 5, Device: presence.Device{Platform: presence.Android}},
		}})
		batch, _ := outbox.Claim(rigApp, time.Now().UnixMilli(), 1)
		outbox.Bury(batch, webhook.CauseGaveUp, 7)
	}
	return r, outbox
}

type lettersPage struct {
	DeadLetters []struct {
		ID     uint64
		UserID string
		Cause  string
		DeadMS int64
		Event  struct{ EventSeq int }
	}
	Next string
}

// into reads an answer.
func into(answer map[string]any, v any) error {
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

func TestDeadLetters(t *testing.T) {
	r, outbox := newWebhookRig(t, 5)
	var users []string
	path, pages := appPath("/webhook/dead-letters?limit=2"), 0
	for next := ""; ; pages++ {
		target := path
		if next != "" {
			target += "&after=" + next
		}
		var p lettersPage
		if err := into(r.want(200, "GET", target, ""), &p); err != nil {
			t.Fatal(err)
		}
		for _, l := range p.DeadLetters {
			users = append(users, l.UserID)
			if l.Cause != "gave_up" || l.DeadMS != 7 || l.Event.EventSeq != 1 || l.ID == 0 {
				t.Errorf("dead letter %+v", l)
			}
		}
		if next = p.Next; next == "" {
			break
		}
	}
	if want := []string{"u5", "u4", "u3", "u2", "u1"}; !slices.Equal(users, want) || pages != 2 {
		t.Errorf("listed %v in %d pages, want %v", users, pages+1, want)
	}
	for _, c := range []struct {
		action, body, want string
		status             int
	}{
		{"replay", `{"IDs":[2,999]}`, `{"Left":true,"Replayed":1}`, 200},
		{"skip", `{"IDs":[1]}`, `{"Left":true,"Skipped":1}`, 200},
		{"replay", `{"All":true}`, "full after 2 were replayed", 409}, // room for 3
		{"replay", `{"IDs":[]}`, "want 1 to 1000", 422},
		{"replay", `{}`, "want either", 422},
		{"skip", `{"IDs":[1],"All":true}`, "want either", 422},
		{"skip", `{"All":true}`, `{"Left":false,"Skipped":1}`, 200},
		{"skip", `{"All":true}`, `{"Left":false,"Skipped":0}`, 200},
	} {
		answer, err := json.Marshal(r.want(c.status, "POST", appPath("/webhook/dead-letters/"+c.action), c.body))
		if err != nil || !strings.Contains(string(answer), c.want) {
			t.Errorf("%s %s: %s, %v; want %s", c.action, c.body, answer, err, c.want)
		}
	}
	if s := outbox.Stats(); s.Events != 3 || s.DeadLetters != 0 {
		t.Errorf("in the end %+v, want 3 events and no dead letter", s)
	}
	r.want(400, "GET", path+"&after=x", "")
	r.want(400, "GET", path+"&after=0", "")
	for _, target := range []string{"dead-letters", "dead-letters/replay", "dead-letters/skip"} {
		method, body := "GET", ""
		if strings.Contains(target, "/") {
			method, body = "POST", `{"All":true}`
		}
		r.want(404, method, "/console/v1/apps/77/webhook/"+target, body)
	}
}

func TestListEvents(t *testing.T) {
	r, _ := newWebhookRig(t, 5)
	var page struct {
		Events []struct {
			Cursor, ID, OptPlatform string
			Event                   struct{ Info struct{ To_Account string } }
		}
		Next      string
		More, Gap bool
	}
	get := func(query string) {
		t.Helper()
		page.Events = nil
		if err := into(r.want(200, "GET", appPath("/events"+query), ""), &page); err != nil {
			t.Fatal(err)
		}
	}
	get("?limit=3")
	if len(page.Events) != 3 || !page.More || page.Gap || page.Events[0].Event.Info.To_Account != "u1" || page.Events[0].OptPlatform != "Android" {
		t.Errorf("first page %+v", page)
	}
	first := page.Events[0].Cursor
	get("?limit=3&after=" + page.Next)
	if len(page.Events) != 2 || page.More || page.Gap || page.Events[1].Event.Info.To_Account != "u5" {
		t.Errorf("second page %+v", page)
	}
	get("?after=" + page.Next)
	if len(page.Events) != 0 || page.More || page.Gap {
		t.Errorf("at the end %+v", page)
	}
	get("?after=" + first)
	if len(page.Events) != 4 {
		t.Errorf("after the first %+v", page)
	}
	get("?after=zz-1") // of a log that was lost
	if len(page.Events) != 5 || !page.Gap {
		t.Errorf("after a cursor of another log %+v", page)
	}
	r.want(400, "GET", appPath("/events?after=x"), "")
	r.want(400, "GET", appPath("/events?limit=1001"), "")
	r.want(404, "GET", "/console/v1/apps/77/events", "")
}

// TestDeadLetterAttempts: the failed attempts of this run are told; of a letter that has none, as of
// one that an earlier run made, nothing is said.
func TestDeadLetterAttempts(t *testing.T) {
	r, outbox := newWebhookRig(t, 1)
	letter := func() map[string]any {
		list := r.want(200, "GET", appPath("/webhook/dead-letters"), "")["DeadLetters"].([]any)
		if len(list) != 1 {
			t.Fatalf("%d dead letters", len(list))
		}
		return list[0].(map[string]any)
	}
	if n, told := letter()["Attempts"]; told {
		t.Errorf("never tried, and %v attempts", n)
	}
	r.want(200, "POST", appPath("/webhook/dead-letters/replay"), `{"All":true}`)
	batch, _ := outbox.Claim(rigApp, time.Now().UnixMilli(), 1)
	outbox.Nack(batch, 0)
	batch, _ = outbox.Claim(rigApp, time.Now().UnixMilli(), 1)
	outbox.Bury(batch, webhook.CauseGaveUp, 8)
	if n := letter()["Attempts"]; n != 1.0 {
		t.Errorf("tried once, and %v attempts", n)
	}
}

// TestWebhookMembersDocumented: docs/webhook.md has a row for each member of the settings.
func TestWebhookMembersDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[webhookView]()) {
		name := f.Name
		if name == "TokenSet" {
			name = "Token"
		}
		if !strings.Contains(string(page), "\n| `"+name+"` | ") {
			t.Errorf("member %s has no row", name)
		}
	}
}
