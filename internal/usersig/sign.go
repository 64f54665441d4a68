package usersig

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// issued is the document as Sign writes it.
type issued struct {
	Ver        string `json:"TLS.ver"`
	Identifier string `json:"TLS.identifier"`
	App        uint32 `json:"TLS.sdkappid"`
	Expire     int64  `json:"TLS.expire"`
	Time       int64  `json:"TLS.time"`
	Userbuf    string `json:"TLS.userbuf,omitempty"`
	Sig        string `json:"TLS.sig"`
}

// Sign issues a UserSig for userID of an app, valid from issuedS (Unix seconds)
// for expireS seconds. A userbuf of length 0 is none. Sign refuses what Verify
// would refuse.
func Sign(secret string, appID uint32, userID string, issuedS, expireS int64, userbuf []byte) (string, error) {
	if secret == "" {
		return "", errors.New("cannot sign a UserSig with an empty key")
	}
	if userID == "" {
		return "", errors.New("cannot sign a UserSig for an empty UserID")
	}
	for _, c := range []byte(userID) {
		if c < 0x20 || c > 0x7e {
			return "", fmt.Errorf("cannot sign a UserSig for %q: it is not printable ASCII", userID)
		}
	}
	buf := base64.StdEncoding.EncodeToString(userbuf)
	if size := len(userID) + len(buf); size > MaxInflated {
		return "", fmt.Errorf("cannot sign a UserSig with %d bytes of UserID and userbuf: the limit of the whole is %d", size, MaxInflated)
	}
	d := document{identifier: []byte(userID), app: int64(appID), time: issuedS, expire: expireS, userbuf: []byte(buf)}
	if buf != "" {
		d.seen = fieldUserbuf
	}
	mac := sign(secret, appendText(make([]byte, sha256.BlockSize, sha256.BlockSize+maxText), &d))
	return pack(&issued{
		Ver: "2.0", Identifier: userID, App: appID, Expire: expireS, Time: issuedS,
		Userbuf: buf, Sig: base64.StdEncoding.EncodeToString(mac[:]),
	})
}

// writers saves the 800 KB that a new one takes.
var writers = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

// pack turns a document into the text of a UserSig.
func pack(d *issued) (string, error) {
	doc, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("cannot encode the UserSig of %q: %w", d.Identifier, err)
	}
	var b bytes.Buffer
	z := writers.Get().(*zlib.Writer)
	defer writers.Put(z)
	z.Reset(&b)
	if _, err := z.Write(doc); err != nil {
		return "", fmt.Errorf("cannot compress the UserSig of %q: %w", d.Identifier, err)
	}
	if err := z.Close(); err != nil {
		return "", fmt.Errorf("cannot compress the UserSig of %q: %w", d.Identifier, err)
	}
	if size := encoding.EncodedLen(b.Len()); size > MaxSize || len(doc) > MaxInflated {
		return "", fmt.Errorf("the UserSig of %q would have %d bytes (%d inflated), more than %d (%d)", d.Identifier, size, len(doc), MaxSize, MaxInflated)
	}
	return encoding.EncodeToString(b.Bytes()), nil
}
