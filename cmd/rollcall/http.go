package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/internal/certs"
)

// callTimeout bounds a call to a server, its answer included.
const callTimeout = 30 * time.Second

// maxAnswer bounds the answer that is read.
const maxAnswer = 16 << 20

// httpFlags are what calls to the REST API and to the console have in common.
type httpFlags struct {
	caFile  string
	cert    string // file with the caller's own certificate; "": it has none
	key     string // file with its key
	patient bool   // wait for an answer as long as it takes
}

func (h *httpFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&h.caFile, "ca-file", "", "PEM `file` with the authorities to trust for https, instead of the system's")
	fs.StringVar(&h.cert, "client-cert", "", "PEM `file` with a certificate to show to a server that wants one (admin-client-ca); needs --client-key")
	fs.StringVar(&h.key, "client-key", "", "PEM `file` with its private key")
}

// client returns an HTTP client for a server at base.
func (h *httpFlags) client(base string) (*http.Client, error) {
	c := &http.Client{Timeout: callTimeout}
	if h.patient {
		c.Timeout = 0
	}
	for name, value := range map[string]string{"ca-file": h.caFile, "client-cert": h.cert, "client-key": h.key} {
		if value != "" && !strings.HasPrefix(base, "https://") {
			return nil, usagef("--%s is for https addresses, not for %s", name, base)
		}
	}
	config, err := h.tls()
	if err != nil || config == nil {
		return c, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	c.Transport = t
	return c, nil
}

// tls is what the flags say of TLS, nil if they say nothing.
func (h *httpFlags) tls() (*tls.Config, error) {
	if h.caFile == "" && h.cert == "" && h.key == "" {
		return nil, nil
	}
	c := new(tls.Config)
	if h.caFile != "" {
		roots, err := readRoots(h.caFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = roots
	}
	switch {
	case (h.cert == "") != (h.key == ""):
		return nil, usagef("--client-cert and --client-key: want both or neither")
	case h.cert != "":
		own, err := tls.LoadX509KeyPair(h.cert, h.key)
		if err != nil {
			return nil, fmt.Errorf("--client-cert %q with --client-key %q: %w", h.cert, h.key, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return c, nil
}

// readRoots reads the file of a --ca-file.
func readRoots(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	roots, err := certs.Pool(pem)
	if err != nil {
		return nil, fmt.Errorf("--ca-file %q: %w", name, err)
	}
	return roots, nil
}

// baseURL is the address of a server as given by a flag; without a scheme it is plain HTTP.
func baseURL(flagName, text string) (string, error) {
	base := text
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	base = strings.TrimSuffix(base, "/")
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("--%s %q: want host:port, http://host:port or https://host:port", flagName, text)
	}
	return base, nil
}

// statusError is an answer with an HTTP status of 400 or more.
type statusError struct {
	status int
	text   string
}

func (s *statusError) Error() string { return s.text }

// sendJSON sends body as JSON (nil: no body) and returns the answer's body; an HTTP status of 400 or more
// is a *statusError. Its errors never hold the URL's query: a UserSig is in it.
func (h *httpFlags) sendJSON(method, base, path, token string, body any) ([]byte, error) {
	client, err := h.client(base)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	req, err := newRequest(method, base+path, token, body)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(base, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of %s: %w", base, err)
	}
	raw = bytes.TrimSpace(raw)
	if resp.StatusCode >= 400 {
		return raw, &statusError{resp.StatusCode, fmt.Sprintf("%s answered %s: %s", req.URL.Host, resp.Status, consoleError(raw))}
	}
	return raw, nil
}

func newRequest(method, target, token string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, target, reader)
	if err != nil {
		return nil, usagef("bad address: %v", withoutURL(err))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// unreachable says why no answer came, and what to look at.
func unreachable(base string, err error) error {
	err = withoutURL(err)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("cannot reach %s: %w (is the server running?)", base, syscall.ECONNREFUSED)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s did not answer within %v", base, callTimeout)
	case errors.As(err, &unknown):
		return fmt.Errorf("cannot trust %s: %w (--ca-file names the authority to trust)", base, err)
	}
	if errors.Is(err, io.EOF) && strings.HasPrefix(base, "http://") { // how our TLS listeners take plain HTTP
		return fmt.Errorf("cannot talk to %s: %w (is it https?)", base, err)
	}
	return fmt.Errorf("cannot talk to %s: %w", base, err)
}

// withoutURL strips the URL, and the UserSig in it, from an HTTP client error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// consoleError extracts the text of a console error, or the start of the body.
func consoleError(raw []byte) string {
	var e struct {
		Error struct{ Text string }
	}
	if json.Unmarshal(raw, &e) == nil && e.Error.Text != "" {
		return e.Error.Text
	}
	return string(raw[:min(len(raw), 200)])
}

// printJSON prints an answer, indented.
func printJSON(w io.Writer, raw []byte) error {
	if len(raw) == 0 {
		_, err := fmt.Fprintln(w, "done")
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("the server answered no JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}
