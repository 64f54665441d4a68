package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestUserView(t *testing.T) {
	r := newRig(t)
	r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual"}`)
	phone := r.login(rigApp, "alice", presence.IPhone, "phone")
	r.clock.Advance(time.Second)
	web := r.login(rigApp, "alice", presence.MiniProgram, "web")
	r.clock.Advance(time.Second)
	r.drop(rigApp, "alice", phone)
	v := r.want(200, "GET", appPath("/users/alice"), "")
	if v["Status"] != "Online" || v["Registered"] != true || v["Seq"] != 3.0 || v["EventSeq"] != 3.0 || v["CutoffS"] != 0.0 {
		t.Errorf("user %v", v)
	}
	if v["Nick"] != "" || v["FaceUrl"] != "" {
		t.Errorf("a profile that nobody imported: %v", v)
	}
	insts := v["Instances"].([]any)
	if len(insts) != 2 {
		t.Fatalf("instances %v", insts)
	}
	lost, live := insts[0].(map[string]any), insts[1].(map[string]any)
	if lost["InstID"] != float64(phone.InstID) || lost["Platform"] != "iPhone" || lost["Status"] != "PushOnline" || lost["PushUntilMS"] != 1_700_000_002_000.0+7*86_400_000 {
		t.Errorf("first instance %v", lost)
	}
	if link := lost["Link"].(map[string]any); link["Addr"] != "192.0.2.7:4711" || link["LinkID"] != nil {
		t.Errorf("a lost link keeps its address alone: %v", link)
	}
	if live["Platform"] != "MiniProgram" || live["Status"] != "Online" || live["DeviceID"] != "web" || live["SDKVersion"] != "1.2.3" ||
		live["DeviceModel"] != "model" || live["LoginMS"] != 1_700_000_001_000.0 || live["PushUntilMS"] != nil {
		t.Errorf("second instance %v", live)
	}
	link := live["Link"].(map[string]any)
	if link["Node"] != 3.0 || link["LinkID"] != fmt.Sprintf("%016x", uint64(web.Link.ID)) || link["Protocol"] != "native" || link["Listener"] != "native" ||
		link["Addr"] != "192.0.2.7:4711" || link["ConnectedMS"] != 1_700_000_001_000.0 {
		t.Errorf("link %v", link)
	}
}

func TestUserProfile(t *testing.T) {
	r := newRig(t)
	nick, face := "A 七", "https://h/a"
	r.dir.Accounts(&directory.AccountsOp{
		App: rigApp, Action: directory.AccountsImport, UserIDs: []string{"alice"},
		Profiles: []directory.Profile{{Nick: &nick, FaceURL: &face}}, Done: func(*directory.AccountsOp) {},
	})
	if v := r.want(200, "GET", appPath("/users/alice"), ""); v["Nick"] != nick || v["FaceUrl"] != face {
		t.Errorf("user %v", v)
	}
}

func TestConsoleKick(t *testing.T) {
	r := newRig(t)
	r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual","Limits":{"Web":3}}`)
	a := r.login(rigApp, "alice", presence.Web, "a")
	b := r.login(rigApp, "alice", presence.Web, "b")
	r.login(rigApp, "alice", presence.Mac, "c")
	v := r.want(200, "POST", appPath("/users/alice/kick"), fmt.Sprintf(`{"InstID":%d}`, a.InstID))
	if got := instIDs(v["Kicked"]); !slices.Equal(got, []uint32{a.InstID}) {
		t.Errorf("kicked %v, want %d", got, a.InstID)
	}
	r.want(404, "POST", appPath("/users/alice/kick"), fmt.Sprintf(`{"InstID":%d}`, a.InstID))
	if v := r.want(200, "GET", appPath("/users/alice"), ""); v["CutoffS"] != 0.0 || len(v["Instances"].([]any)) != 2 {
		t.Errorf("kicking one instance: %v", v)
	}
	v = r.want(200, "POST", appPath("/users/alice/kick"), `{"All":true}`)
	if got := instIDs(v["Kicked"]); len(got) != 2 || got[0] != b.InstID {
		t.Errorf("kicked %v", got)
	}
	if v := r.want(200, "GET", appPath("/users/alice"), ""); v["CutoffS"] != 1_700_000_000.0 || v["Status"] != "Offline" {
		t.Errorf("kicking all: %v", v)
	}
	if v := r.want(200, "POST", appPath("/users/alice/kick"), `{"All":true}`); len(v["Kicked"].([]any)) != 0 {
		t.Errorf("kicking nobody: %v", v)
	}
}

func instIDs(list any) []uint32 {
	var ids []uint32
	for _, v := range list.([]any) {
		ids = append(ids, uint32(v.(map[string]any)["InstID"].(float64)))
	}
	return ids
}

func TestListUsers(t *testing.T) {
	r := newRig(t)
	online, push := map[string]bool{}, map[string]bool{}
	for i := range 37 {
		user := fmt.Sprintf("user %d/%%", i)
		in := r.login(rigApp, user, presence.Android, "d")
		if i%3 == 0 {
			r.drop(rigApp, user, in)
			push[user] = true
		} else {
			online[user] = true
		}
	}
	r.createApp(2)
	r.login(2, "stranger", presence.Web, "d")
	all := maps.Clone(online)
	maps.Copy(all, push)
	for query, want := range map[string]map[string]bool{"status=Online": online, "status=PushOnline": push, "": all} {
		for _, limit := range []int{1, 7, 37, 1000} {
			if got := r.listAll(query, limit); !maps.Equal(got, want) {
				t.Errorf("%q by %d: %d users, want %d", query, limit, len(got), len(want))
			}
		}
	}
}

// listAll follows the pages to their end and fails on a user who comes twice.
func (r *rig) listAll(query string, limit int) map[string]bool {
	r.Helper()
	got := map[string]bool{}
	for after := ""; ; {
		path := appPath(fmt.Sprintf("/users?%s&limit=%d", query, limit))
		if after != "" {
			path += "&after=" + url.QueryEscape(after)
		}
		v := r.want(200, "GET", path, "")
		users := v["Users"].([]any)
		if len(users) > limit {
			r.Fatalf("page of %d users, limit %d", len(users), limit)
		}
		for _, u := range users {
			id := u.(map[string]any)["UserID"].(string)
			if got[id] {
				r.Errorf("%q came twice", id)
			}
			got[id] = true
		}
		next, more := v["Next"].(string)
		if !more {
			return got
		}
		after = next
	}
}

func TestListApps(t *testing.T) {
	r := newRig(t)
	for id := range uint32(5) {
		r.createApp(id + 1)
	}
	var got []float64
	path := "/console/v1/apps?limit=2"
	for pages := 0; ; pages++ {
		v := r.want(200, "GET", path, "")
		for _, a := range v["Apps"].([]any) {
			got = append(got, a.(map[string]any)["SDKAppID"].(float64))
		}
		next, more := v["Next"].(string)
		if !more {
			if pages != 2 {
				t.Errorf("%d pages, want 3", pages+1)
			}
			break
		}
		path = "/console/v1/apps?limit=2&after=" + next
	}
	if want := []float64{1, 2, 3, 4, 5, rigApp}; !slices.Equal(got, want) {
		t.Errorf("apps %v, want %v", got, want)
	}
	if v := r.want(200, "GET", "/console/v1/apps?after=4294967295", ""); len(v["Apps"].([]any)) != 0 {
		t.Errorf("behind the last: %v", v)
	}
}

func TestNoNodes(t *testing.T) {
	r := newRig(t)
	if v := r.want(200, "GET", "/console/v1/nodes", ""); len(v["Nodes"].([]any)) != 0 {
		t.Errorf("nodes %v", v)
	}
}
