package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// Sign is the Sign parameter of the query string: lower-case hex of
// SHA-256(token + requestTime), requestTime in Unix seconds.
func Sign(token string, requestTime int64) string {
	sum := sha256.Sum256([]byte(token + strconv.FormatInt(requestTime, 10)))
	return hex.EncodeToString(sum[:])
}

// Signature is the webhook-signature header of Standard Webhooks 1.0.0: v1,
// and the base64 of HMAC-SHA256 over id.timestamp.body.
func Signature(token, id string, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, secret(token))
	mac.Write([]byte(id + "." + strconv.FormatInt(timestamp, 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// secret is the key for Signature: the token's bytes, or what follows whsec_
// decoded from base64 if the token has that form.
func secret(token string) []byte {
	if coded, ok := strings.CutPrefix(token, "whsec_"); ok {
		if key, err := base64.StdEncoding.DecodeString(coded); err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(token)
}
