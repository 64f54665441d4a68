package api

import (
	"math"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of webhook settings and rates.
const (
	maxWebhookURL   = 1024 // bytes
	maxWebhookToken = 256
	maxRate         = 1e9 // calls per second
)

func (c *consoleCall) getPolicy() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(a.Policy.Spec()), nil
}

// policyInput is a login policy and, for PUT, whether to sweep.
type policyInput struct {
	Preset  string
	Groups  [][]string
	Limits  map[string]int
	Enforce string
}

// policy returns the policy that the body describes. A preset must be named: an
// empty object is more likely a mistake than a wish for the default.
func (c *consoleCall) policy(in *policyInput) (presence.Policy, error) {
	if in.Preset == "" {
		return presence.Policy{}, invalid("Preset is missing, want single, dual, triple, multi or custom")
	}
	spec := presence.PolicySpec{Preset: in.Preset, Groups: in.Groups, Limits: in.Limits}
	p, err := spec.Policy()
	if err != nil {
		return p, invalid("%s", err)
	}
	if err := p.Validate(c.s.opts.Ceilings); err != nil {
		return p, invalid("%s", err)
	}
	return p, nil
}

// putPolicy replaces the policy. It applies to the next login; with Enforce now
// the answer comes when everybody who broke it has been kicked.
func (c *consoleCall) putPolicy() (reply, error) {
	var in policyInput
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if in.Enforce != "" && in.Enforce != "now" {
		return reply{}, invalid("Enforce %q: want now, or leave it out", in.Enforce)
	}
	p, err := c.policy(&in)
	if err != nil {
		return reply{}, err
	}
	op := &directory.UpdateAppOp{SDKAppID: c.app, Enforce: in.Enforce == "now", Mutate: func(a *directory.App) error {
		a.Policy = p
		return nil
	}}
	wait := c.s.opts.CallTimeout
	if op.Enforce {
		wait = max(wait, maxSweepWait)
	}
	a, err := c.run(op, wait)
	if err != nil {
		return reply{}, err
	}
	out := struct {
		presence.PolicySpec
		Kicked *uint64 `json:",omitempty"` // with Enforce
	}{PolicySpec: a.Policy.Spec()}
	if op.Enforce {
		out.Kicked = &op.Kicked
	}
	return ok(out), nil
}

// dryRun counts whom a policy would kick if it were enforced now.
func (c *consoleCall) dryRun() (reply, error) {
	var in struct {
		Preset string
		Groups [][]string
		Limits map[string]int
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	p, err := c.policy(&policyInput{Preset: in.Preset, Groups: in.Groups, Limits: in.Limits})
	if err != nil {
		return reply{}, err
	}
	op := &directory.DryRunOp{App: c.app, Policy: p}
	err = c.await(max(c.s.opts.CallTimeout, maxSweepWait), func(done func()) {
		op.Done = func(*directory.DryRunOp) { done() }
		c.s.dir.DryRun(op)
	})
	if err != nil {
		return reply{}, err
	}
	if err := codeFault(op.Code, c.about(op.Code, "the dry run did not take place, try again")); err != nil {
		return reply{}, err
	}
	return ok(struct{ Users, Instances uint64 }{op.Users, op.Instances}), nil
}

// webhookView is a webhook without its token.
type webhookView struct {
	URL        string
	TokenSet   bool
	TimeoutMS  int64
	GiveUpMS   int64
	StatusOnly bool
	// BatchEvents is how many events a request may hold; 0 = a request for each.
	BatchEvents int
	Coalesce    bool
	PullEvents  bool
}

func viewWebhook(a *directory.App) webhookView {
	w := &a.Webhook
	return webhookView{w.URL, w.Token != "", w.TimeoutMS, w.GiveUpMS, w.StatusOnly, w.BatchEvents, w.Coalesce, w.PullEvents}
}

func (c *consoleCall) getWebhook() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(viewWebhook(a)), nil
}

// putWebhook changes what the body names; a token that is absent stays, an empty one ends signing.
func (c *consoleCall) putWebhook() (reply, error) {
	var in struct {
		URL        *string
		Token      *string
		TimeoutMS  *int64
		GiveUpMS   *int64
		StatusOnly *bool

		BatchEvents *int
		Coalesce    *bool
		PullEvents  *bool
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if _, err := c.settings(); err != nil { // before what the URL of no app has of faults
		return reply{}, err
	}
	if in.URL != nil && *in.URL != "" {
		if err := c.checkWebhookURL(*in.URL); err != nil {
			return reply{}, err
		}
	}
	if in.Token != nil {
		if err := directory.ValidateSecret(*in.Token, 0, maxWebhookToken); err != nil {
			return reply{}, invalid("Token: %s", err)
		}
	}
	a, err := c.update(func(a *directory.App) error {
		assign(&a.Webhook.URL, in.URL)
		assign(&a.Webhook.Token, in.Token)
		assign(&a.Webhook.TimeoutMS, in.TimeoutMS)
		assign(&a.Webhook.GiveUpMS, in.GiveUpMS)
		assign(&a.Webhook.StatusOnly, in.StatusOnly)
		assign(&a.Webhook.BatchEvents, in.BatchEvents)
		assign(&a.Webhook.Coalesce, in.Coalesce)
		assign(&a.Webhook.PullEvents, in.PullEvents)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return ok(viewWebhook(a)), nil
}

func (c *consoleCall) checkWebhookURL(url string) error {
	if len(url) > maxWebhookURL {
		return invalid("URL: has %d bytes, at most %d are allowed", len(url), maxWebhookURL)
	}
	if err := c.s.opts.CheckWebhookURL(url); err != nil {
		return invalid("URL: %s", err)
	}
	return nil
}

// classView is the heartbeat interval and silence time-out of a platform class.
type classView struct{ HeartbeatMS, SilenceMS int64 }

type timeoutsView struct {
	Mobile, Desktop, Web classView
	PushRetentionMS      int64
	TicketTTLMS          int64
}

func viewTimeouts(a *directory.App) timeoutsView {
	t := &a.Timeouts
	return timeoutsView{classView(t.Mobile), classView(t.Desktop), classView(t.Web), t.PushRetentionMS, t.TicketTTLMS}
}

func (c *consoleCall) getTimeouts() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(viewTimeouts(a)), nil
}

// classInput changes what it names.
type classInput struct{ HeartbeatMS, SilenceMS *int64 }

func (in *classInput) apply(t *directory.ClassTimeouts) {
	if in != nil {
		assign(&t.HeartbeatMS, in.HeartbeatMS)
		assign(&t.SilenceMS, in.SilenceMS)
	}
}

func (c *consoleCall) putTimeouts() (reply, error) {
	var in struct {
		Mobile, Desktop, Web *classInput
		PushRetentionMS      *int64
		TicketTTLMS          *int64
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	a, err := c.update(func(a *directory.App) error {
		in.Mobile.apply(&a.Timeouts.Mobile)
		in.Desktop.apply(&a.Timeouts.Desktop)
		in.Web.apply(&a.Timeouts.Web)
		assign(&a.Timeouts.PushRetentionMS, in.PushRetentionMS)
		assign(&a.Timeouts.TicketTTLMS, in.TicketTTLMS)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return ok(viewTimeouts(a)), nil
}

// limitsView is an app's rates; 0 is unlimited.
type limitsView struct {
	CallsPerSecond      float64
	BatchCallsPerSecond float64
}

func (c *consoleCall) getLimits() (reply, error) {
	a, err := c.settings()
	if err != nil {
		return reply{}, err
	}
	return ok(limitsView(a.Limits)), nil
}

func (c *consoleCall) putLimits() (reply, error) {
	var in struct{ CallsPerSecond, BatchCallsPerSecond *float64 }
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	for name, rate := range map[string]*float64{"CallsPerSecond": in.CallsPerSecond, "BatchCallsPerSecond": in.BatchCallsPerSecond} {
		if rate != nil && !(*rate >= 0 && *rate <= maxRate) {
			return reply{}, invalid("%s: want a number from 0 to %d, got %v", name, int64(math.Round(maxRate)), *rate)
		}
	}
	a, err := c.update(func(a *directory.App) error {
		assign(&a.Limits.CallsPerSecond, in.CallsPerSecond)
		assign(&a.Limits.BatchCallsPerSecond, in.BatchCallsPerSecond)
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	return ok(limitsView(a.Limits)), nil
}
