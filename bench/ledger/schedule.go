package ledger

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// endKind is what ends a life, and what it is counted in.
type endKind uint8

const (
	killAtAck     endKind = 1 + iota // SIGKILL as the n-th acknowledgement of the life arrives
	killAtReceipt                    // SIGKILL as the n-th webhook request of the life arrives
	killAtStart                      // SIGKILL n microseconds after the process was started, ready or not
	stopAtAck                        // SIGTERM as the n-th acknowledgement arrives: a clean stop
	lastAtAck                        // the run is over, with the server alive
)

// end is how a life ends.
type end struct {
	kind endKind
	n    int64
}

// String is the end in a few words.
func (e end) String() string {
	switch e.kind {
	case killAtAck:
		return fmt.Sprintf("kill at ack %d", e.n)
	case killAtReceipt:
		return fmt.Sprintf("kill at webhook request %d", e.n)
	case killAtStart:
		return fmt.Sprintf("kill %v after the start", time.Duration(e.n)*time.Microsecond)
	case stopAtAck:
		return fmt.Sprintf("stop at ack %d", e.n)
	}
	return fmt.Sprintf("end at ack %d", e.n)
}

// Spans of the counts. A short life is over before the grace of the restart is,
// a long one sees its end, at the rates of a machine with two cores.
const (
	shortLife  = 300
	longLife   = 2500
	startDelay = 80_000 // microseconds: from before the store is open until the first logins
)

// schedule draws the ends of all lives: kills of them by SIGKILL, a clean stop
// after the fourth of every ten, and the last. It depends on the seed alone.
func schedule(seed uint64, kills, acks int) []end {
	r := rand.New(rand.NewPCG(seed, 'k'))
	var out []end
	for i := range kills {
		e := end{killAtAck, 1 + r.Int64N(shortLife)}
		switch { // five kills have each kind
		case i%5 == 1:
			e = end{killAtStart, 1 + r.Int64N(startDelay)}
		case i%5 == 2:
			e = end{killAtReceipt, 1 + r.Int64N(shortLife)}
		case r.IntN(2) == 0:
			e.n = longLife/2 + r.Int64N(longLife/2)
		}
		if i == kills-1 { // with links enough that many are away at the end
			e = end{killAtAck, longLife/2 + r.Int64N(longLife/2)}
		}
		out = append(out, e)
		if i%10 == 3 && i < kills-1 {
			out = append(out, end{stopAtAck, 1 + r.Int64N(shortLife)})
		}
	}
	return append(out, end{lastAtAck, int64(acks)})
}

// receiverMode is how the receiver treats its next requests.
type receiverMode uint8

const (
	receiverGood   receiverMode = iota
	receiverFails               // HTTP 500
	receiverSaysNo              // HTTP 200, ErrorCode 1
	receiverHangs               // no answer until the caller gives up
	receiverResets              // the connection breaks in the middle of the answer
	receiverDead                // its listener is closed for a while
	receiverModes
)

// receiverPhase is a mode for a number of requests. A dead receiver counts none:
// it is dead for that many times 10 ms.
type receiverPhase struct {
	mode receiverMode
	n    int
}

// nextPhase draws a phase: good ones are long, the others short, so that a run
// is about the server and not about waiting for its back-off.
func nextPhase(r *rand.Rand, before receiverMode) receiverPhase {
	if before != receiverGood {
		return receiverPhase{receiverGood, 100 + r.IntN(400)}
	}
	mode := receiverMode(1 + r.IntN(int(receiverModes)-1))
	if mode == receiverDead {
		return receiverPhase{mode, 20 + r.IntN(80)}
	}
	return receiverPhase{mode, 1 + r.IntN(6)}
}
