package main

import (
	"fmt"
	"net/url"
)

// cmdKick goes over the REST API, as a backend would, unless one instance is named: that is the console's.
func cmdKick(e env, args []string) error {
	fs := newFlags(e, "kick", "USERID [--inst INSTID] [FLAGS]",
		"Ends all instances of a user; UserSigs issued before now are dead from now on (REST API).\nWith --inst ends one instance and revokes nothing (console).")
	var rest restClient
	var console consoleClient
	rest.register(fs)
	console.registerConsole(fs)
	console.http = rest.http
	inst := fs.Uint("inst", 0, "`InstID` of the one instance to kick; rollcall query shows it")
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(pos) != 1 {
		return usagef("give one UserID, got %d", len(pos))
	}
	if *inst != 0 {
		return console.show(e, "POST", "apps/"+appIDText(rest.app.app)+"/users/"+url.PathEscape(pos[0])+"/kick", map[string]any{"InstID": *inst})
	}
	if err := rest.call(e, "im_open_login_svc/kick", map[string]any{"UserID": pos[0]}, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "kicked %s\n", pos[0])
	return nil
}
