package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// asServer makes the test binary be the rollcall command.
const asServer = "ROLLCALL_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) == "1" {
		main()
	}
	testscript.Main(m, map[string]func(){"rollcall": main, "rollcall-wait": waitMain})
}

// waitMain is a command of the scripts: rollcall-wait API USERID STATUS asks until the user has the status.
func waitMain() {
	api, user, want := os.Args[1], os.Args[2], os.Args[3]
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if last = queryStatus(api, user); last == want {
			os.Exit(0)
		}
	}
	fmt.Fprintf(os.Stderr, "%s is %q, not %s\n", user, last, want)
	os.Exit(1)
}

// TestScripts runs commands that need no server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: filepath.Join("testdata", "script")})
}

// TestLive runs commands against a server; $NATIVE, $API and $ADMIN are its addresses.
func TestLive(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "live"),
		Setup: func(e *testscript.Env) error {
			s, err := startServer(devArgs(e.WorkDir)...)
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := s.terminate(); err != nil {
					t.Errorf("on SIGTERM the server ended with %v, want exit 0; its log:\n%s", err, s.log.String())
				}
			})
			e.Setenv("NATIVE", s.addr["native"])
			e.Setenv("API", "http://"+s.addr["api"])
			e.Setenv("ADMIN", "http://"+s.addr["admin"])
			return nil
		},
	})
}
