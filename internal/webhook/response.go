package webhook

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

// outcome is what came of an attempt. The strings are the label of
// rollcall_webhook_attempts_total.
type outcome string

const (
	outcomeOK       outcome = "ok"
	outcomeStatus   outcome = "status"   // an HTTP status other than 200
	outcomeRedirect outcome = "redirect" // 3xx: never followed
	outcomeGone     outcome = "gone"     // 410: the receiver wants no more
	outcomeBusy     outcome = "busy"     // 429, 502, 503, 504
	outcomeBody     outcome = "body"     // HTTP 200 with a body that is not the answer
	outcomeTooLarge outcome = "too_large"
	outcomeCode     outcome = "code"    // HTTP 200 that says it failed
	outcomeTimeout  outcome = "timeout" // no whole answer in time
	outcomeConnect  outcome = "connect" // no connection: name, dial, TLS
	outcomeRefused  outcome = "refused_address"
	outcomeClosed   outcome = "closed"  // the connection broke before the answer was whole
	outcomeURL      outcome = "url"     // the URL cannot be used
	outcomeStopped  outcome = "stopped" // broken off by Close
)

var outcomes = []outcome{
	outcomeOK, outcomeStatus, outcomeRedirect, outcomeGone, outcomeBusy, outcomeBody, outcomeTooLarge,
	outcomeCode, outcomeTimeout, outcomeConnect, outcomeRefused, outcomeClosed, outcomeURL, outcomeStopped,
}

// endpointDown reports whether the outcome speaks of the endpoint, not of the event.
func (o outcome) endpointDown() bool {
	switch o {
	case outcomeOK, outcomeBody, outcomeCode, outcomeTooLarge:
		return false
	}
	return true
}

// result is the outcome of an attempt with what the receiver said about the next one.
type result struct {
	outcome    outcome
	status     int           // HTTP status, 0 if none came
	retryAfter time.Duration // 0 = not said
}

// parsers are reused: one is needed per answer.
var parsers fastjson.ParserPool

// judgeStatus judges an HTTP status.
func judgeStatus(status int) outcome {
	switch {
	case status == fasthttp.StatusOK:
		return outcomeOK
	case status >= 300 && status < 400:
		return outcomeRedirect
	case status == fasthttp.StatusGone:
		return outcomeGone
	case status == fasthttp.StatusTooManyRequests, status >= 502 && status <= 504:
		return outcomeBusy
	}
	return outcomeStatus
}

// judgeBody judges the body of an answer with HTTP 200: a JSON object whose
// ErrorCode is the number 0 and whose ActionStatus, if it has one, is OK.
func judgeBody(body []byte) outcome {
	if !json.Valid(body) {
		return outcomeBody // fastjson alone lets some through that are none
	}
	p := parsers.Get()
	defer parsers.Put(p)
	v, err := p.ParseBytes(body)
	if err != nil || v.Type() != fastjson.TypeObject {
		return outcomeBody
	}
	code := v.Get("ErrorCode")
	if code == nil || code.Type() != fastjson.TypeNumber {
		return outcomeBody
	}
	if n, err := code.Float64(); err != nil || n != 0 {
		return outcomeCode
	}
	if a := v.Get("ActionStatus"); a != nil && string(a.GetStringBytes()) != "OK" {
		return outcomeCode
	}
	return outcomeOK
}

// parseRetryAfter reads a Retry-After header: seconds, or an HTTP date. What is
// neither, or in the past, is 0.
func parseRetryAfter(value []byte, now time.Time) time.Duration {
	if len(value) == 0 {
		return 0
	}
	if s, err := strconv.ParseUint(string(value), 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	at, err := fasthttp.ParseHTTPDate(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}
