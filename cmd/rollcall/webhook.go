package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
)

func cmdWebhook(e env, args []string) error {
	return runAction(e, "webhook", []action{
		{"dead-letters", "[--app ID] [--limit N] [--after CURSOR] [FLAGS]", "Lists the events of an app that were given up, the newest first; Next in the answer is the cursor of the next page.", webhookDeadLetters},
		{"replay", "[--app ID] LETTERID... | --all [FLAGS]", "Sends dead letters again, each ahead of the younger events of its user that wait.", webhookReplay},
		{"skip", "[--app ID] LETTERID... | --app ID --all [FLAGS]", "Forgets dead letters. --all wants --app: what is forgotten does not come back.", webhookSkip},
	}, args)
}

func webhookDeadLetters(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	limit := fs.Int("limit", 50, "`number` of dead letters, 1 to 1000")
	after := fs.String("after", "", "`cursor`: Next of the page before")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	path := "apps/" + appIDText(*id) + "/webhook/dead-letters?limit=" + strconv.Itoa(*limit)
	if *after != "" {
		if _, err := strconv.ParseUint(*after, 10, 64); err != nil {
			return usagef("--after %q is no cursor of an earlier answer", *after)
		}
		path += "&after=" + *after
	}
	return c.show(e, "GET", path, nil)
}

func webhookReplay(e env, fs *flag.FlagSet, args []string) error {
	return settleLetters(e, fs, args, "replay", "replayed")
}

func webhookSkip(e env, fs *flag.FlagSet, args []string) error {
	return settleLetters(e, fs, args, "skip", "skipped")
}

// maxLetterCalls bounds the calls that --all makes: there are no more dead
// letters than a thousand calls take, unless more come meanwhile.
const maxLetterCalls = 1000

// settleLetters replays or skips the dead letters that the arguments name, or
// with --all those there are now: a call takes a bounded number of them.
func settleLetters(e env, fs *flag.FlagSet, args []string, action, done string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	all := fs.Bool("all", false, "all dead letters of the app")
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	ids, err := letterIDs(pos)
	if err != nil {
		return err
	}
	if *all == (len(ids) > 0) {
		return usagef("give LETTERIDs or --all; rollcall webhook dead-letters lists them")
	}
	if *all && action == "skip" && !given(fs, "app") {
		return usagef("--all wants --app: all dead letters of that app are forgotten")
	}
	body := map[string]any{"IDs": ids}
	if *all {
		body = map[string]any{"All": true}
	}
	total := 0
	for range maxLetterCalls {
		raw, err := c.call(e, "POST", "apps/"+appIDText(*id)+"/webhook/dead-letters/"+action, body)
		if err != nil {
			return err
		}
		var answer struct {
			Replayed, Skipped int
			Left              bool
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return fmt.Errorf("the server answered no number of dead letters: %w", err)
		}
		n := answer.Replayed + answer.Skipped
		total += n
		if !*all || !answer.Left || n == 0 {
			break
		}
	}
	fmt.Fprintf(e.stdout, "%s %d\n", done, total)
	if missing := len(ids) - total; missing > 0 {
		return fmt.Errorf("%d of %d are no dead letters of app %d", missing, len(ids), *id)
	}
	return nil
}

func letterIDs(args []string) ([]uint64, error) {
	var ids []uint64
	for _, text := range args {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil || id == 0 {
			return nil, usagef("%q is no LETTERID; rollcall webhook dead-letters lists them", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
