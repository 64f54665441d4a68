package api

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

var testDemo = Demo{SDKAppID: 7, Key: "key", Administrator: "boss", WS: "ws://127.0.0.1:7701/v1", API: "http://127.0.0.1:7780"}

// getDemo asks without a token.
func (r *rig) getDemo(method, target string) consoleAnswer {
	return r.send(adminRequest{method: method, target: target, auth: "-"})
}

// TestDemoOnlyWhereItIsMeant: without Options.Demo there is nothing, whatever the path.
func TestDemoOnlyWhereItIsMeant(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"/demo", "/demo/", "/demo/config.json", "/demo/sdk/index.js"} {
		if a := r.getDemo("GET", target); a.status != 404 {
			t.Errorf("%s: %d", target, a.status)
		}
	}
}

// TestDemoFiles: every file that is embedded is served under its type, and what a page names is there.
func TestDemoFiles(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Demo = func() Demo { return testDemo } })
	served := 0
	err := fs.WalkDir(demoFiles, "demo", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := fs.ReadFile(demoFiles, name)
		a := r.getDemo("GET", "/"+name)
		kind := string(a.header.ContentType())
		ext := name[strings.LastIndexByte(name, '.'):]
		if a.status != 200 || a.body != string(want) || kind != demoTypes[ext] {
			t.Errorf("%s: %d, %d bytes of %q", name, a.status, len(a.body), kind)
		}
		if got := string(a.header.Peek("X-Content-Type-Options")); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", name, got)
		}
		served++
		return err
	})
	if err != nil || served < 10 {
		t.Errorf("%d files, %v", served, err)
	}
	index := r.getDemo("GET", "/demo/").body
	if a := r.getDemo("GET", "/demo/index.html"); index == "" || a.body != index {
		t.Error("/demo/ is not the index")
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"./]+\.[a-z]+)"`).FindAllStringSubmatch(index, -1) {
		if a := r.getDemo("GET", "/demo/"+m[1]); a.status != 200 {
			t.Errorf("the page names %s, which is answered %d", m[1], a.status)
		}
	}
}

// TestDemoPolicy: the page may load its own files and reach this server, and has nothing inline.
func TestDemoPolicy(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Demo = func() Demo { return testDemo } })
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
		"connect-src 'self' ws://127.0.0.1:7701 http://127.0.0.1:7780; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	for _, target := range []string{"/demo/", "/demo/demo.js", "/demo/config.json"} {
		if got := string(r.getDemo("GET", target).header.Peek("Content-Security-Policy")); got != want {
			t.Errorf("%s: policy %q, want %q", target, got, want)
		}
	}
	index := r.getDemo("GET", "/demo/").body
	for _, bad := range []string{" style=", "<style", " onclick=", "javascript:", "<script>", "http://", "https://"} {
		if strings.Contains(index, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if got := (Demo{}).policy(); !strings.Contains(got, "connect-src 'self'; base-uri") {
		t.Errorf("policy without listeners: %q", got)
	}
}

func TestDemoConfig(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Demo = func() Demo { return testDemo } })
	a := r.getDemo("GET", "/demo/config.json")
	var got Demo
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got != testDemo || string(a.header.ContentType()) != "application/json" {
		t.Errorf("%s, %v", a.body, err)
	}
}

func TestDemoRefuses(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Demo = func() Demo { return testDemo } })
	for target, want := range map[string]int{
		"/demo/nothing.js": 404, "/demo/sdk/": 404, "/demo/sdk": 404, "/demo/../admin.go": 404, "/demo/%2e%2e/admin.go": 404,
		"/demo/sdk/../../demo.go": 404, "/demo//index.html": 404, "/demo/./index.html": 404, "/demos": 404,
	} {
		if a := r.getDemo("GET", target); a.status != want {
			t.Errorf("%s: %d, want %d", target, a.status, want)
		}
	}
	if a := r.getDemo("POST", "/demo/"); a.status != 405 {
		t.Errorf("POST: %d", a.status)
	}
	if a := r.getDemo("GET", "/demo"); a.status != 301 || string(a.header.Peek("Location")) != "/demo/" {
		t.Errorf("/demo: %d to %q", a.status, a.header.Peek("Location"))
	}
}
