package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const token = "0123456789abcdef"

func files(m map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if data, ok := m[name]; ok {
			return []byte(data), nil
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
}

func env(m map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

// load runs Load with a good token file and, if yaml is not empty, a config file.
func load(args, environment, yaml string) (*Config, error) {
	in := Inputs{
		Args:     append([]string{"--admin-token-file=token"}, strings.Fields(args)...),
		ReadFile: files(map[string]string{"token": token + "\n", "rollcall.yaml": yaml, "key": DevKey + "\r\n", "short": "short", "cert.pem": certPEM, "key.pem": keyPEM}),
	}
	if strings.Contains(args, "--dev") || strings.Contains(args, "--admin-token-file") {
		in.Args = strings.Fields(args)
	}
	vars := map[string]string{}
	for pair := range strings.FieldsSeq(environment) {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	in.LookupEnv = env(vars)
	if yaml != "" {
		in.Args = append(in.Args, "--config", "rollcall.yaml")
	}
	return Load(in)
}

var certPEM, keyPEM = selfSigned()

func selfSigned() (cert, key string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		panic(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder}))
}

// Each row gives one setting in some layers; the first layer that has it wins.
func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		name            string
		args, env, yaml string
		field           func(*Config) any
		want            any
	}{
		{"default", "", "", "", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:7780"},
		{"file", "", "", "listen-api: :1", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:1"},
		{"environment over file", "", "ROLLCALL_LISTEN_API=:2", "listen-api: :1", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:2"},
		{"flag over environment and file", "--listen-api :3", "ROLLCALL_LISTEN_API=:2", "listen-api: :1", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:3"},
		{"flag over environment", "--listen-api :3", "ROLLCALL_LISTEN_API=:2", "", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:3"},
		{"flag over file", "--listen-api :3", "", "listen-api: :1", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:3"},
		{"empty environment is not set", "", "ROLLCALL_LISTEN_API=", "listen-api: :1", func(c *Config) any { return c.ListenAPI }, "0.0.0.0:1"},
		{"dev default", "--dev", "", "", func(c *Config) any { return c.RateCalls }, 0.0},
		{"file over dev default", "--dev", "", "rate-calls: 7", func(c *Config) any { return c.RateCalls }, 7.0},
		{"flag over dev default", "--dev --rate-calls 8", "", "rate-calls: 7", func(c *Config) any { return c.RateCalls }, 8.0},
		{"dev from the environment", "--admin-token-file token", "ROLLCALL_DEV=true", "", func(c *Config) any { return c.ListenAPI }, "127.0.0.1:7780"},
		{"dev from the file", "", "", "dev: true", func(c *Config) any { return c.DataDir }, "./data"},
		{"dev switched off by flag", "--dev=false --admin-token-file token", "ROLLCALL_DEV=1", "dev: true", func(c *Config) any { return c.RateCalls }, 200.0},
		{"config from the environment", "", "ROLLCALL_CONFIG=rollcall.yaml", "node: 5", func(c *Config) any { return c.Node }, uint32(5)},
		{"false flag over true file", "--webhook-allow-private=false", "", "webhook-allow-private: true", func(c *Config) any { return c.WebhookAllowPrivate }, false},
		{"alias in the file", "", "", "listen-native: &a :9\nlisten-api: :8\nlog-level: debug\n", func(c *Config) any { return c.LogLevel }, slog.LevelDebug},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := load(c.args, c.env, c.yaml)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.field(cfg); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Every setting of the table can be given in each layer and arrives.
func TestEverySettingInEveryLayer(t *testing.T) {
	other := map[string]string{
		"dev": "true", "listen-native": "127.0.0.1:1", "listen-ws": "127.0.0.1:4", "listen-mqtt": "127.0.0.1:5", "listen-api": "127.0.0.1:2", "listen-admin": "127.0.0.1:3", "listen-api-tls": "off", "listen-admin-tls": "off",
		"listen-native-tls": "off", "listen-ws-tls": "off", "listen-mqtt-tls": "off", "admin-client-ca": "cert.pem",
		"tls-handshake-timeout": "2s", "tls-handshakes": "7", "tls-handshakes-queued": "8", "tls-handshakes-computing": "2",
		"proxy-networks": "10.0.0.0/8,192.0.2.1/32,2001:db8::/32", "tls-cert": "cert.pem", "tls-key": "key.pem", "node": "9", "data-dir": "/x", "durability": "interval:250", "store-min-free": "0", "restart-grace": "0s", "max-links": "10", "loops": "3",
		"login-timeout": "3s", "accept-rate": "5.5", "accept-rate-per-ip": "6", "accept-rate-per-net64": "7", "links-per-ip": "8", "links-per-net64": "9", "max-unauthenticated": "30", "max-unauthenticated-per-ip": "31",
		"unlimited-networks": "10.0.0.0/8,::1/128", "tracked-addresses": "100", "memory-limit": "1073741824", "outbound-cap": "4096", "min-progress": "0", "first-frame-timeout": "2s", "drain-timeout": "0s", "drain-redirect": "other.example:7700", "login-rate": "500", "login-queue-time": "2s",
		"login-failures-user": "0", "login-failures-ip": "5", "login-failure-window": "2m", "login-penalty-max": "1h", "sig-cache": "0", "retry-after": "2s", "retry-max": "10m",
		"api-concurrency": "77", "api-conns-per-ip": "78", "api-max-body": "1024", "policy-max-native": "4", "policy-max-native-elsewhere": "2",
		"policy-max-web": "100", "rate-calls": "1.5", "rate-batch-calls": "2.5", "webhook-allow-private": "true", "webhook-allow-loopback": "true",
		"webhook-outbox-events": "12", "webhook-outbox-full": "block-logins", "webhook-dead-letters": "13", "webhook-log-events": "0", "webhook-timeout": "1s", "webhook-give-up": "1h", "log-level": "error", "log-format": "json",
	}
	only := map[string]bool{"config": true, "admin-token-file": true, "redis": true} // no second legal value here
	for i := range settings {
		s := &settings[i]
		value, ok := other[s.name]
		if !ok {
			if !only[s.name] {
				t.Errorf("%s: the test has no value for it", s.name)
			}
			continue
		}
		more := ""
		switch s.name {
		case "tls-key":
			more = " --tls-cert cert.pem"
		case "tls-cert":
			more = " --tls-key key.pem"
		case "admin-client-ca":
			more = " --tls-cert cert.pem --tls-key key.pem"
		}
		for _, layer := range []struct{ name, args, env, yaml, source string }{
			{"flag", "--" + s.name + "=" + value, "", "", "flag"},
			{"environment", "", Env(s.name) + "=" + value, "", "environment"},
			{"file", "", "", s.name + ": " + value, "rollcall.yaml:1"},
		} {
			t.Run(s.name+"/"+layer.name, func(t *testing.T) {
				args := strings.TrimSpace(layer.args + more)
				cfg, err := load(args, layer.env, layer.yaml)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range cfg.Values() {
					if v.Name == s.name && (v.Text != value || v.Source != layer.source) {
						t.Errorf("got %q from %q, want %q from %q", v.Text, v.Source, value, layer.source)
					}
				}
			})
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name            string
		args, env, yaml string
		usage           bool
		want            []string // parts of the error
	}{
		{"unknown flag", "--listen-http :1", "", "", true, []string{"listen-http"}},
		{"flag without value", "--listen-api", "", "", true, []string{"listen-api"}},
		{"flag twice", "--node 1 --node 2", "", "", true, []string{"--node is given twice"}},
		{"switch twice", "--dev --dev", "", "", true, []string{"--dev is given twice"}},
		{"stray argument", "now", "", "", true, []string{`"now"`}},
		{"address without port", "--listen-api 7780", "", "", true, []string{"--listen-api", `"7780"`, "want host:port, :port or off"}},
		{"port too high", "--listen-api :65536", "", "", true, []string{`":65536"`, "0 to 65535"}},
		{"port by name", "--listen-api :http", "", "", true, []string{`"http"`, "0 to 65535"}},
		{"port with zeros", "--listen-api :0080", "", "", true, []string{`"0080"`}},
		{"port with a sign", "--listen-api :+80", "", "", true, []string{`"+80"`}},
		{"empty address", "--listen-api=", "", "", true, []string{"--listen-api", `""`}},
		{"host by name", "--listen-api example.com:80", "", "", true, []string{`"example.com"`, "IP address"}},
		{"node 0", "--node 0", "", "", true, []string{"--node", `"0"`, "1 to 65535"}},
		{"node too high", "--node 65536", "", "", true, []string{`"65536"`, "1 to 65535"}},
		{"number with text", "--loops 3x", "", "", true, []string{`"3x"`, "0 to 256"}},
		{"loops too high", "--loops 257", "", "", true, []string{"0 to 256"}},
		{"max-links negative", "--max-links -1", "", "", true, []string{"--max-links", `"-1"`, "0 to 16777216"}},
		{"duration without unit", "--login-timeout 10", "", "", true, []string{"--login-timeout", `"10"`, "unit", "1s to 5m"}},
		{"duration too low", "--login-timeout 999ms", "", "", true, []string{"1s to 5m"}},
		{"duration too high", "--login-timeout 301s", "", "", true, []string{"1s to 5m"}},
		{"rate not a number", "--rate-calls NaN", "", "", true, []string{"--rate-calls", `"NaN"`}},
		{"rate negative", "--rate-calls -1", "", "", true, []string{"from 0"}},
		{"ceiling 0", "--policy-max-web 0", "", "", true, []string{"1 to 100"}},
		{"ceiling 101", "--policy-max-web 101", "", "", true, []string{"1 to 100"}},
		{"bool", "--webhook-allow-private=maybe", "", "", true, []string{`"maybe"`, "true or false"}},
		{"log level", "--log-level trace", "", "", true, []string{`"trace"`, "debug, info, warn, error"}},
		{"log format", "--log-format xml", "", "", true, []string{`"xml"`, "auto, json, text"}},
		{"durability word", "--durability always", "", "", true, []string{`"always"`, "sync, interval:<ms> or memory"}},
		{"durability interval 0", "--durability interval:0", "", "", true, []string{`"interval:0"`, "from 1 to 60000"}},
		{"durability interval too long", "--durability interval:60001", "", "", true, []string{"from 1 to 60000"}},
		{"durability interval with a unit", "--durability interval:5ms", "", "", true, []string{"milliseconds from 1"}},
		{"durability interval with zeros", "--durability interval:05", "", "", true, []string{`"interval:05"`}},
		{"network by name", "--proxy-networks lb.example", "", "", true, []string{"--proxy-networks", `"lb.example"`, "10.0.0.0/8"}},
		{"network with a zone", "--proxy-networks fe80::1%eth0", "", "", true, []string{`"fe80::1%eth0"`}},
		{"network with bits behind the mask", "--proxy-networks 10.0.0.0/8,10.1.2.3/16", "", "", true, []string{`"10.1.2.3/16"`, "want 10.1.0.0/16"}},
		{"network in the wrong form", "--proxy-networks ::ffff:10.0.0.0/104", "", "", true, []string{"IPv4 in its own form"}},
		{"network list with a hole", "--proxy-networks 10.0.0.0/8,,10.1.0.0/16", "", "", true, []string{`network ""`}},
		{"65 networks", "--proxy-networks 10.0.0.1" + strings.Repeat(",10.0.0.1", 64), "", "", true, []string{"65 networks, at most 64"}},
		{"restart-grace too long", "--restart-grace 61m", "", "", true, []string{"0s to 1h"}},
		{"two flags at once", "--node 0 --loops x", "", "", true, []string{"--node", "--loops"}},

		{"environment", "", "ROLLCALL_NODE=x", "", false, []string{"ROLLCALL_NODE", `"x"`, "1 to 65535"}},
		{"file", "", "", "log-level: info\nnode: x", false, []string{"rollcall.yaml:2: node", `"x"`, "1 to 65535"}},
		{"no such file", "--config missing.yaml", "", "", false, []string{"missing.yaml"}},
		{"unknown key", "", "", "node: 1\nlisten_api: :1", false, []string{`rollcall.yaml:2: unknown setting "listen_api"`}},
		{"key twice", "", "", "node: 1\nloops: 1\nnode: 2", false, []string{`rollcall.yaml:3: "node" is already given at line 1`}},
		{"config in the file", "", "", "config: other.yaml", false, []string{"rollcall.yaml:1: config cannot be set"}},
		{"list for a value", "", "", "node: [1]", false, []string{"rollcall.yaml:1: node: want a single value"}},
		{"null for a value", "", "", "node:", false, []string{"rollcall.yaml:1: node: want a single value"}},
		{"not a mapping", "", "", "- node", false, []string{"rollcall.yaml:1: want settings"}},
		{"no YAML", "", "", "node: 1\n\tx: 2", false, []string{"rollcall.yaml", "line 2"}},
		{"two documents", "", "", "node: 1\n---\nnode: 2", false, []string{"more than one YAML document"}},
		{"file too large", "", "", "#" + strings.Repeat("x", maxFile), false, []string{"1048577 bytes", "at most 1048576"}},

		{"no data-dir", "", "", `data-dir: ""`, false, []string{`durability "sync"`, "needs a data-dir"}},
		{"redis", "--redis redis://:hunter2@h:6379", "", "", false, []string{"redis", "not in this release"}},

		{"token file missing", "--admin-token-file missing", "", "", false, []string{"admin-token-file", "missing"}},
		{"token too short", "--admin-token-file short", "", "", false, []string{"admin-token-file", "5 bytes", "16 to 256"}},
		{"TLS address without certificate", "--listen-api-tls :8780", "", "", false, []string{"listen-api-tls", "tls-cert"}},
		{"certificate without key", "--tls-cert cert.pem", "", "", false, []string{"tls-cert", "tls-key", "both or neither"}},
		{"key without certificate", "--tls-key key.pem", "", "", false, []string{"both or neither"}},
		{"certificate missing", "--tls-cert nope --tls-key key.pem", "", "", false, []string{"tls-cert", "nope"}},
		{"key missing", "--tls-cert cert.pem --tls-key nope", "", "", false, []string{"tls-key", "nope"}},
		{"certificate no PEM", "--tls-cert short --tls-key key.pem", "", "", false, []string{`tls-cert "short"`}},
		{"no room for the twin", "--tls-cert cert.pem --tls-key key.pem --listen-api :64536", "", "", false, []string{"listen-api-tls", "64536", "65535"}},
		{"client authorities without TLS", "--admin-client-ca cert.pem", "", "", false, []string{"admin-client-ca", "no listen-admin-tls"}},
		{"client authorities missing", "--admin-client-ca nope --tls-cert cert.pem --tls-key key.pem", "", "", false, []string{"admin-client-ca", "nope"}},
		{"client authorities no PEM", "--admin-client-ca key.pem --tls-cert cert.pem --tls-key key.pem", "", "", false, []string{"admin-client-ca", "no certificate"}},
		{"native TLS without certificate", "--listen-native-tls :8700", "", "", false, []string{"listen-native-tls", "tls-cert"}},
		{"handshake time-out", "--tls-handshake-timeout 99ms", "", "", true, []string{"100ms to 1m"}},
		{"addresses collide", "--listen-api :7700", "", "", false, []string{"listen-api", "collides with listen-native"}},
		{"any address collides", "--listen-api 10.0.0.1:7700", "", "", false, []string{"collides"}},
		{"collides with a twin", "--tls-cert cert.pem --tls-key key.pem --listen-api :6700 --listen-native :7700", "", "", false, []string{`listen-api-tls "0.0.0.0:7700"`, "collides"}},
		{"MQTT collides", "--listen-mqtt :7700", "", "", false, []string{"listen-mqtt", "collides with listen-native"}},
		{"WebSocket collides", "--listen-ws :7700", "", "", false, []string{"listen-ws", "collides with listen-native"}},
		{"WebSocket elsewhere", "--dev --listen-ws 0.0.0.0:7701", "", "", false, []string{`listen-ws "0.0.0.0:7701"`, "loopback"}},
		{"nothing to serve", "--listen-native off --listen-ws off --listen-mqtt off --listen-api off --listen-admin off", "", "", false, []string{"every listener is off"}},
		{"dev elsewhere", "--dev --listen-api 0.0.0.0:7780", "", "", false, []string{`listen-api "0.0.0.0:7780"`, "loopback"}},
		{"dev elsewhere, from the file", "--dev", "", "listen-native: 192.168.1.1:1", false, []string{"listen-native", "loopback"}},
		{"dev elsewhere, any IPv6", "--dev --listen-admin [::]:1", "", "", false, []string{"listen-admin", "loopback"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(c.args, c.env, c.yaml)
			if err == nil {
				t.Fatal("no error")
			}
			if IsUsage(err) != c.usage {
				t.Errorf("usage error: %v, want %v", IsUsage(err), c.usage)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows a secret", err)
			}
		})
	}
}

func TestNoTokenNoAdmin(t *testing.T) {
	_, err := Load(Inputs{})
	if err == nil || IsUsage(err) || !strings.Contains(err.Error(), "admin-token-file") {
		t.Errorf("without a token: %v", err)
	}
	c, err := Load(Inputs{Args: []string{"--listen-admin", "off"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.AdminToken != "" || len(c.Apps) != 0 {
		t.Errorf("token %q, apps %v, want none", c.AdminToken, c.Apps)
	}
	_, err = Load(Inputs{Args: []string{"--listen-admin", "off", "--listen-admin-tls", ":1", "--tls-cert", "c", "--tls-key", "k"}, ReadFile: files(map[string]string{"c": certPEM, "k": keyPEM})})
	if err == nil || !strings.Contains(err.Error(), "admin-token-file") {
		t.Errorf("admin over TLS without a token: %v", err)
	}
}

func TestDev(t *testing.T) {
	c, err := Load(Inputs{Args: []string{"--dev"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, addr := range map[string]string{c.ListenNative: "127.0.0.1:7700", c.ListenWS: "127.0.0.1:7701", c.ListenAPI: "127.0.0.1:7780", c.ListenAdmin: "127.0.0.1:7781"} {
		if name != addr {
			t.Errorf("address %s, want %s", name, addr)
		}
	}
	if d := Default(); d.APIConnsPerIP != 256 || c.APIConnsPerIP != 0 || d.APIMaxBody != 128<<10 || c.APIMaxBody != 128<<10 {
		t.Errorf("connections of an address %d, with dev %d; bodies %d, with dev %d", d.APIConnsPerIP, c.APIConnsPerIP, d.APIMaxBody, c.APIMaxBody)
	}
	if c.AdminToken != DevToken || c.RateCalls != 0 || c.RateBatch != 0 || !c.WebhookAllowLoopback || c.WebhookAllowPrivate || c.DataDir != "./data" {
		t.Errorf("profile %+v", c)
	}
	want := []App{{SDKAppID: DevAppID, Name: "demo", Key: DevKey, Administrators: []string{"administrator"}}}
	want[0].Policy.Preset = "single"
	if !reflect.DeepEqual(c.Apps, want) {
		t.Errorf("apps %+v, want %+v", c.Apps, want)
	}
	c, err = load("--dev --admin-token-file token", "", "apps: [{SDKAppID: 1400000000, Name: mine}, {SDKAppID: 5}]")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Apps) != 2 || c.Apps[0].Name != "mine" || c.AdminToken != token {
		t.Errorf("apps %+v, token as in the file: %v", c.Apps, c.AdminToken == token)
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ in, want, dev string }{
		{"off", "off", "off"},
		{":1", "0.0.0.0:1", "127.0.0.1:1"},
		{":0", "0.0.0.0:0", "127.0.0.1:0"},
		{"localhost:2", "127.0.0.1:2", "127.0.0.1:2"},
		{"10.1.2.3:65535", "10.1.2.3:65535", "10.1.2.3:65535"},
		{"[::1]:3", "[::1]:3", "[::1]:3"},
		{"[::]:3", "[::]:3", "[::]:3"},
	} {
		for dev, want := range map[bool]string{false: c.want, true: c.dev} {
			if got, err := parseAddress(c.in, dev); got != want || err != nil {
				t.Errorf("%q with dev %v: %q, %v, want %q", c.in, dev, got, err, want)
			}
		}
	}
}

func TestTLSTwins(t *testing.T) {
	const tls = "--tls-cert cert.pem --tls-key key.pem "
	for _, c := range []struct{ args, api, admin string }{
		{"", Off, Off},
		{tls, "0.0.0.0:8780", "0.0.0.0:8781"},
		{tls + "--listen-api 127.0.0.1:64535", "127.0.0.1:65535", "0.0.0.0:8781"},
		{tls + "--listen-api :0 --listen-admin [::1]:5", "0.0.0.0:0", "[::1]:1005"},
		{tls + "--listen-api off", Off, "0.0.0.0:8781"},
		{tls + "--listen-api off --listen-api-tls :443 --listen-admin-tls off", "0.0.0.0:443", Off},
	} {
		cfg, err := load(c.args, "", "")
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if cfg.ListenAPITLS != c.api || cfg.ListenAdminTLS != c.admin {
			t.Errorf("%q: %s and %s, want %s and %s", c.args, cfg.ListenAPITLS, cfg.ListenAdminTLS, c.api, c.admin)
		}
	}
}

func TestClientTLSTwins(t *testing.T) {
	for _, c := range []struct{ native, mqtt, wantNative, wantMQTT string }{
		{"0.0.0.0:7700", "0.0.0.0:1883", "0.0.0.0:8700", "0.0.0.0:8883"},
		{"[::1]:1883", "10.0.0.1:1884", "[::1]:2883", "10.0.0.1:2884"},
		{"127.0.0.1:0", Off, "127.0.0.1:0", Off},
	} {
		cfg := &Config{TLSCert: "cert.pem", ListenNativeTLS: auto, ListenMQTTTLS: auto}
		if err := errors.Join(cfg.settleTwin("n", c.native, &cfg.ListenNativeTLS), cfg.settleTwin("m", c.mqtt, &cfg.ListenMQTTTLS)); err != nil {
			t.Error(err)
		}
		if cfg.ListenNativeTLS != c.wantNative || cfg.ListenMQTTTLS != c.wantMQTT {
			t.Errorf("%+v: %s and %s", c, cfg.ListenNativeTLS, cfg.ListenMQTTTLS)
		}
	}
}

func TestNetworks(t *testing.T) {
	c, err := load("--proxy-networks 192.0.2.1,2001:db8::/32,0.0.0.0/0"+strings.Repeat(",::1", 61), "", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("0.0.0.0/0")}
	if len(c.ProxyNetworks) != maxNetworks || !slices.Equal(c.ProxyNetworks[:3], want) {
		t.Errorf("%v", c.ProxyNetworks)
	}
	c, err = load("", "", `proxy-networks: "10.0.0.0/8, ::1"`)
	if err != nil || len(c.ProxyNetworks) != 2 {
		t.Errorf("%v, %v", c.ProxyNetworks, err)
	}
}

func TestPortZeroCollidesWithNothing(t *testing.T) {
	if _, err := load("--listen-native :0 --listen-api :0 --listen-admin :0", "", ""); err != nil {
		t.Error(err)
	}
}

// What looks like a setting and is none is told of, by name only; what clients read is not.
func TestUnknownVariables(t *testing.T) {
	c, err := Load(Inputs{
		Args:    []string{"--dev"},
		Environ: []string{"ROLLCALL_LISTN_API=hunter2", "ROLLCALL_LISTEN_API=", "ROLLCALL_APP_KEY=k", "ROLLCALL_ADMIN_TOKEN=t", "HOME=/", "ROLLCALL_A"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"environment variable ROLLCALL_A is no setting and is ignored", "environment variable ROLLCALL_LISTN_API is no setting and is ignored"}
	if !reflect.DeepEqual(c.Warnings, want) {
		t.Errorf("warnings %q, want %q", c.Warnings, want)
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "--help"} {
		if _, err := Load(Inputs{Args: []string{arg}}); !errors.Is(err, ErrHelp) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestDefaultIsTheTable(t *testing.T) {
	c := Default()
	for i, v := range c.Values() {
		if want := settings[i].def; v.Text != want && v.Text != "0.0.0.0"+want || v.Source != "default" {
			t.Errorf("%s: %q from %q, want %q", v.Name, v.Text, v.Source, want)
		}
	}
	if fmt.Sprint(c.Ceilings) != "{3 10 1}" {
		t.Errorf("ceilings %+v", c.Ceilings)
	}
}
