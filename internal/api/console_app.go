package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of what an app may hold.
const (
	maxIPhoneName = 16
	maxAllowedIPs = 100
)

// appSummary is an app in the list of all.
type appSummary struct {
	SDKAppID  uint32
	Name      string
	Version   uint64
	CreatedMS int64
	Keys      int
	Preset    string
	Webhook   bool // it has one
}

// appView is all settings of an app, without its secrets.
type appView struct {
	SDKAppID        uint32
	Name            string
	Version         uint64
	CreatedMS       int64
	Keys            []keyView
	Administrators  []string
	Policy          presence.PolicySpec
	Timeouts        timeoutsView
	Webhook         webhookView
	Limits          limitsView
	QueryIPhoneName string
	MacPushOnline   bool
	ExpiryEvent     bool
	CloseOnSigEnd   bool
	AllowedIPs      []string
	AllowedOrigins  []string
}

// keyView is a key; Secret is shown in the answer that creates it, and never again.
type keyView struct {
	KeyID     uint32
	CreatedMS int64
	Secret    string `json:",omitempty"`
}

func viewApp(a *directory.App) appView {
	return appView{
		SDKAppID: a.SDKAppID, Name: a.Name, Version: a.Version, CreatedMS: a.CreatedMS,
		Keys: viewKeys(a), Administrators: slices.Clone(a.Administrators), Policy: a.Policy.Spec(),
		Timeouts: viewTimeouts(a), Webhook: viewWebhook(a), Limits: limitsView(a.Limits),
		QueryIPhoneName: a.QueryIPhoneName, MacPushOnline: a.MacPushOnline,
		ExpiryEvent: a.ExpiryEvent, CloseOnSigEnd: a.CloseOnSigEnd, AllowedIPs: viewPrefixes(a.AllowedIPs),
		AllowedOrigins: append([]string{}, a.AllowedOrigins...), // never null
	}
}

func viewKeys(a *directory.App) []keyView {
	keys := make([]keyView, 0, len(a.Keys))
	for _, k := range a.Keys {
		keys = append(keys, keyView{KeyID: k.ID, CreatedMS: k.CreatedMS})
	}
	return keys
}

func viewPrefixes(prefixes []netip.Prefix) []string {
	out := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

// listApps answers apps in the order of their SDKAppIDs, after the given one.
func (c *consoleCall) listApps() (reply, error) {
	limit, err := c.limit(maxAppsPage, maxAppsPage)
	if err != nil {
		return reply{}, err
	}
	var after uint32
	if text, given := c.params["after"]; given {
		if after, err = parseID("after", text); err != nil {
			return reply{}, err
		}
	}
	apps := c.s.dir.Apps()
	apps = apps[sort.Search(len(apps), func(i int) bool { return apps[i].SDKAppID > after }):]
	page := struct {
		Apps []appSummary
		Next string `json:",omitempty"`
	}{Apps: []appSummary{}}
	for _, a := range apps[:min(limit, len(apps))] {
		page.Apps = append(page.Apps, appSummary{a.SDKAppID, a.Name, a.Version, a.CreatedMS, len(a.Keys), a.Policy.Spec().Preset, a.Webhook.URL != ""})
	}
	if len(apps) > limit {
		page.Next = fmt.Sprint(apps[limit-1].SDKAppID)
	}
	return ok(page), nil
}

func (c *consoleCall) getApp() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(viewApp(a)), nil
}

// createApp makes an app with default settings and one key.
func (c *consoleCall) createApp() (reply, error) {
	var in struct {
		SDKAppID       uint32
		Name           string
		Secret         *string
		Administrators *[]string
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if in.SDKAppID == 0 {
		return reply{}, invalid("SDKAppID is missing or 0, want 1 to 4294967295")
	}
	secret, err := keySecret(in.Secret)
	if err != nil {
		return reply{}, err
	}
	key := directory.Key{ID: 1, Secret: secret, CreatedMS: c.nowMS()}
	op := &directory.UpdateAppOp{SDKAppID: in.SDKAppID, Create: true, Mutate: func(a *directory.App) error {
		c.s.opts.NewApp(a)
		a.Name, a.Keys = in.Name, []directory.Key{key}
		assign(&a.Administrators, in.Administrators)
		return nil
	}}
	a, err := c.run(op, c.s.opts.CallTimeout)
	if err != nil {
		return reply{}, err
	}
	view := viewApp(a)
	view.Keys[0].Secret = secret
	return reply{fasthttp.StatusCreated, fmt.Sprintf("%sapps/%d", consolePrefix, a.SDKAppID), view}, nil
}

// patchApp changes the settings that have no path of their own.
func (c *consoleCall) patchApp() (reply, error) {
	var in struct {
		Name            *string
		QueryIPhoneName *string
		MacPushOnline   *bool
		ExpiryEvent     *bool
		CloseOnSigEnd   *bool
		AllowedIPs      *[]string
		AllowedOrigins  *[]string
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	var allowed *[]netip.Prefix
	if in.AllowedIPs != nil {
		prefixes, err := parsePrefixes(*in.AllowedIPs)
		if err != nil {
			return reply{}, err
		}
		allowed = &prefixes
	}
	a, err := c.update(func(a *directory.App) error {
		assign(&a.Name, in.Name)
		assign(&a.QueryIPhoneName, in.QueryIPhoneName)
		assign(&a.MacPushOnline, in.MacPushOnline)
		assign(&a.ExpiryEvent, in.ExpiryEvent)
		assign(&a.CloseOnSigEnd, in.CloseOnSigEnd)
		assign(&a.AllowedIPs, allowed)
		assign(&a.AllowedOrigins, in.AllowedOrigins)
		return checkIPhoneName(a.QueryIPhoneName)
	})
	if err != nil {
		return reply{}, err
	}
	return ok(viewApp(a)), nil
}

// checkIPhoneName keeps to letters, because the word stands in query answers unescaped.
func checkIPhoneName(name string) error {
	letters := func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }
	if len(name) > maxIPhoneName || strings.ContainsFunc(name, letters) {
		return invalid("QueryIPhoneName %q: want at most %d letters", name, maxIPhoneName)
	}
	return nil
}

func parsePrefixes(texts []string) ([]netip.Prefix, error) {
	if len(texts) > maxAllowedIPs {
		return nil, invalid("AllowedIPs: got %d, at most %d are allowed", len(texts), maxAllowedIPs)
	}
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			ip, ipErr := netip.ParseAddr(text)
			if ipErr != nil || ip.Zone() != "" {
				return nil, invalid("AllowedIPs: %q: want an address like 192.0.2.1 or a network like 192.0.2.0/24", text)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		if p != p.Masked() {
			return nil, invalid("AllowedIPs: %q has bits set behind its length, want %v", text, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

func (c *consoleCall) listKeys() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(struct{ Keys []keyView }{viewKeys(a)}), nil
}

// addKey adds a second key: UserSigs of both are good until the old one is retired.
func (c *consoleCall) addKey() (reply, error) {
	var in struct{ Secret *string }
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	secret, err := keySecret(in.Secret)
	if err != nil {
		return reply{}, err
	}
	nowMS := c.nowMS()
	a, err := c.update(func(a *directory.App) error { return addKey(a, secret, nowMS) })
	if err != nil {
		return reply{}, err
	}
	key := a.Keys[len(a.Keys)-1]
	view := keyView{KeyID: key.ID, CreatedMS: key.CreatedMS, Secret: secret}
	return reply{fasthttp.StatusCreated, fmt.Sprintf("%sapps/%d/keys/%d", consolePrefix, c.app, key.ID), view}, nil
}

func addKey(a *directory.App, secret string, nowMS int64) error {
	if len(a.Keys) >= directory.MaxKeys {
		return conflict("the app has %d keys, as many as it may; retire one first", len(a.Keys))
	}
	// An app's version only grows, so that the number of a retired key does not come back.
	id := uint32(a.Version)
	for _, k := range a.Keys {
		if k.Secret == secret {
			return conflict("key %d has this secret already", k.ID)
		}
		id = max(id, k.ID)
	}
	a.Keys = append(a.Keys, directory.Key{ID: id + 1, Secret: secret, CreatedMS: nowMS})
	return nil
}

// retireKey ends a key: UserSigs made with it are dead, and so is every session
// ticket of the app, because a ticket does not tell which key stood behind it.
func (c *consoleCall) retireKey() (reply, error) {
	_, err := c.update(func(a *directory.App) error {
		i := slices.IndexFunc(a.Keys, func(k directory.Key) bool { return k.ID == c.keyID })
		switch {
		case i < 0:
			return notFound("SDKAppID %d has no key %d", c.app, c.keyID)
		case len(a.Keys) == 1:
			return conflict("key %d is the app's only one: nobody could log in without it; add another first", c.keyID)
		}
		a.Keys = slices.Delete(a.Keys, i, i+1)
		a.TicketEpoch++
		return nil
	})
	return reply{}, err
}

// keySecret returns the secret that was given, else 32 random bytes in hex.
func keySecret(given *string) (string, error) {
	if given == nil {
		var random [32]byte
		if _, err := rand.Read(random[:]); err != nil {
			return "", fmt.Errorf("cannot make a key: %w", err)
		}
		return hex.EncodeToString(random[:]), nil
	}
	if err := directory.ValidateSecret(*given, directory.MinSecret, directory.MaxSecret); err != nil {
		return "", invalid("Secret: %s", err)
	}
	return *given, nil
}

// administratorsView is who may call the REST API.
type administratorsView struct{ Administrators []string }

func (c *consoleCall) getAdministrators() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(administratorsView{a.Administrators}), nil
}

// putAdministrators replaces the list.
func (c *consoleCall) putAdministrators() (reply, error) {
	var in administratorsView
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	a, err := c.update(func(a *directory.App) error {
		a.Administrators = slices.Clone(in.Administrators)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return ok(administratorsView{a.Administrators}), nil
}
