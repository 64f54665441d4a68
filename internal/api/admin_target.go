package api

import (
	"bytes"
	"net/url"
	"strings"
)

// target is a request target as the client wrote it. fasthttp's own path is
// decoded and cleaned: in it a UserID with "/" or ".." has become another path.
type target struct {
	path  string // still percent-encoded
	query string
}

// parseTarget splits a raw request target. It keeps none of its bytes.
func parseTarget(raw []byte) (target, error) {
	raw = originForm(raw)
	path, query, _ := bytes.Cut(raw, []byte("?"))
	switch {
	case len(path) == 0 || path[0] != '/':
		return target{}, badRequest("the request target must begin with /")
	case bytes.IndexByte(raw, '#') >= 0:
		return target{}, badRequest("# must be percent-encoded in a path or query")
	}
	return target{path: string(path), query: string(query)}, nil
}

// originForm cuts scheme and host off an absolute target, as proxies send it.
func originForm(raw []byte) []byte {
	for _, scheme := range []string{"http://", "https://"} {
		if len(raw) < len(scheme) || !strings.EqualFold(string(raw[:len(scheme)]), scheme) {
			continue
		}
		rest := raw[len(scheme):]
		if i := bytes.IndexAny(rest, "/?"); i >= 0 {
			return rest[i:]
		}
		return []byte("/")
	}
	return raw
}

// parts splits a path below a prefix at its slashes and decodes each part, so
// that an encoded slash separates nothing. No part may be empty.
func (t target) parts(prefix string) ([]string, error) {
	parts := strings.Split(strings.TrimPrefix(t.path, prefix), "/")
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return nil, badRequest("path part %q: %s", part, err)
		}
		if text == "" {
			return nil, notFound("there is nothing at this path: it has an empty part")
		}
		parts[i] = text
	}
	return parts, nil
}

// params returns the query's parameters, each at most once and only those of allowed.
func (t target) params(allowed []string) (map[string]string, error) {
	values, err := url.ParseQuery(t.query)
	if err != nil {
		return nil, badRequest("query: %s", err)
	}
	out := make(map[string]string, len(values))
	for name, v := range values {
		if !contains(allowed, name) {
			return nil, badRequest("unknown query parameter %q", name)
		}
		if len(v) > 1 {
			return nil, badRequest("query parameter %q is given %d times", name, len(v))
		}
		out[name] = v[0]
	}
	return out, nil
}
