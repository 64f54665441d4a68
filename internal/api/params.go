package api

import "bytes"

// callParams are the URL parameters of a call that matter, as they stand in the
// URL: values, but for sig, have no escapes. nil = there is none.
type callParams struct {
	app, identifier, sig []byte
}

// scanParams reads the parameters in one pass, without decoding or copying what
// nobody asks for. It returns false if anything is odd about them, and then
// fasthttp's parser decides. What it takes, that one reads the same, but for the
// escapes of sig (FuzzParams).
func scanParams(query []byte, p *callParams) bool {
	*p = callParams{}
	for more := true; more; {
		var pair []byte
		pair, query, more = bytes.Cut(query, ampersand)
		at := bytes.IndexByte(pair, '=')
		if at < 0 {
			return false
		}
		name, value := pair[:at], pair[at+1:]
		switch string(name) { // of several the first counts
		case "usersig":
			if p.sig == nil {
				p.sig = value
			}
		case "identifier":
			if p.identifier == nil {
				p.identifier = value
			}
		case "sdkappid":
			if p.app == nil {
				p.app = value
			}
		case "random", "contenttype":
		default:
			if escaped(name) {
				return false
			}
		}
	}
	return !escaped(p.app) && !escaped(p.identifier)
}

var ampersand = []byte{'&'}

func escaped(b []byte) bool { return bytes.IndexByte(b, '%') >= 0 || bytes.IndexByte(b, '+') >= 0 }
