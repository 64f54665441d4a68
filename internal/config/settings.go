package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// settings is the table of everything that can be set. dev stands first because
// it changes the defaults of the others, and the meaning of an address without a host.
var settings = []setting{
	{"dev", "bool", "false", "", "Development profile: every listener on 127.0.0.1 and refused elsewhere, a demo app, admin token `dev`, no rate limits.",
		boolean(func(c *Config) *bool { return &c.Dev })},
	{"config", "file", "", "", "YAML file with settings under these names and with apps. Not allowed in the file itself.",
		text(func(c *Config) *string { return &c.File })},

	{"listen-native", "address", ":7700", "", "Native protocol. `host:port`, `:port` or `off`; without a host it is 0.0.0.0 (127.0.0.1 with `dev`); port 0 takes a free one.",
		address(func(c *Config) *string { return &c.ListenNative })},
	{"listen-ws", "address", Off, "", "WebSocket. Not in this release: only `off` is accepted. The port will be 7701.",
		address(func(c *Config) *string { return &c.ListenWS })},
	{"listen-mqtt", "address", ":1883", "", "MQTT 3.1.1 and 5.0 ([mqtt.md](mqtt.md)). Addresses as with `listen-native`.",
		address(func(c *Config) *string { return &c.ListenMQTT })},
	{"listen-api", "address", ":7780", "", "REST API, plain HTTP. Without a host every address of the machine, of IPv6 too (127.0.0.1 with `dev`).",
		address(func(c *Config) *string { return &c.ListenAPI })},
	{"listen-admin", "address", ":7781", "", "Console API, health, metrics, pprof. Plain HTTP; without a host by the same rule.",
		address(func(c *Config) *string { return &c.ListenAdmin })},
	{"listen-api-tls", "address", auto, "", "REST API over TLS. `auto`: with a certificate, the port of `listen-api` + 1000 on the same host; without one, `off`.",
		twin(func(c *Config) *string { return &c.ListenAPITLS })},
	{"listen-admin-tls", "address", auto, "", "Admin listener over TLS, by the same rule.",
		twin(func(c *Config) *string { return &c.ListenAdminTLS })},
	{"tls-cert", "file", "", "", "Certificate chain in PEM for the TLS listeners; needs `tls-key`.",
		text(func(c *Config) *string { return &c.TLSCert })},
	{"tls-key", "file", "", "", "Private key in PEM that fits `tls-cert`.",
		text(func(c *Config) *string { return &c.TLSKey })},
	{"admin-token-file", "file", "", "", "File with the bearer token of the console: 16 to 256 printable characters without spaces. Needed unless the admin listeners are `off`; with `dev` the default token is `dev`.",
		text(func(c *Config) *string { return &c.AdminTokenFile })},
	{"proxy-networks", "networks", "", "", "Load balancers, up to 64, like `10.0.8.0/24,2001:db8::7`: from there every client link, on whichever listener, must begin with a PROXY protocol header, from anywhere else none does. See [proxy.md](proxy.md).",
		networks(func(c *Config) *[]netip.Prefix { return &c.ProxyNetworks })},

	{"node", "number", "1", "", "Number of this node, 1 to 65535.",
		integer(func(c *Config) *uint32 { return &c.Node }, 1, 65535)},
	{"data-dir", "directory", "/var/lib/rollcall", "./data", "Where the store keeps its files, in the folder `store`. Made if it does not exist; unused with `durability` `memory`.",
		text(func(c *Config) *string { return &c.DataDir })},
	{"durability", "word", DurabilitySync, "", "What survives a crash (see [durability.md](durability.md)): `sync`: all that was acknowledged, also a power loss; `interval:<ms>`: all but the last so many milliseconds, 1 to 60000; `memory`: nothing.",
		durability()},
	{"store-min-free", "bytes", "67108864", "", "Free disk space below which the node is read-only, up to 1099511627776; 0 = not watched.",
		integer(func(c *Config) *int { return &c.StoreMinFree }, 0, 1<<40)},
	{"restart-grace", "duration", "30s", "", "After a start, instances whose links the run before held stay as they were this long, for their devices to come back.",
		duration(func(c *Config) *time.Duration { return &c.RestartGrace }, 0, time.Hour)},
	{"redis", "address", "", "", "Redis or Valkey of a cluster. Not in this release: must be empty.",
		text(func(c *Config) *string { return &c.Redis })},

	{"max-links", "number", "0", "", "Links that may be open at once, up to 16777216; 0 = the open-file limit less a reserve.",
		integer(func(c *Config) *int { return &c.MaxLinks }, 0, 1<<24)},
	{"loops", "number", "0", "", "Event loops, up to 256; 0 = one per core.",
		integer(func(c *Config) *int { return &c.Loops }, 0, 256)},
	{"login-timeout", "duration", "10s", "", "A link that has not sent its login by then is closed.",
		duration(func(c *Config) *time.Duration { return &c.LoginTimeout }, time.Second, 5*time.Minute)},
	{"drain-timeout", "duration", "10s", "", "A stop waits this long for clients to leave before it closes their links.",
		duration(func(c *Config) *time.Duration { return &c.DrainTimeout }, 0, time.Hour)},
	{"api-concurrency", "number", "1024", "", "Connections that each HTTP listener serves at once, 1 to 65536.",
		integer(func(c *Config) *int { return &c.APIConcurrency }, 1, 65536)},
	{"api-conns-per-ip", "number", "256", "0", "Connections of one address to each HTTP listener, up to 65536; 0 = unlimited. Those above are closed at once. Behind a proxy all callers have its address.",
		integer(func(c *Config) *int { return &c.APIConnsPerIP }, 0, 65536)},
	{"api-max-body", "bytes", "131072", "", "Body of a REST request, 1024 to 16777216. The largest legal query has about 100 KiB. A body is read before its caller is known, so strangers can make each REST listener hold `api-concurrency` x `api-max-body`: 128 MiB by default, twice that with chunked bodies. A console request has at most 64 KiB.",
		integer(func(c *Config) *int { return &c.APIMaxBody }, 1<<10, 1<<24)},

	{"policy-max-native", "number", "3", "", "Highest limit of instances per native platform in `multi` and `custom` policies, 1 to 100.",
		integer(func(c *Config) *int { return &c.Ceilings.Native }, 1, 100)},
	{"policy-max-native-elsewhere", "number", "1", "", "The same in `single`, `dual` and `triple` policies, 1 to 100.",
		integer(func(c *Config) *int { return &c.Ceilings.NativeElsewhere }, 1, 100)},
	{"policy-max-web", "number", "10", "", "Highest limit of Web instances, in every policy, 1 to 100.",
		integer(func(c *Config) *int { return &c.Ceilings.Web }, 1, 100)},
	{"rate-calls", "calls/s", "200", "0", "REST calls per second, app and command, of a new app; 0 = unlimited.",
		rate(func(c *Config) *float64 { return &c.RateCalls })},
	{"rate-batch-calls", "calls/s", "100", "0", "The same for batch account calls.",
		rate(func(c *Config) *float64 { return &c.RateBatch })},

	{"webhook-allow-private", "bool", "false", "", "Allow webhook URLs of private and link-local addresses.",
		boolean(func(c *Config) *bool { return &c.WebhookAllowPrivate })},
	{"webhook-allow-loopback", "bool", "false", "true", "Allow webhook URLs of loopback addresses.",
		boolean(func(c *Config) *bool { return &c.WebhookAllowLoopback })},
	{"webhook-outbox-events", "number", "100000", "", "Events that wait for delivery at most, over all apps, 1 to 100000000.",
		integer(func(c *Config) *int { return &c.WebhookOutboxEvents }, 1, 100_000_000)},
	{"webhook-outbox-full", "word", "coalesce", "", "What a full outbox does with an event more: `coalesce` drops an older one of the same user, or moves the oldest to the dead letters; `drop-oldest-to-dead-letters` does the latter; `block-logins` keeps all and has logins wait. See [webhook.md](webhook.md).",
		choice(func(c *Config) *string { return &c.WebhookOutboxFull }, "coalesce", "drop-oldest-to-dead-letters", "block-logins")},
	{"webhook-dead-letters", "number", "10000", "", "Dead letters that are kept, over all apps, 1 to 1000000; the oldest falls out.",
		integer(func(c *Config) *int { return &c.WebhookDeadLetters }, 1, 1_000_000)},
	{"webhook-log-events", "number", "10000", "", "Recent events of each app that are kept to be pulled, up to 1000000; 0 = none.",
		integer(func(c *Config) *int { return &c.WebhookLogEvents }, 0, 1_000_000)},
	{"webhook-timeout", "duration", "2s", "", "Time for one attempt to deliver, of a new app.",
		duration(func(c *Config) *time.Duration { return &c.WebhookTimeout }, 100*time.Millisecond, time.Minute)},
	{"webhook-give-up", "duration", "24h", "", "Age of an event at which retries end, of a new app.",
		duration(func(c *Config) *time.Duration { return &c.WebhookGiveUp }, time.Second, 30*24*time.Hour)},

	{"log-level", "word", "info", "", "`debug`, `info`, `warn` or `error`.",
		level(func(c *Config) *slog.Level { return &c.LogLevel })},
	{"log-format", "word", "auto", "", "`json`, `text` or `auto`: text on a terminal, else JSON.",
		choice(func(c *Config) *string { return &c.LogFormat }, "auto", "json", "text")},
}

func findSetting(name string) *setting {
	for i := range settings {
		if settings[i].name == name {
			return &settings[i]
		}
	}
	return nil
}
