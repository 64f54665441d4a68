package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxQuery is how many users one call may ask for.
const maxQuery = 500

// codeNoAccount is the REST API's ErrorCode for an account that does not exist.
const codeNoAccount = 70107

// queryItem is one result of query_online_status.
type queryItem struct {
	ToAccount string `json:"To_Account"`
	Status    string
	ErrorCode int
	Detail    []struct {
		Platform, Status string
		Instid           uint32
	}
}

func cmdQuery(e env, args []string) error {
	fs := newFlags(e, "query", "USERID... [FLAGS]", "Asks for the online status of up to 500 users.")
	var c restClient
	c.register(fs)
	asJSON := fs.Bool("json", false, "print the server's answer as it is")
	users, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(users) == 0 || len(users) > maxQuery {
		return usagef("give 1 to %d UserIDs, got %d", maxQuery, len(users))
	}
	var answer struct {
		QueryResult []queryItem
		ErrorList   []queryItem
	}
	var raw json.RawMessage
	var into any = &answer
	if *asJSON {
		into = &raw
	}
	body := map[string]any{"To_Account": users, "IsNeedDetail": 1, "IsReturnInstid": 1}
	err = c.call(e, "openim/query_online_status", body, into)
	if *asJSON {
		if len(raw) > 0 {
			fmt.Fprintln(e.stdout, string(raw))
		}
		return err
	}
	printQuery(e.stdout, answer.QueryResult, answer.ErrorList)
	var refused *refusedError
	if errors.As(err, &refused) && refused.code == codeNoAccount {
		return fmt.Errorf("no such account (%d)", codeNoAccount) // the lines above say which
	}
	return err
}

func printQuery(w io.Writer, found, failed []queryItem) {
	for _, u := range found {
		fmt.Fprintf(w, "%-32s %s", u.ToAccount, u.Status)
		for _, d := range u.Detail {
			fmt.Fprintf(w, "  %s:%s(%d)", d.Platform, d.Status, d.Instid)
		}
		fmt.Fprintln(w)
	}
	for _, u := range failed {
		fmt.Fprintf(w, "%-32s %s\n", u.ToAccount, failure(u.ErrorCode))
	}
}

func failure(code int) string {
	if code == codeNoAccount {
		return "unknown account"
	}
	return fmt.Sprintf("error %d", code)
}
