package bench

import (
	"fmt"
	"sync"
)

// Fault is a kind of wrong behaviour. The strings are the keys of Result.Errors.
type Fault string

// The faults.
const (
	FaultConnect       Fault = "connect_failed"    // no TCP connection
	FaultLoginTimeout  Fault = "login_timeout"     // no answer to a login in time
	FaultLoginRefused  Fault = "login_refused"     // LoginRefused or Redirect
	FaultLoginAnswer   Fault = "login_answer"      // a LoginOK that cannot be right
	FaultBeatTimeout   Fault = "heartbeat_timeout" // no HeartbeatOK in time
	FaultClosed        Fault = "unexpected_close"  // the server closed the link
	FaultForced        Fault = "forced_offline"    // ForcedOffline that nobody caused
	FaultFrame         Fault = "bad_frame"         // bytes that are no frame, or one that does not belong here
	FaultLogoutTimeout Fault = "logout_timeout"    // no LogoutOK and close in time
	FaultQuery         Fault = "query_failed"      // a REST call that was not answered with success
	FaultAnswer        Fault = "wrong_answer"      // a REST answer that does not fit the question
	FaultFalseOffline  Fault = "false_offline"     // a user with a live link is not shown Online
	FaultDetail        Fault = "wrong_detail"      // Online, but not on the right platform
	FaultStatus        Fault = "wrong_status"      // wrong status after a logout or a death
	FaultEarly         Fault = "early_timeout"     // a silent user was taken for dead before its time
	FaultNotClosed     Fault = "silent_not_closed" // a silent link was not closed in time
	FaultNotice        Fault = "notice_missing"    // kicked over REST, and no notice came, or a wrong one
	FaultKick          Fault = "kick_failed"       // a REST kick that was not answered with success
	FaultConsole       Fault = "console_failed"    // the console API did not do what was asked
	FaultHostile       Fault = "attack_noticed"    // hostile: an attack was felt by honest users, or has left something behind
	FaultLocal         Fault = "local"             // this machine: no files, no addresses
	FaultLate          Fault = "not_done_in_time"  // the run could not finish what it began
)

// maxSamples bounds the texts kept per fault.
const maxSamples = 3

// faults counts what went wrong. Safe for concurrent use.
type faults struct {
	mu      sync.Mutex
	counts  map[Fault]uint64
	samples []string
	perKind map[Fault]int
}

func newFaults() *faults {
	return &faults{counts: make(map[Fault]uint64), perKind: make(map[Fault]int)}
}

// add counts a fault and keeps the first texts of its kind.
func (f *faults) add(kind Fault, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[kind]++
	if f.perKind[kind] < maxSamples {
		f.perKind[kind]++
		f.samples = append(f.samples, string(kind)+": "+fmt.Sprintf(format, args...))
	}
}

// addMany counts n faults of a kind with their first texts.
func (f *faults) addMany(kind Fault, n uint64, when string, texts []string) {
	for _, text := range texts {
		f.add(kind, "%s: %s", when, text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[kind] += n - uint64(len(texts))
}

func (f *faults) total() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n uint64
	for _, c := range f.counts {
		n += c
	}
	return n
}

// tell writes the counts and samples into r.
func (f *faults) tell(r *Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Errors = make(map[Fault]uint64, len(f.counts))
	for k, n := range f.counts {
		r.Errors[k] = n
	}
	r.ErrorSamples = append([]string(nil), f.samples...)
}
