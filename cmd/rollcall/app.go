package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
)

func appID(fs *flag.FlagSet) *uint64 {
	return fs.Uint64("app", devApp, "`SDKAppID`; without it the demo app of serve --dev is meant")
}

func cmdApp(e env, args []string) error {
	return runAction(e, "app", []action{
		{"list", "[FLAGS]", "Lists the apps.", appList},
		{"show", "[--app ID] [FLAGS]", "Shows an app's settings.", appShow},
		{"create", "--app ID [--name NAME] [--key-out FILE] [FLAGS]", "Creates an app with a secret key, which is told once.", appCreate},
		{"add-key", "[--app ID] [--key-out FILE] [FLAGS]", "Adds a second secret key, which is told once. UserSigs of both are good until one is retired.", appAddKey},
		{"retire-key", "[--app ID] KEYID [FLAGS]", "Retires a key: UserSigs made with it, and all session tickets of the app, are dead.", appRetireKey},
	}, args)
}

func appList(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "GET", "apps", nil)
}

func appShow(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "GET", "apps/"+appIDText(*id), nil)
}

// newKey is a secret key as the console tells of it, once.
type newKey struct {
	KeyID  int
	Secret string
}

func appCreate(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	var out keyOut
	c.register(fs)
	out.register(fs)
	id := fs.Uint64("app", 0, "`SDKAppID`, 1 to 4294967295")
	name := fs.String("name", "", "`name` for people to read, at most 64 bytes")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	if *id == 0 || *id > 1<<32-1 {
		return usagef("--app %d is no SDKAppID (1 to 4294967295)", *id)
	}
	var app struct {
		Name           string
		Administrators []string
		Keys           []newKey
	}
	return out.run(e, func() (raw []byte, key newKey, err error) {
		raw, err = c.call(e, "POST", "apps", map[string]any{"SDKAppID": *id, "Name": *name})
		if err != nil {
			return nil, key, err
		}
		if err := json.Unmarshal(raw, &app); err != nil {
			return nil, key, fmt.Errorf("the server answered no app: %w", err)
		}
		if len(app.Keys) != 1 {
			return nil, key, fmt.Errorf("the server made the app with %d keys, want 1", len(app.Keys))
		}
		return raw, app.Keys[0], nil
	}, func(where string) {
		fmt.Fprintf(e.stdout, "created app %d %q, administrator %s\nkey %d: %s\nnext: rollcall login --app %[1]d --key-file %[6]s --user alice\n",
			*id, app.Name, strings.Join(app.Administrators, ", "), app.Keys[0].KeyID, where, out.fileName())
	})
}

func appAddKey(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	var out keyOut
	c.register(fs)
	out.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	var key newKey
	return out.run(e, func() (raw []byte, _ newKey, err error) {
		raw, err = c.call(e, "POST", "apps/"+appIDText(*id)+"/keys", struct{}{})
		if err != nil {
			return nil, key, err
		}
		if err := json.Unmarshal(raw, &key); err != nil {
			return nil, key, fmt.Errorf("the server answered no key: %w", err)
		}
		return raw, key, nil
	}, func(where string) {
		fmt.Fprintf(e.stdout, "app %d has another key\nkey %d: %s\nnext: sign with it everywhere, then rollcall app retire-key --app %[1]d OLDKEYID\n", *id, key.KeyID, where)
	})
}

func appRetireKey(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(pos) != 1 {
		return usagef("give one KeyID; rollcall app show lists them")
	}
	return c.show(e, "DELETE", "apps/"+appIDText(*id)+"/keys/"+url.PathEscape(pos[0]), nil)
}

// keyOut says where a new secret key goes.
type keyOut struct {
	file string
	json bool
}

func (k *keyOut) register(fs *flag.FlagSet) {
	fs.StringVar(&k.file, "key-out", "", "`file` to write the key to, for --key-file; it must not exist, and only you may read it. Without it the key is printed")
	fs.BoolVar(&k.json, "json", false, "print the server's answer, which holds the key")
}

// fileName is what --key-file will want.
func (k *keyOut) fileName() string {
	if k.file == "" {
		return "FILE-WITH-THE-KEY"
	}
	return k.file
}

// run makes a key and puts it where it is wanted. The file is opened first: a key that
// nobody could keep is not made. tell prints the short form, given where the key is.
func (k *keyOut) run(e env, call func() ([]byte, newKey, error), tell func(where string)) error {
	if k.file != "" && k.json {
		return usagef("give --key-out or --json, not both: the JSON holds the key")
	}
	f, err := k.open()
	if err != nil {
		return err
	}
	raw, key, err := call()
	if err != nil {
		k.discard(f)
		return err
	}
	where, err := k.keep(f, key)
	if err != nil {
		return err
	}
	if k.json {
		return printJSON(e.stdout, raw)
	}
	tell(where)
	return nil
}

func (k *keyOut) open() (*os.File, error) {
	if k.file == "" {
		return nil, nil
	}
	f, err := os.OpenFile(k.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("--key-out %q exists already and is not overwritten", k.file)
	}
	if err != nil {
		return nil, fmt.Errorf("--key-out: %w", err)
	}
	return f, nil
}

func (k *keyOut) discard(f *os.File) {
	if f != nil {
		f.Close()
		os.Remove(k.file)
	}
}

// keep writes the key, and says where it is.
func (k *keyOut) keep(f *os.File, key newKey) (where string, err error) {
	if f == nil {
		return key.Secret + " (told this once)", nil
	}
	_, err = fmt.Fprintln(f, key.Secret)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("key %d was made and cannot be written to %q, retire it and add another: %w", key.KeyID, k.file, err)
	}
	return "in " + k.file, nil
}
