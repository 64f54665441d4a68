package usersig

import (
	"compress/zlib"
	"fmt"
	"testing"
)

// raceEnabled is set by race_test.go.
var raceEnabled bool

// benchSigs returns n UserSigs of different users, as phones send them.
func benchSigs(b testing.TB, n int) (sigs [][]byte, checks []Check) {
	for i := range n {
		user := fmt.Sprintf("user_%011d", i*7919)
		sig, err := Sign(vectorKey, vectorApp, user, vectorTime-int64(i), vectorExpire, nil)
		if err != nil {
			b.Fatal(err)
		}
		sigs = append(sigs, []byte(sig))
		checks = append(checks, Check{AppID: vectorApp, UserID: user, Secrets: []string{vectorKey}, NowS: vectorTime})
	}
	return sigs, checks
}

// TestVerifyAllocations: a good UserSig allocates nothing, whichever blocks its
// stream has.
func TestVerifyAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops at random")
	}
	sigs, checks := benchSigs(t, 100)
	for _, level := range []int{zlib.NoCompression, zlib.BestSpeed, zlib.BestCompression} {
		sigs, checks = append(sigs, []byte(packed(t, vectorDoc, level))), append(checks, *vectorCheck(vectorTime))
	}
	i := 0
	allocs := testing.AllocsPerRun(1000, func() {
		if r := Verify(sigs[i%len(sigs)], &checks[i%len(sigs)]); r.Code != OK {
			t.Fatal(r)
		}
		i++
	})
	if allocs > 0 {
		t.Errorf("%.2f allocations a UserSig, want none", allocs)
	}
}

func BenchmarkVerify(b *testing.B) {
	sigs, checks := benchSigs(b, 1000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if r := Verify(sigs[i], &checks[i]); r.Code != OK {
			b.Fatal(r)
		}
		i = (i + 1) % len(sigs)
	}
}

func BenchmarkSign(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(vectorKey, vectorApp, vectorUser, vectorTime, vectorExpire, nil); err != nil {
			b.Fatal(err)
		}
	}
}
