package usersig

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	official "github.com/tencentyun/tls-sig-api-v2-golang/tencentyun"
	"go.uber.org/goleak"
)

// The vector of rest.md section 5.
const (
	vectorApp    = 1400000000
	vectorKey    = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	vectorUser   = "xiaojun"
	vectorTime   = 1600000000
	vectorExpire = 86400
	vectorMac    = "F7rhX8gUOlwhSaoxU1nT9fNB9LShQdL1ReCJfHY1Ffo="
	vectorBufMac = "TnDGonoG3Lm+Nhp5DDSHSO8LLInAv++XrGfwwWiKGM8="
	vectorSig    = "eNqrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwhWZiflZpXlQqeKU7MSCgswUJStDEwMogMikVhRkFqUqWVmYmcCESjJzgQKGZqgKizPTgca6mRdlRFikh-rnlGcEJ*ZXhBrmhVim*TlZ*gRnBKb4GAalOnuleUQauqXl2yrVAgA0HTGL"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func vectorCheck(nowS int64) *Check {
	return &Check{AppID: vectorApp, UserID: vectorUser, Secrets: []string{vectorKey}, NowS: nowS}
}

// testWriters has a writer per level; tests use it from one goroutine at a time.
var testWriters = map[int]*zlib.Writer{}

// packed returns the UserSig of a document that is written as it stands.
func packed(t testing.TB, doc string, level int) string {
	t.Helper()
	var b bytes.Buffer
	z := writer(t, &b, level)
	if _, err := z.Write([]byte(doc)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return encoding.EncodeToString(b.Bytes())
}

// writer returns a writer of the level; it is used again by the next call.
func writer(t testing.TB, b *bytes.Buffer, level int) *zlib.Writer {
	t.Helper()
	z := testWriters[level]
	if z == nil {
		var err error
		if z, err = zlib.NewWriterLevel(nil, level); err != nil {
			t.Fatal(err)
		}
		testWriters[level] = z
	}
	z.Reset(b)
	return z
}

// vectorDoc is the vector's document in another order, with white space.
const vectorDoc = ` { "TLS.sig" : "` + vectorMac + `", "TLS.time":1600000000,"TLS.expire":86400,` + "\n\t\r" +
	`"TLS.sdkappid":1400000000 ,"TLS.identifier":"xiaojun","TLS.ver":"2.0"} `

func TestVector(t *testing.T) {
	for _, tt := range []struct {
		now  int64
		want Code
	}{
		{vectorTime - 601, Malformed}, {vectorTime - 600, OK}, {vectorTime, OK},
		{1600086400, OK}, {1600086401, Expired},
	} {
		r := Verify([]byte(vectorSig), vectorCheck(tt.now))
		if r.Code != tt.want || (r.Text == "") != (tt.want == OK) {
			t.Errorf("at %d: %+v, want code %d", tt.now, r, tt.want)
		}
		if tt.want == OK && (r.TimeS != vectorTime || r.EndS != vectorTime+vectorExpire || r.KeyIndex != 0) {
			t.Errorf("at %d: %+v", tt.now, r)
		}
	}
}

func TestSignMakesTheVectorsMacs(t *testing.T) {
	for _, tt := range []struct{ buf, mac string }{{"", vectorMac}, {"abc", vectorBufMac}} {
		sig, err := Sign(vectorKey, vectorApp, vectorUser, vectorTime, vectorExpire, []byte(tt.buf))
		if err != nil {
			t.Fatal(err)
		}
		sc := new(scratch)
		if err := sc.parse([]byte(sig)); err != nil {
			t.Fatal(err)
		}
		if got := string(sc.document.sig); got != tt.mac {
			t.Errorf("userbuf %q: TLS.sig is %s, want %s", tt.buf, got, tt.mac)
		}
		if r := Verify([]byte(sig), vectorCheck(vectorTime)); r.Code != OK {
			t.Errorf("userbuf %q: %+v", tt.buf, r)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for name, sign := range map[string]func() (string, error){
		"empty key":         func() (string, error) { return Sign("", 1, "u", 1, 1, nil) },
		"empty user":        func() (string, error) { return Sign("k", 1, "", 1, 1, nil) },
		"line end in user":  func() (string, error) { return Sign("k", 1, "a\nb", 1, 1, nil) },
		"user not ASCII":    func() (string, error) { return Sign("k", 1, "\xff", 1, 1, nil) },
		"buffer far beyond": func() (string, error) { return Sign("k", 1, "u", 1, 1, make([]byte, 10_000)) },
		"buffer beyond":     func() (string, error) { return Sign("k", 1, "u", 1, 1, random(6000)) }, // its base64 alone would fit
	} {
		if sig, err := sign(); err == nil {
			t.Errorf("%s: signed as %q", name, sig)
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// TestForms verifies one document in every legal dress.
func TestForms(t *testing.T) {
	for _, tt := range []struct {
		name, doc string
		level     int
	}{
		{"stored", vectorDoc, zlib.NoCompression},
		{"Huffman only", vectorDoc, zlib.HuffmanOnly},
		{"dynamic", vectorDoc + strings.Repeat(vectorSpace, 100), zlib.BestCompression},
		{"fixed", vectorDoc, zlib.BestSpeed},
		{"unknown members", strings.Replace(vectorDoc, "{", `{"a":[1,-2.5e+3,{"b":null,"":[]}],"c":"\u00e9\ud83d\ude00","d":{},"e":true,"f":false,`, 1), 6},
		{"escapes", strings.NewReplacer("xiaojun", `\u0078iao\u006Aun`, "TLS.ver", `TLS\u002ever`, "/", `\/`).Replace(vectorDoc), 6},
		{"as large as allowed", vectorDoc + strings.Repeat(" ", MaxInflated-len(vectorDoc)), 6},
	} {
		if r := Verify([]byte(packed(t, tt.doc, tt.level)), vectorCheck(vectorTime)); r.Code != OK {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

const vectorSpace = " \n\t \r"

func TestMalformed(t *testing.T) {
	doc := func(old, new string) string {
		if !strings.Contains(vectorDoc, old) {
			t.Fatalf("nothing to replace: %q", old)
		}
		return packed(t, strings.Replace(vectorDoc, old, new, 1), 6)
	}
	raw, _ := encoding.DecodeString(vectorSig)
	wrong := func(change func(b []byte) []byte) string {
		return encoding.EncodeToString(change(bytes.Clone(raw)))
	}
	for name, sig := range map[string]string{
		"not base64":              "!" + vectorSig[1:],
		"standard base64":         base64.StdEncoding.EncodeToString(raw),
		"line end inside":         vectorSig[:8] + "\n" + vectorSig[8:],
		"carriage return at end":  vectorSig + "\r",
		"cut base64":              vectorSig[:len(vectorSig)-1],
		"cut stream":              wrong(func(b []byte) []byte { return b[:len(b)-1] }),
		"no checksum":             wrong(func(b []byte) []byte { return b[:len(b)-4] }),
		"wrong checksum":          wrong(func(b []byte) []byte { b[len(b)-1]++; return b }),
		"something after":         wrong(func(b []byte) []byte { return append(b, 0) }),
		"two streams":             wrong(func(b []byte) []byte { return append(b, b...) }),
		"wrong header":            wrong(func(b []byte) []byte { b[0]++; return b }),
		"preset dictionary":       wrong(func(b []byte) []byte { b[1] = 0xbb; return b }),
		"gzip":                    encoding.EncodeToString([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00")),
		"empty stream":            packed(t, "", 6),
		"null":                    packed(t, "null", 6),
		"array":                   packed(t, "[]", 6),
		"empty object":            packed(t, "{}", 6),
		"one byte too large":      packed(t, vectorDoc+strings.Repeat(" ", MaxInflated+1-len(vectorDoc)), 6),
		"no closing brace":        doc(`"2.0"}`, `"2.0"`),
		"trailing comma":          doc(`"2.0"}`, `"2.0",}`),
		"garbage after":           packed(t, vectorDoc+"x", 6),
		"zero byte after":         packed(t, vectorDoc+"\x00", 6),
		"second object":           packed(t, vectorDoc+"{}", 6),
		"name without quotes":     doc(`"TLS.ver"`, `TLS.ver`),
		"no colon":                doc(`"TLS.ver":`, `"TLS.ver" `),
		"no comma":                doc(`,"TLS.ver"`, ` "TLS.ver"`),
		"version 2.1":             doc(`"2.0"`, `"2.1"`),
		"version is a number":     doc(`"2.0"`, `2.0`),
		"no version":              doc(`"TLS.ver"`, `"TLS.version"`),
		"no identifier":           doc(`TLS.identifier`, `TLS.Identifier`),
		"no app":                  doc(`TLS.sdkappid`, `TLS.appid`),
		"no time":                 doc(`TLS.time`, `TLS.Time`),
		"no expire":               doc(`TLS.expire`, `TLS.expires`),
		"no signature":            doc(`TLS.sig`, `TLS.sign`),
		"identifier is a number":  doc(`"xiaojun"`, `1`),
		"identifier has line end": doc(`xiaojun`, `xiao\njun`),
		"app is a string":         doc(`1400000000`, `"1400000000"`),
		"app has a fraction":      doc(`1400000000`, `1400000000.0`),
		"app has an exponent":     doc(`1400000000`, `14e8`),
		"app has a leading zero":  doc(`1400000000`, `01400000000`),
		"app has a plus":          doc(`1400000000`, `+1400000000`),
		"app is a lone minus":     doc(`1400000000`, `-`),
		"app is minus and space":  doc(`1400000000`, `- 1400000000`),
		"expire beyond 64 bits":   doc(`86400`, `9223372036854775808`),
		"expire far beyond":       doc(`86400`, `99999999999999999999999999`),
		"expire below 64 bits":    doc(`86400`, `-9223372036854775809`),
		"expire is null":          doc(`86400`, `null`),
		"userbuf is null":         doc(`{`, `{"TLS.userbuf":null,`),
		"signature is null":       doc(`"`+vectorMac+`"`, `null`),
		"same field twice":        doc(`{`, `{"TLS.sig":"`+vectorMac+`",`),
		"twice, once escaped":     doc(`{`, `{"TLS.si\u0067":"`+vectorMac+`",`),
		"raw control character":   doc(`xiaojun`, "xiao\x01jun"),
		"unknown escape":          doc(`xiaojun`, `xiao\xjun`),
		"cut escape":              doc(`xiaojun`, `xiao\u00`),
		"string without end":      packed(t, `{"TLS.ver":"2.0`, 6),
		"backslash at the end":    packed(t, `{"TLS.ver":"2.0\`, 6),
		"bad unknown member":      doc(`{`, `{"a":nul,`),
		"bad unknown number":      doc(`{`, `{"a":1.,`),
		"bad unknown exponent":    doc(`{`, `{"a":1e,`),
		"unknown leading zero":    doc(`{`, `{"a":01,`),
		"nested too deep":         doc(`{`, `{"a":`+strings.Repeat("[", 17)+strings.Repeat("]", 17)+`,`),
	} {
		if r := Verify([]byte(sig), vectorCheck(vectorTime)); r.Code != Malformed || r.Text == "" || r.KeyIndex != -1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := Verify([]byte(doc(`{`, `{"a":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+`,`)), vectorCheck(vectorTime)); r.Code != OK {
		t.Errorf("nested as deep as allowed: %+v", r)
	}
}

func TestEmpty(t *testing.T) {
	for _, sig := range [][]byte{nil, {}} {
		if r := Verify(sig, vectorCheck(vectorTime)); r.Code != Empty {
			t.Errorf("%+v", r)
		}
	}
}

// TestSizeLimit pads the stored vector with spaces to just below, at and above
// the limit.
func TestSizeLimit(t *testing.T) {
	sized := func(size int) string {
		sig := packed(t, vectorDoc+strings.Repeat(" ", size/4*3-len(vectorDoc)-overhead(t)), zlib.NoCompression)
		if len(sig) != size {
			t.Fatalf("made a UserSig of %d bytes, want %d", len(sig), size)
		}
		return sig
	}
	for _, tt := range []struct {
		size int
		want Code
	}{{MaxSize - 4, OK}, {MaxSize, OK}, {MaxSize + 4, Malformed}} {
		if r := Verify([]byte(sized(tt.size)), vectorCheck(vectorTime)); r.Code != tt.want {
			t.Errorf("%d bytes: %+v, want %d", tt.size, r, tt.want)
		}
	}
	// One byte more is no whole base64 text, but it must be the size that refuses it.
	r := Verify([]byte(sized(MaxSize)+"_"), vectorCheck(vectorTime))
	if r.Code != Malformed || !strings.Contains(r.Text, "8193 bytes") {
		t.Errorf("%d bytes: %+v", MaxSize+1, r)
	}
}

// overhead is what stored blocks add to a document.
func overhead(t *testing.T) int {
	raw, err := encoding.DecodeString(packed(t, vectorDoc, zlib.NoCompression))
	if err != nil {
		t.Fatal(err)
	}
	return len(raw) - len(vectorDoc)
}

func TestBombs(t *testing.T) {
	for _, ratio := range []int{10, 100, 1000} {
		zeros := packed(t, strings.Repeat(" ", ratio*1000), 9)
		for name, sig := range map[string]string{
			"spaces":        zeros,
			"then a vector": packed(t, strings.Repeat(" ", ratio*1000)+vectorDoc, 9),
		} {
			allocs := testing.AllocsPerRun(20, func() {
				if r := Verify([]byte(sig), vectorCheck(vectorTime)); r.Code != Malformed || !strings.Contains(r.Text, "inflates to more") {
					t.Fatalf("%d:1 of %s, %d bytes: %+v", ratio, name, len(sig), r)
				}
			})
			if allocs > 20 {
				t.Errorf("%d:1 of %s allocates %.0f times", ratio, name, allocs)
			}
		}
	}
}

// TestOrder gives UserSigs with several faults: the first of the documented
// order is answered.
func TestOrder(t *testing.T) {
	sign := func(secret string, app uint32, user string, timeS, expireS int64) string {
		sig, err := Sign(secret, app, user, timeS, expireS, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	const now = 1_700_000_000
	check := Check{AppID: 7, UserID: "u", Secrets: []string{"k"}, NowS: now, CutoffS: now - 100}
	for _, tt := range []struct {
		name string
		sig  string
		want Code
	}{
		{"all well", sign("k", 7, "u", now, 60), OK},
		{"at the cut-off", sign("k", 7, "u", now-100, 600), OK},
		{"before the cut-off", sign("k", 7, "u", now-101, 600), Expired},
		{"last second", sign("k", 7, "u", now-60, 60), OK},
		{"expired", sign("k", 7, "u", now-61, 60), Expired},
		{"never valid", sign("k", 7, "u", now, -1), Expired},
		{"ahead as far as allowed", sign("k", 7, "u", now+600, 60), OK},
		{"too far ahead", sign("k", 7, "u", now+601, 60), Malformed},
		{"as far ahead as can be", sign("k", 7, "u", math.MaxInt64, math.MaxInt64), Malformed},
		{"as far back as can be", sign("k", 7, "u", math.MinInt64, math.MinInt64), Expired},
		{"end beyond 64 bits", sign("k", 7, "u", now, math.MaxInt64), OK},
		{"too far ahead, all else wrong", sign("x", 8, "v", now+601, -9999), Malformed},
		{"other app, all else wrong", sign("x", 8, "v", now-9999, 1), OtherApp},
		{"other user, wrong key, expired", sign("x", 7, "v", now-9999, 1), OtherUser},
		{"wrong key, expired, cut off", sign("x", 7, "u", now-9999, 1), Mismatch},
		{"expired and cut off", sign("k", 7, "u", now-9999, 1), Expired},
	} {
		if r := Verify([]byte(tt.sig), &check); r.Code != tt.want {
			t.Errorf("%s: %+v, want %d", tt.name, r, tt.want)
		}
	}
	r := Verify([]byte(sign("k", 7, "u", now-9999, 1)), &check)
	if !strings.Contains(r.Text, "expired") {
		t.Errorf("expiry must be told before the cut-off: %q", r.Text)
	}
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		secrets []string
		index   int
	}{
		{[]string{vectorKey}, 0}, {[]string{"old", vectorKey}, 1}, {[]string{vectorKey, "new"}, 0},
		{[]string{"old", "new"}, -1}, {nil, -1}, {[]string{""}, -1}, {[]string{"", vectorKey}, 1},
	} {
		c := vectorCheck(vectorTime)
		c.Secrets = tt.secrets
		r := Verify([]byte(vectorSig), c)
		if r.KeyIndex != tt.index || (r.Code == OK) != (tt.index >= 0) || (r.Code == Mismatch) != (tt.index < 0) {
			t.Errorf("keys %q: %+v, want index %d", tt.secrets, r, tt.index)
		}
	}
}

// TestEmptySecretNeverSigned: what anybody can sign, nobody has.
func TestEmptySecretNeverSigned(t *testing.T) {
	d := document{identifier: []byte("u"), app: 7, time: 1, expire: 9}
	mac := sign("", appendText(make([]byte, 64), &d))
	sig, err := pack(&issued{Ver: "2.0", Identifier: "u", App: 7, Expire: 9, Time: 1, Sig: base64.StdEncoding.EncodeToString(mac[:])})
	if err != nil {
		t.Fatal(err)
	}
	if r := Verify([]byte(sig), &Check{AppID: 7, UserID: "u", Secrets: []string{""}, NowS: 1}); r.Code != Mismatch {
		t.Errorf("%+v", r)
	}
}

// TestUserbufAsItStands signs buffers that no encoder would write.
func TestUserbufAsItStands(t *testing.T) {
	for _, buf := range []string{"", "YWJj", "not base64!", "YW\nJj\n"} {
		d := document{identifier: []byte("u"), app: 7, time: 1, expire: 9, userbuf: []byte(buf), seen: fieldUserbuf}
		mac := sign("k", appendText(make([]byte, 64), &d))
		doc := fmt.Sprintf(`{"TLS.ver":"2.0","TLS.identifier":"u","TLS.sdkappid":7,"TLS.expire":9,"TLS.time":1,"TLS.userbuf":%q,"TLS.sig":%q}`, buf, base64.StdEncoding.EncodeToString(mac[:]))
		c := &Check{AppID: 7, UserID: "u", Secrets: []string{"k"}, NowS: 1}
		if r := Verify([]byte(packed(t, doc, 6)), c); r.Code != OK {
			t.Errorf("userbuf %q: %+v", buf, r)
		}
		without := strings.Replace(doc, `"TLS.userbuf"`, `"userbuf"`, 1)
		if r := Verify([]byte(packed(t, without, 6)), c); r.Code != Mismatch {
			t.Errorf("userbuf %q taken away: %+v", buf, r)
		}
	}
}

// TestTampering changes every bit of UserSigs of each kind: none passes but for
// the bits that fill the last byte before a checksum or a stored block, where
// the stream still holds the very same document.
func TestTampering(t *testing.T) {
	withBuf, err := Sign(vectorKey, vectorApp, vectorUser, vectorTime, vectorExpire, []byte("some buffer"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []string{vectorSig, withBuf, packed(t, vectorDoc, 0)} {
		for i := range sig {
			for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128} {
				b := []byte(sig)
				b[i] ^= flip
				if r := Verify(b, vectorCheck(vectorTime)); r.Code == OK && !bytes.Equal(unpacked(t, b), unpacked(t, []byte(sig))) {
					t.Errorf("byte %d ^ %d: %q passes", i, flip, b)
				}
			}
		}
	}
}

// unpacked returns the document in a UserSig.
func unpacked(t *testing.T, sig []byte) []byte {
	t.Helper()
	raw := make([]byte, len(sig))
	n, err := encoding.Decode(raw, sig)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(raw[:n]))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestTamperedDocument changes every byte of the document itself, with the
// stream's checksum made right again: only white space and escapes may vary.
func TestTamperedDocument(t *testing.T) {
	doc := strings.Join(strings.Fields(vectorDoc), "")
	for i := range doc {
		for flip := byte(1); flip != 0; flip <<= 1 {
			b := []byte(doc)
			b[i] ^= flip
			if r := Verify([]byte(packed(t, string(b), zlib.NoCompression)), vectorCheck(vectorTime)); r.Code == OK {
				t.Errorf("byte %d ^ %d: %q passes", i, flip, b)
			}
		}
	}
}

// TestAgainstOfficial signs with the reference and verifies here, and the other
// way round.
func TestAgainstOfficial(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for i := range 400 {
		official.DefaultCompressionLevel = rnd.IntN(10)
		user := make([]byte, 1+rnd.IntN(32))
		for j := range user {
			user[j] = byte(0x20 + rnd.IntN(0x5f))
		}
		app, key, expire := rnd.Uint32N(math.MaxUint32)+1, fmt.Sprintf("%x", rnd.Uint64()), 1+rnd.IntN(1e9)
		var buf []byte
		if i%2 == 1 {
			buf = make([]byte, 1+rnd.IntN(200))
			for j := range buf {
				buf[j] = byte(rnd.Uint32())
			}
		}
		theirs, err := officialSign(app, key, string(user), expire, buf)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		c := Check{AppID: app, UserID: string(user), Secrets: []string{key}, NowS: now.Unix()}
		if r := Verify([]byte(theirs), &c); r.Code != OK {
			t.Fatalf("user %q, app %d, userbuf %x: theirs is %+v here", user, app, buf, r)
		}
		ours, err := Sign(key, app, string(user), now.Unix(), int64(expire), buf)
		if err != nil {
			t.Fatal(err)
		}
		if err := officialVerify(app, key, string(user), ours, now, buf); err != nil {
			t.Fatalf("user %q, app %d, userbuf %x: ours is %v there", user, app, buf, err)
		}
	}
}

func officialSign(app uint32, key, user string, expire int, buf []byte) (string, error) {
	if buf == nil {
		return official.GenUserSig(int(app), key, user, expire)
	}
	return official.GenUserSigWithBuf(int(app), key, user, expire, buf)
}

func officialVerify(app uint32, key, user, sig string, now time.Time, buf []byte) error {
	if buf == nil {
		return official.VerifyUserSig(uint64(app), key, user, sig, now)
	}
	return official.VerifyUserSigWithBuf(uint64(app), key, user, sig, now, buf)
}

// TestUserbufFits: buffers as long as MaxSize's comment says fit, in both forms.
func TestUserbufFits(t *testing.T) {
	c := &Check{AppID: math.MaxUint32, UserID: strings.Repeat("u", 32), Secrets: []string{"k"}, NowS: vectorTime}
	for _, n := range []int{1, 200, 900, 1025, 2048, 4400} {
		sig, err := Sign("k", c.AppID, c.UserID, vectorTime, 86400*365, random(n))
		if err != nil {
			t.Fatal(err)
		}
		if r := Verify([]byte(sig), c); r.Code != OK {
			t.Errorf("%d bytes: %+v", n, r)
		}
		if r := Verify([]byte(packed(t, string(unpacked(t, []byte(sig))), zlib.NoCompression)), c); r.Code != OK {
			t.Errorf("%d bytes, stored: %+v", n, r)
		}
		t.Logf("a buffer of %d bytes makes a UserSig of %d", n, len(sig))
	}
}

// TestLongestUserbuf: Sign makes no UserSig that Verify refuses, and refuses no
// buffer that MaxSize's comment says fits.
func TestLongestUserbuf(t *testing.T) {
	c := &Check{AppID: math.MaxUint32, UserID: strings.Repeat("u", 32), Secrets: []string{"k"}, NowS: vectorTime}
	for n := 5000; n < 6200; n += 50 {
		sig, err := Sign("k", c.AppID, c.UserID, vectorTime, 86400*365, random(n))
		if err != nil {
			if n <= 5700 {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		if r := Verify([]byte(sig), c); r.Code != OK || len(sig) > MaxSize {
			t.Errorf("%d bytes: a UserSig of %d: %+v", n, len(sig), r)
		}
	}
}
