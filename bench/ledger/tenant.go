package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/usersig"
)

// webhookToken signs all webhook requests of a run.
const webhookToken = "ledger-webhook-token"

// sigLifeS is how long UserSigs are valid: longer than any run.
const sigLifeS = 30 * 24 * 3600

// silenceMS is the silence time-out of a run: nobody falls silent in it, so a
// client need not send heartbeats. It is a setting that must survive, too.
const silenceMS = 6 * 3600 * 1000

// tenant is an app and its operator, who changes its login policy and looks
// after its settings after each restart.
type tenant struct {
	App      // Policies are guarded by mu
	d        *driver
	key      string
	adminSig string
	rng      *rand.Rand // owned by the operator's goroutine

	mu   sync.Mutex // held during a change, so that a restart is settled after it
	made bool       // it was acknowledged that the app exists
}

func newTenant(d *driver, id uint32) *tenant {
	t := &tenant{
		App: App{ID: id}, d: d, key: fmt.Sprintf("ledger-key-of-app-%d-%d", id, d.o.Seed),
		rng: rand.New(rand.NewPCG(d.o.Seed, uint64(id))),
	}
	t.Policies = []PolicyChange{{Policy: t.draw(), Outcome: Done}}
	t.adminSig = t.sign("administrator", time.Now().Unix())
	return t
}

// sign makes a UserSig; its parts are the run's own, so it cannot fail.
func (t *tenant) sign(user string, atS int64) string {
	sig, err := usersig.Sign(t.key, t.ID, user, atS, sigLifeS, nil)
	if err != nil {
		panic(fmt.Sprintf("ledger: cannot sign for %q: %v", user, err))
	}
	return sig
}

// draw picks a policy.
func (t *tenant) draw() Policy {
	return Policy{[]string{"single", "dual", "triple", "multi"}[t.rng.IntN(4)], 1 + t.rng.IntN(3)}
}

// settings are the app's settings that a run makes and reads back.
type settings struct {
	Policy   policyBody
	Webhook  struct{ URL string }
	Timeouts timeouts
}

type policyBody struct {
	Preset string
	Limits map[string]int `json:",omitempty"`
}

type class struct{ HeartbeatMS, SilenceMS int64 }

type timeouts struct{ Mobile, Desktop, Web class }

var calm = timeouts{class{silenceMS / 2, silenceMS}, class{silenceMS / 2, silenceMS}, class{silenceMS / 2, silenceMS}}

func (p Policy) body() policyBody { return policyBody{p.Preset, map[string]int{"Web": p.Web}} }

func (b policyBody) policy() Policy { return Policy{b.Preset, max(b.Limits["Web"], 1)} }

func (t *tenant) path(part string) string { return fmt.Sprintf("apps/%d%s", t.ID, part) }

// settle makes the app in the first life. In later ones it reads its settings
// back: they were acknowledged, so they must be there.
func (t *tenant) settle(ctx context.Context, p *process) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.made {
		return t.make(ctx, p)
	}
	var got settings
	status, err := t.d.console(ctx, p, http.MethodGet, t.path(""), nil, &got)
	if status == http.StatusNotFound {
		t.d.found(LostSetting, "app %d does not exist any more in life %d", t.ID, p.life)
		return t.make(ctx, p)
	}
	if err != nil {
		return err
	}
	if got.Webhook.URL != t.d.receiver.url(t.ID) || got.Timeouts != calm {
		t.d.found(LostSetting, "app %d has webhook %q and time-outs %+v in life %d", t.ID, got.Webhook.URL, got.Timeouts, p.life)
	}
	t.settlePolicy(p.life, got.Policy.policy())
	return nil
}

// settlePolicy decides a change that was not answered by the policy that is there.
func (t *tenant) settlePolicy(life int, got Policy) {
	last := &t.Policies[len(t.Policies)-1]
	if last.Outcome == Unknown {
		last.Outcome = Refused
		if got == last.Policy {
			last.Outcome, last.ToMS = Done, time.Now().UnixMilli()
		}
	}
	for i := len(t.Policies) - 1; i >= 0; i-- {
		if c := &t.Policies[i]; c.Outcome == Done {
			if c.Policy != got {
				t.d.found(LostSetting, "app %d has policy %+v in life %d; %+v was acknowledged", t.ID, got, life, c.Policy)
			}
			return
		}
	}
}

// make creates the app as it was acknowledged last. A life may end in the middle
// of it, so each part may be there already.
func (t *tenant) make(ctx context.Context, p *process) error {
	policy := t.Policies[0].Policy
	for i := range t.Policies {
		if t.Policies[i].Outcome == Done {
			policy = t.Policies[i].Policy
		}
	}
	status, err := t.d.console(ctx, p, http.MethodPost, "apps", map[string]any{"SDKAppID": t.ID, "Name": "ledger", "Secret": t.key}, &struct{}{})
	if err != nil && status != http.StatusConflict {
		return fmt.Errorf("cannot create app %d: %w", t.ID, err)
	}
	for part, body := range map[string]any{
		"/webhook":  map[string]any{"URL": t.d.receiver.url(t.ID), "Token": webhookToken, "TimeoutMS": 1000},
		"/timeouts": calm,
		"/policy":   policy.body(),
	} {
		if _, err := t.d.console(ctx, p, http.MethodPut, t.path(part), body, &struct{}{}); err != nil {
			return fmt.Errorf("cannot set up app %d: %w", t.ID, err)
		}
	}
	t.made = true
	return nil
}

// run changes the policy now and then, until the run comes to rest.
func (t *tenant) run(ctx context.Context) {
	for {
		rest := time.NewTimer(t.d.o.Calm * time.Duration(5+t.rng.IntN(15)))
		select {
		case <-rest.C:
		case <-t.d.ending:
			rest.Stop()
			return
		case <-ctx.Done():
			rest.Stop()
			return
		}
		if p := t.d.await(ctx); p != nil {
			t.change(ctx, p)
		}
	}
}

func (t *tenant) change(ctx context.Context, p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := PolicyChange{Policy: t.draw(), FromMS: time.Now().UnixMilli(), Outcome: Unknown}
	status, err := t.d.console(ctx, p, http.MethodPut, t.path("/policy"), c.body(), &struct{}{})
	c.ToMS = time.Now().UnixMilli()
	switch {
	case errors.Is(err, errNotSent):
		return
	case err == nil:
		c.Outcome = Done
		t.d.ack()
	case status != 0 && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout:
		t.d.found(WrongAnswer, "app %d: policy %+v: %v", t.ID, c.Policy, err)
		return
	case !p.over(t.d.o.AnswerTimeout) && ctx.Err() == nil:
		t.d.found(Unanswered, "app %d: policy %+v: %v, and the server lives", t.ID, c.Policy, err)
	}
	t.Policies = append(t.Policies, c)
}
