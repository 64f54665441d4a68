package embedded

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// The results of decisions, in the metrics.
const (
	resultChanged = iota
	resultUnchanged
	resultFailed
	resultEnd
)

var resultNames = [resultEnd]string{"changed", "unchanged", "failed"}

var causeNames = map[directory.NoticeCause]string{
	directory.CauseAnotherLogin:   "another_login",
	directory.CauseReplaced:       "replaced",
	directory.CauseREST:           "rest",
	directory.CauseAccountDeleted: "account_deleted",
	directory.CausePolicyChange:   "policy_change",
}

// counters are the directory's metrics; the package comment lists them.
type counters struct {
	decisions      [kindEnd][resultEnd]*metrics.Counter
	shed           [kindEnd]*metrics.Counter
	commitFailures *metrics.Counter
	sweepsShed     *metrics.Counter
	loginsBlocked  *metrics.Counter
	updatesShed    *metrics.Counter
	pushExpired    *metrics.Counter
	notices        map[directory.NoticeCause]*metrics.Counter
	noticesDropped *metrics.Counter
	changes        *metrics.Counter
	changesDropped *metrics.Counter
}

func (c *counters) init(d *Directory) {
	set, nowhere := d.opts.Metrics, new(metrics.Counter)
	for k, name := range kindNames {
		if name == "" {
			c.shed[k], c.decisions[k] = nowhere, [resultEnd]*metrics.Counter{nowhere, nowhere, nowhere}
			continue
		}
		c.shed[k] = set.Counter(`rollcall_directory_shed_total{kind="` + name + `"}`)
		for r, result := range resultNames {
			c.decisions[k][r] = set.Counter(`rollcall_decisions_total{kind="` + name + `",result="` + result + `"}`)
		}
	}
	c.commitFailures = set.Counter("rollcall_directory_commit_failures_total")
	c.loginsBlocked = set.Counter("rollcall_directory_logins_blocked_total")
	c.sweepsShed = set.Counter("rollcall_directory_sweeps_shed_total")
	c.updatesShed = set.Counter(`rollcall_directory_shed_total{kind="update_app"}`)
	c.pushExpired = set.Counter("rollcall_push_expired_total")
	c.notices = make(map[directory.NoticeCause]*metrics.Counter, len(causeNames))
	for cause, name := range causeNames {
		c.notices[cause] = set.Counter(`rollcall_notices_total{cause="` + name + `"}`)
	}
	c.noticesDropped = set.Counter("rollcall_notices_dropped_total")
	c.changes = set.Counter("rollcall_changes_total")
	c.changesDropped = set.Counter("rollcall_changes_dropped_total")
	d.registerGauges(set)
}

func (d *Directory) registerGauges(set *metrics.Set) {
	for name, i := range map[string]int{
		`rollcall_users{status="offline"}`:         usersOffline,
		`rollcall_users{status="push_online"}`:     usersPushOnline,
		`rollcall_users{status="online"}`:          usersOnline,
		`rollcall_instances{status="push_online"}`: instancesPushOnline,
		`rollcall_instances{status="online"}`:      instancesOnline,
		"rollcall_restart_orphans":                 instancesOrphan,
	} {
		set.Gauge(name, func() float64 { return float64(d.tallied(i)) })
	}
	set.Gauge("rollcall_directory_pending", func() float64 { return float64(d.pending()) })
	set.Gauge("rollcall_following", func() float64 { return float64(d.following.Load()) })
	set.Gauge("rollcall_apps", func() float64 { return float64(len(d.apps.load().sorted)) })
}

// TableBytes is the memory that the presence table takes outside of the Go heap.
func (d *Directory) TableBytes() int64 { return d.table.Stats().Bytes }

// tallied sums entry i over the lanes.
func (d *Directory) tallied(i int) (n int64) {
	for l := range d.lanes {
		n += d.lanes[l].tallyTotal[i].Load()
	}
	return n
}

// pending is the number of decisions taken in and not yet told.
func (d *Directory) pending() (n int64) {
	for l := range d.lanes {
		n += d.lanes[l].pending.Load()
	}
	return n
}

// told counts a decision that is about to be told.
func (c *counters) told(dc *decision) {
	result := resultUnchanged
	switch {
	case dc.doomed:
		result = resultFailed
	case dc.changed:
		result = resultChanged
	}
	c.decisions[dc.kind][result].Inc()
	if dc.kind == kindExpire && dc.changed && !dc.doomed {
		c.pushExpired.Add(dc.to - dc.from)
	}
}

// commitFailed counts a failed batch and logs one a second.
func (d *Directory) commitFailed(err error) {
	d.counters.commitFailures.Inc()
	now, last := d.nowMS(), d.lastLoggedMS.Load()
	if (now-last >= 1000 || now < last) && d.lastLoggedMS.CompareAndSwap(last, now) {
		d.opts.Logger.Error("the journal could not make decisions durable; they are dropped", "error", err)
	}
}
