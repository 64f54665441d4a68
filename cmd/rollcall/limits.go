package main

import (
	"github.com/rollcall-im/rollcall/engine"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/config"
)

// burstSeconds is how many seconds' worth of new links an address may bring at
// once: behind one may be many who lost their links together.
const burstSeconds = 10

// applyLimits sets what limits links, docs/limits.md; links is how many there can be.
func applyLimits(o *engine.Options, c *config.Config, links int) {
	pending := 0 // unlimited
	if c.UnauthenticatedPerIP < 100 {
		pending = share(links, c.UnauthenticatedPerIP)
	}
	o.AcceptRate = c.AcceptRate
	o.PerIP = admission.Limits{Rate: c.AcceptRatePerIP, Burst: burstSeconds * c.AcceptRatePerIP, Links: c.LinksPerIP, Pending: pending}
	o.PerNet64 = admission.Limits{Rate: c.AcceptRatePerNet64, Burst: burstSeconds * c.AcceptRatePerNet64, Links: c.LinksPerNet64, Pending: pending}
	o.UnlimitedNetworks, o.TrackedAddresses = c.UnlimitedNetworks, c.TrackedAddresses
	o.MaxUnauthenticated = share(links, c.Unauthenticated)
	o.FirstFrameTimeout, o.LoginTimeout = c.FirstFrameTimeout, c.LoginTimeout
	o.OutboundCap, o.MinProgress = c.OutboundCap, c.MinProgress
	if o.MinProgress == 0 {
		o.MinProgress = -1 // any; 0 is the engine's default
	}
}

// share is so many percent of links, at least one.
func share(links, percent int) int { return max(links*percent/100, 1) }
