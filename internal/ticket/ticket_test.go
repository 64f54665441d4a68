package ticket

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nowMS = 1_800_000_000_000

var testKey = [32]byte{0: 1, 15: 0xfe, 31: 0x80}

func testClaims() Claims {
	return Claims{
		App: 1400000000, UserID: "alice", Platform: 1, DeviceID: "d1",
		InstID: 7, Seq: 42, Epoch: 3, ExpiresMS: nowMS + 1000, SigEndMS: nowMS + 5000,
	}
}

// binding is what a caller knows before it verifies a ticket.
func binding(c Claims) Claims {
	return Claims{App: c.App, UserID: c.UserID, Platform: c.Platform, DeviceID: c.DeviceID, Epoch: c.Epoch}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var key [32]byte
		copy(key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		key[0] |= 1
		want := Claims{
			App: rapid.Uint32().Draw(t, "app"), UserID: rapid.StringN(0, -1, 300).Draw(t, "user"),
			Platform: rapid.Uint8().Draw(t, "platform"), DeviceID: rapid.StringN(0, -1, 300).Draw(t, "device"),
			InstID: rapid.Uint32().Draw(t, "inst"), Seq: rapid.Uint64().Draw(t, "seq"), Epoch: rapid.Uint32().Draw(t, "epoch"),
			ExpiresMS: rapid.Int64Min(nowMS).Draw(t, "expires"),
		}
		want.SigEndMS = rapid.Int64Min(want.ExpiresMS).Draw(t, "sig end")
		ticket := Append([]byte("kept"), &key, &want)
		if string(ticket[:4]) != "kept" || len(ticket) != 4+Size {
			t.Fatalf("Append made %x", ticket)
		}
		got := binding(want)
		if err := Verify(ticket[4:], &key, &got, nowMS); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	})
}

// The bytes are stored by clients for a week: they may not change within a
// version. The vectors come from an implementation in another language.
func TestVectors(t *testing.T) {
	for _, v := range []struct {
		name   string
		claims Claims
		hex    string
	}{
		{"all", testClaims(), "0100000007000000000000002a00000003000001a3185c53e8000001a3185c6388d9910c62acbf56377b1ed99989ea9f4a"},
		{"zero", Claims{}, "0100000000000000000000000000000000000000000000000000000000000000003ebbe16710b3323f96323f3431393728"},
	} {
		got := hex.EncodeToString(Append(nil, &testKey, &v.claims))
		if got != v.hex {
			t.Errorf("%s: got %s, want %s", v.name, got, v.hex)
		}
	}
}

func TestMACIsHMAC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var key [32]byte
		copy(key[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		key[31] |= 1
		c := testClaims()
		c.UserID = rapid.StringN(0, -1, 200).Draw(t, "user")
		c.DeviceID = rapid.StringN(0, -1, 200).Draw(t, "device")
		ticket := Append(nil, &key, &c)

		h := hmac.New(sha256.New, key[:])
		h.Write([]byte("rollcall ticket\x00"))
		h.Write(ticket[:33])
		h.Write(binary.BigEndian.AppendUint32(nil, c.App))
		h.Write([]byte{c.Platform})
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.UserID))))
		h.Write([]byte(c.UserID))
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.DeviceID))))
		h.Write([]byte(c.DeviceID))
		if want := h.Sum(nil)[:16]; !bytes.Equal(ticket[33:], want) {
			t.Fatalf("MAC is %x, crypto/hmac says %x", ticket[33:], want)
		}
	})
}

func TestEveryBitCounts(t *testing.T) {
	c := testClaims()
	good := Append(nil, &testKey, &c)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			want := ErrMismatch
			if i == 0 {
				want = ErrMalformed // the version
			}
			got := binding(c)
			if err := Verify(bad, &testKey, &got, nowMS); !errors.Is(err, want) {
				t.Errorf("byte %d bit %d changed: %v, want %v", i, bit, err, want)
			}
			if got != binding(c) {
				t.Errorf("byte %d bit %d changed: claims were filled in: %+v", i, bit, got)
			}
		}
	}
}

func TestLength(t *testing.T) {
	c := testClaims()
	good := Append(nil, &testKey, &c)
	for n := range 3 * Size {
		ticket := append(bytes.Clone(good), make([]byte, 2*Size)...)[:n]
		err := Verify(ticket, &testKey, &c, nowMS)
		if n == Size && err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if n != Size && !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v, want %v", n, err, ErrMalformed)
		}
	}
}

func TestBinding(t *testing.T) {
	c := testClaims()
	ticket := Append(nil, &testKey, &c)
	for _, tc := range []struct {
		name   string
		change func(*Claims)
		want   error
	}{
		{"same", func(*Claims) {}, nil},
		{"app", func(c *Claims) { c.App++ }, ErrMismatch},
		{"user", func(c *Claims) { c.UserID = "alicf" }, ErrMismatch},
		{"user case", func(c *Claims) { c.UserID = "Alice" }, ErrMismatch},
		{"no user", func(c *Claims) { c.UserID = "" }, ErrMismatch},
		{"platform", func(c *Claims) { c.Platform = 2 }, ErrMismatch},
		{"device", func(c *Claims) { c.DeviceID = "d2" }, ErrMismatch},
		{"longer device", func(c *Claims) { c.DeviceID = "d1\x00" }, ErrMismatch},
		{"bytes moved from user to device", func(c *Claims) { c.UserID, c.DeviceID = "alic", "ed1" }, ErrMismatch},
		{"bytes moved from device to user", func(c *Claims) { c.UserID, c.DeviceID = "aliced", "1" }, ErrMismatch},
		{"later epoch", func(c *Claims) { c.Epoch++ }, ErrRevoked},
		{"earlier epoch", func(c *Claims) { c.Epoch-- }, ErrRevoked},
		{"carried fields do not bind", func(c *Claims) { c.InstID, c.Seq, c.ExpiresMS, c.SigEndMS = 99, 99, 1, 1 }, nil},
	} {
		got := binding(c)
		tc.change(&got)
		if err := Verify(ticket, &testKey, &got, nowMS); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	other := testKey
	other[31]++
	if err := Verify(ticket, &other, &c, nowMS); !errors.Is(err, ErrMismatch) {
		t.Errorf("another key: %v, want %v", err, ErrMismatch)
	}
}

func TestExpiry(t *testing.T) {
	for _, tc := range []struct {
		name                string
		expires, sigEnd, at int64
		want                error
	}{
		{"before", nowMS, 0, nowMS - 1, nil},
		{"at", nowMS, 0, nowMS, nil},
		{"after", nowMS, 0, nowMS + 1, ErrExpired},
		{"UserSig ends first, before", nowMS + 1000, nowMS, nowMS - 1, nil},
		{"UserSig ends first, at", nowMS + 1000, nowMS, nowMS, nil},
		{"UserSig ends first, after", nowMS + 1000, nowMS, nowMS + 1, ErrExpired},
		{"UserSig ends later", nowMS, nowMS + 1000, nowMS + 1, ErrExpired},
		{"no expiry given", 0, 0, nowMS, ErrExpired},
		{"far past", math.MinInt64, 0, math.MaxInt64, ErrExpired},
	} {
		c := testClaims()
		c.ExpiresMS, c.SigEndMS = tc.expires, tc.sigEnd
		err := Verify(Append(nil, &testKey, &c), &testKey, &c, tc.at)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

// What a forger writes into a ticket is not told apart from any other forgery.
func TestRevokedAndExpiredOnlyIfAuthentic(t *testing.T) {
	c := testClaims()
	c.ExpiresMS, c.Epoch = 1, 0
	forged := Append(nil, &[32]byte{9}, &c)
	c.Epoch = 1
	if err := Verify(forged, &testKey, &c, nowMS); err != ErrMismatch {
		t.Errorf("%v, want %v", err, ErrMismatch)
	}
	if err := Verify(Append(nil, &testKey, &Claims{}), &testKey, &Claims{Epoch: 1}, nowMS); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked and expired: %v, want %v", err, ErrRevoked)
	}
}

func TestZeroKey(t *testing.T) {
	var zero [32]byte
	c := testClaims()
	if got := Append([]byte("x"), &zero, &c); string(got) != "x" {
		t.Errorf("Append under a zero key made %x", got)
	}
	head := [headSize]byte{0: version, 17: 0x7f}
	sum := mac(&zero, &head, &Claims{})
	forged := append(head[:], sum[:macSize]...)
	if err := Verify(forged, &zero, &Claims{}, nowMS); !errors.Is(err, ErrMismatch) {
		t.Errorf("ticket made with the zero key: %v, want %v", err, ErrMismatch)
	}
}

func TestAllocs(t *testing.T) {
	c := testClaims()
	c.UserID, c.DeviceID = strings.Repeat("u", 32), strings.Repeat("d", 64) // the longest valid names
	buf := make([]byte, 0, Size)
	if n := testing.AllocsPerRun(100, func() { buf = Append(buf[:0], &testKey, &c) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := Verify(buf, &testKey, &c, nowMS); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Verify allocates %v times", n)
	}
}

// FuzzVerify: only what Append made under the key verifies.
func FuzzVerify(f *testing.F) {
	c := testClaims()
	f.Add(Append(nil, &testKey, &c), "alice", "d1")
	f.Add([]byte{}, "", "")
	f.Add(make([]byte, Size), "alice", "d1")
	f.Fuzz(func(t *testing.T, ticket []byte, user, device string) {
		got := binding(c)
		got.UserID, got.DeviceID = user, device
		if err := Verify(ticket, &testKey, &got, nowMS); err != nil {
			return
		}
		if again := Append(nil, &testKey, &got); !bytes.Equal(again, ticket) {
			t.Fatalf("%x verifies, but Append makes %x of what it says", ticket, again)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	c := testClaims()
	buf := make([]byte, 0, Size)
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], &testKey, &c)
	}
}

func BenchmarkVerify(b *testing.B) {
	c := testClaims()
	ticket := Append(nil, &testKey, &c)
	b.ReportAllocs()
	for b.Loop() {
		if err := Verify(ticket, &testKey, &c, nowMS); err != nil {
			b.Fatal(err)
		}
	}
}
