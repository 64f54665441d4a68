package api

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// TestRequestBoundaries: a stranger in front of a proxy must not get a second
// request past it inside of a first one. Where servers have disagreed on where a
// request ends, ours reads it as RFC 9112 says and hangs up, or refuses it and
// hangs up; what follows is then nobody's request. Only what has one reading is
// followed by the next request.
func TestRequestBoundaries(t *testing.T) {
	const (
		head    = "POST /v4/a/b HTTP/1.1\r\nHost: x\r\n"
		next    = "GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"
		refused = "cannot be read"
		read    = "there is no command"
		second  = "openapi: 3"
	)
	for name, tt := range map[string]struct {
		in   string
		want []string
	}{
		"one length":                  {head + "Content-Length: 2\r\n\r\n{}", []string{read, second}},
		"chunks":                      {head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", []string{read, second}},
		"length before chunks":        {head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", []string{read}}, // 6.1: chunks count, then close
		"length after chunks":         {head + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n", []string{read}},
		"two equal lengths":           {head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"two lengths":                 {head + "Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}", []string{refused}},
		"list of lengths":             {head + "Content-Length: 2, 2\r\n\r\n{}", []string{refused}},
		"signed length":               {head + "Content-Length: +2\r\n\r\n{}", []string{refused}},
		"negative length":             {head + "Content-Length: -2\r\n\r\n{}", []string{refused}},
		"hexadecimal length":          {head + "Content-Length: 0x2\r\n\r\n{}", []string{refused}},
		"endless length":              {head + "Content-Length: 99999999999999999999\r\n\r\n{}", []string{refused}},
		"length with a space":         {head + "Content-Length : 2\r\n\r\n{}", []string{refused}},
		"length in another spelling":  {head + "Content_Length: 2\r\nContent-Length: 0\r\n\r\n", []string{read, second}},
		"folded header":               {head + "X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", []string{read, second}}, // 5.2: as if it were one line
		"folded first header":         {"POST /v4/a/b HTTP/1.1\r\n Host: x\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"bare LF":                     {"POST /v4/a/b HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}", []string{read, second}}, // 2.2: may be taken for a line's end
		"bare CR":                     {head + "X: y\rContent-Length: 2\r\n\r\n", []string{refused}},
		"chunk extension":             {head + "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n", []string{read, second}},
		"chunk extension with LF":     {head + "Transfer-Encoding: chunked\r\n\r\n2;a=\nb\r\n{}\r\n0\r\n\r\n", []string{refused}},
		"chunks with bare LF":         {head + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n", []string{refused}},
		"hexadecimal chunk":           {head + "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", []string{refused}},
		"signed chunk":                {head + "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n", []string{refused}},
		"chunk that overflows":        {head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff2\r\n{}\r\n0\r\n\r\n", []string{refused}},
		"chunk longer than it says":   {head + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n", []string{refused}},
		"two codings":                 {head + "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", []string{refused}},
		"unknown coding":              {head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []string{refused}},
		"coding with a space":         {head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []string{refused}},
		"coding twice":                {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{refused}},
		"chunks in HTTP/1.0":          {"POST /v4/a/b HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []string{refused}},
		"no host":                     {"POST /v4/a/b HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"two hosts":                   {head + "Host: y\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"NUL in a name":               {head + "X\x00: y\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"NUL in a value":              {head + "X: \x00y\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"a word behind the version":   {"POST /v4/a/b HTTP/1.1 X\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", []string{refused}},
		"headers beyond their bounds": {head + "X: " + strings.Repeat("x", readBufferSize) + "\r\n\r\n", []string{"16384 bytes"}},
		"HTTP/2":                      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []string{refused}},
		"TLS":                         {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", []string{refused}},
		"native login":                {"\x01\x10\x00\x02\x08\x01\r\n\r\n", []string{refused}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			var got []string
			for _, res := range playTape(t, r.s.newRESTFast(), []byte(tt.in+next)) {
				body, _ := io.ReadAll(res.Body)
				got = append(got, string(body))
			}
			if !slices.EqualFunc(got, tt.want, strings.Contains) {
				t.Errorf("answers %.200q, want %q", got, tt.want)
			}
		})
	}
}

// TestPipelining: requests that come in one piece are answered one after the
// other, each for itself.
func TestPipelining(t *testing.T) {
	r := newRig(t)
	const one = "POST /v4/openim/querystate?sdkappid=%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	answers := playTape(t, r.s.newRESTFast(), []byte(strings.Repeat(one, 500)))
	if len(answers) != 500 {
		t.Errorf("%d answers to 500 requests", len(answers))
	}
}
