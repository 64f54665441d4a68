package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of the apps in the file.
const (
	maxApps  = 10_000
	minToken = 16
	maxToken = 256
)

// App is an app that is created at start, while there is no store that
// remembers apps. What the file leaves out has the defaults of a new app.
type App struct {
	SDKAppID       uint32
	Name           string
	Key            string // secret key for UserSigs; "" = none, nobody can log in
	Administrators []string
	Policy         presence.Policy
	WebhookURL     string // "" = off
	WebhookToken   string // "" = unsigned
}

// appEntry is an app as the YAML file writes it, in the words of the console API.
type appEntry struct {
	SDKAppID       uint32              `yaml:"SDKAppID"`
	Name           string              `yaml:"Name"`
	Key            string              `yaml:"Key"`
	KeyFile        string              `yaml:"KeyFile"`
	Administrators []string            `yaml:"Administrators"`
	Policy         presence.PolicySpec `yaml:"Policy"`
	Webhook        webhookEntry        `yaml:"Webhook"`

	where string
}

type webhookEntry struct {
	URL       string `yaml:"URL"`
	Token     string `yaml:"Token"`
	TokenFile string `yaml:"TokenFile"`
}

// resolveApps checks the entries and reads the files they name.
func resolveApps(entries []appEntry, ceilings presence.Ceilings, read func(string) ([]byte, error)) ([]App, error) {
	if len(entries) > maxApps {
		return nil, fmt.Errorf("apps: the file has %d, at most %d are allowed", len(entries), maxApps)
	}
	var faults []error
	apps := make([]App, 0, len(entries)+1)
	seen := map[uint32]string{}
	for i := range entries {
		e := &entries[i]
		app, err := e.resolve(ceilings, read)
		if first, twice := seen[e.SDKAppID]; err == nil && twice {
			err = fmt.Errorf("SDKAppID %d is already defined at %s", e.SDKAppID, first)
		}
		seen[e.SDKAppID] = e.where
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: apps: SDKAppID %d: %w", e.where, e.SDKAppID, err))
		}
		apps = append(apps, app)
	}
	return apps, errors.Join(faults...)
}

func (e *appEntry) resolve(ceilings presence.Ceilings, read func(string) ([]byte, error)) (App, error) {
	a := App{SDKAppID: e.SDKAppID, Name: e.Name, Administrators: e.Administrators, WebhookURL: e.Webhook.URL}
	if a.Administrators == nil {
		a.Administrators = []string{defaultUser}
	}
	if err := e.check(a.Administrators); err != nil {
		return a, err
	}
	var err error
	if a.Key, err = secret("key", e.Key, e.KeyFile, directory.MinSecret, directory.MaxSecret, read); err != nil {
		return a, err
	}
	if a.WebhookToken, err = secret("webhook token", e.Webhook.Token, e.Webhook.TokenFile, 1, maxToken, read); err != nil {
		return a, err
	}
	if a.Policy, err = e.Policy.Policy(); err != nil {
		return a, fmt.Errorf("policy: %w", err)
	}
	if err := a.Policy.Validate(ceilings); err != nil {
		return a, fmt.Errorf("policy: %w", err)
	}
	return a, nil
}

// check looks at what needs no file. The webhook's URL is checked by who calls it.
func (e *appEntry) check(administrators []string) error {
	if e.SDKAppID == 0 {
		return errors.New("the SDKAppID is missing or 0, want 1 to 4294967295")
	}
	return cmp.Or(directory.ValidateName(e.Name), directory.ValidateAdministrators(administrators))
}

// secret returns a secret given in place or in a file. No error shows any of it.
func secret(name, value, file string, low, high int, read func(string) ([]byte, error)) (string, error) {
	switch {
	case value != "" && file != "":
		return "", fmt.Errorf("%s: given in place and in a file, want one", name)
	case value == "" && file == "":
		return "", nil
	case file != "":
		return secretFile(name, file, low, high, read)
	}
	return value, checkSecret(name, value, low, high)
}

func secretFile(name, file string, low, high int, read func(string) ([]byte, error)) (string, error) {
	data, err := read(file)
	if err != nil {
		return "", fmt.Errorf("%s: cannot read its file: %w", name, err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	return value, checkSecret(fmt.Sprintf("%s in %q", name, file), value, low, high)
}

func checkSecret(name, value string, low, high int) error {
	if err := directory.ValidateSecret(value, low, high); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
