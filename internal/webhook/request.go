package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// batchCommand is the callback command of a request that holds several events.
// An app that asks for batches gets every event in one, also a single one.
const batchCommand = "State.StateChangeBatch"

// requestID is the webhook-id of a request: the event's, or one for the batch,
// which is the same whenever it holds the same events.
func requestID(batch []Event, w *directory.Webhook) string {
	if w.BatchEvents == 0 {
		return batch[0].ID()
	}
	h := sha256.New()
	for i := range batch {
		h.Write([]byte(batch[i].ID()))
	}
	return "msgs_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// requestBody is the body of a request.
func requestBody(batch []Event, w *directory.Webhook) []byte {
	if w.BatchEvents == 0 {
		return batch[0].Body
	}
	size := 64
	for i := range batch {
		size += len(batch[i].Body) + 128
	}
	b := append(make([]byte, 0, size), `{"CallbackCommand":"`+batchCommand+`","Events":[`...)
	for i := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"ID":`...)
		b = appendString(b, batch[i].ID())
		b = append(b, `,"ClientIP":`...)
		b = appendString(b, batch[i].IP())
		b = append(b, `,"OptPlatform":`...)
		b = appendString(b, batch[i].OptPlatform)
		b = append(b, `,"Event":`...)
		b = append(b, batch[i].Body...)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// requestURL is the URL of an attempt, in the documented order of parameters.
// What is of one event stands beside it if there may be several.
func requestURL(t *target, batch []Event, w *directory.Webhook, requestTime int64) string {
	name, e := command, &batch[0]
	if w.BatchEvents > 0 {
		name = batchCommand
	}
	u := t.request + "SdkAppid=" + strconv.FormatUint(uint64(e.Key.App), 10) + "&CallbackCommand=" + name + "&contenttype=json"
	if w.BatchEvents == 0 {
		u += "&ClientIP=" + url.QueryEscape(e.IP()) + "&OptPlatform=" + url.QueryEscape(e.OptPlatform)
	}
	if w.Token == "" {
		return u
	}
	return u + "&Sign=" + Sign(w.Token, requestTime) + "&RequestTime=" + strconv.FormatInt(requestTime, 10)
}
