package bench

import (
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/usersig"
)

// sigLife is how long the UserSigs of a run are valid.
const sigLife = 30 * 24 * time.Hour

// maxSigned bounds the UserSigs that are made and kept ahead, about 250 bytes each.
const maxSigned = 200_000

// sign makes the UserSig of userID.
func (o *Options) sign(userID string) (string, error) {
	s, err := usersig.Sign(o.Key, o.App, userID, time.Now().Unix(), int64(sigLife/time.Second), nil)
	if err != nil {
		return "", fmt.Errorf("cannot sign for user %q: %w", userID, err)
	}
	return s, nil
}

// newPopulation signs ahead for the first n users, so that signing does not
// disturb what is measured.
func newPopulation(o *Options, n int) (*population, error) {
	p := &population{o: o, sigs: make([]string, min(n, maxSigned))}
	const workers = 4
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(p.sigs) && errs[w] == nil; i += workers {
				p.sigs[i], errs[w] = o.sign(p.userID(i))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// resign makes the next UserSig of user n a new one: a kick ends those made before it.
func (p *population) resign(n int) {
	if n < len(p.sigs) {
		p.sigs[n] = ""
	}
}

func (p *population) sig(n int) string {
	if n < len(p.sigs) && p.sigs[n] != "" {
		return p.sigs[n]
	}
	s, err := p.o.sign(p.userID(n))
	if err != nil {
		return "" // the server will say what it thinks of it
	}
	return s
}
