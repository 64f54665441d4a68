package api

import (
	"log/slog"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// auditPerSecond bounds the lines about refused callers: a flood of them must not
// fill the disk with its own record. What is over it is counted.
const auditPerSecond = 20

// auditLog writes down who was refused, so that an attack can be followed
// afterwards. Its lines hold addresses and names, never what was offered as a
// token or UserSig.
type auditLog struct {
	// Immutable after newAuditLog.
	log     *slog.Logger
	clock   clock.Clock
	dropped *metrics.Counter

	rate bucket
}

func newAuditLog(log *slog.Logger, c clock.Clock, m *metrics.Set) *auditLog {
	return &auditLog{log: log, clock: c, dropped: m.Counter("rollcall_http_audit_dropped_total")}
}

// refused notes that a caller was turned away.
func (a *auditLog) refused(what string, args ...any) {
	if !a.rate.take(a.clock.Now().UnixNano(), auditPerSecond) {
		a.dropped.Inc()
		return
	}
	a.log.Warn(what, args...)
}
