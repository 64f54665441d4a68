package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// The recipes for load balancers in deploy, with the addresses that they name.
const (
	haproxyRecipe = "../../deploy/haproxy.cfg"
	envoyRecipe   = "../../deploy/envoy.yaml"
)

var recipeNodes = []string{"10.0.8.21", "10.0.8.22"}

// clientPorts are the default ports of the client listeners; adminPort is where health is asked for.
var clientPorts = map[string]string{"native": "7700", "ws": "7701", "mqtt": "1883", "native-tls": "8700", "ws-tls": "8701", "mqtt-tls": "8883"}

const adminPort = "7781"

// longestSilence is how long a well client may be silent: that of MQTT (DESIGN section 5).
const longestSilence = 1200 * time.Second

// TestRecipePorts holds the ports that these tests know to the settings.
func TestRecipePorts(t *testing.T) {
	c := config.Default()
	for addr, want := range map[string]string{
		c.ListenNative: clientPorts["native"], c.ListenWS: clientPorts["ws"], c.ListenMQTT: clientPorts["mqtt"], c.ListenAdmin: adminPort,
	} {
		if _, port, _ := net.SplitHostPort(addr); addr != config.Off && port != want {
			t.Errorf("the default address is %s, the recipes have port %s", addr, want)
		}
	}
}

// The recipe for HAProxy forwards each listener, on its own port, to the same port of each node.
func TestHAProxyRecipe(t *testing.T) {
	text := string(readFile(t, haproxyRecipe))
	sections := regexp.MustCompile(`(?m)^listen (\S+)\n    bind :(\d+)\n((?:    server .*\n)+)`).FindAllStringSubmatch(text, -1)
	seen := map[string]bool{}
	for _, s := range sections {
		name, port := s[1], s[2]
		seen[name] = true
		if port != clientPorts[name] {
			t.Errorf("%s is bound to %s, want %s", name, port, clientPorts[name])
		}
		for _, node := range recipeNodes {
			if !strings.Contains(s[3], " "+node+":"+port+"\n") {
				t.Errorf("%s is not forwarded to %s:%s", name, node, port)
			}
		}
	}
	if len(seen) != len(clientPorts) || strings.Count(text, "\nlisten ") != len(clientPorts) {
		t.Errorf("sections %v, want those of %v", seen, clientPorts)
	}
	for _, timeout := range []string{"client", "server"} {
		m := regexp.MustCompile(`(?m)^    timeout ` + timeout + ` (\S+)$`).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("there is no timeout %s", timeout)
		} else if d, err := time.ParseDuration(m[1]); err != nil || d <= longestSilence {
			t.Errorf("timeout %s is %v, %v, a well client may be silent for %v", timeout, d, err, longestSilence)
		}
	}
}

// envoyConfig is what the recipe for Envoy must have right for us.
type envoyConfig struct {
	Static struct {
		Listeners []struct {
			Name    string
			Address envoyAddress
			Chains  []struct {
				Filters []struct {
					Config struct {
						Cluster string
						Idle    string `yaml:"idle_timeout"`
					} `yaml:"typed_config"`
				}
			} `yaml:"filter_chains"`
		}
		Clusters []envoyCluster
	} `yaml:"static_resources"`
}

type envoyAddress struct {
	Socket struct {
		Address string
		Port    string `yaml:"port_value"`
	} `yaml:"socket_address"`
}

type envoyCluster struct {
	Name   string
	Health []struct {
		HTTP     struct{ Path string } `yaml:"http_health_check"`
		Criteria map[string]string     `yaml:"transport_socket_match_criteria"`
	} `yaml:"health_checks"`
	Matches []struct {
		Match  map[string]string
		Socket struct{ Name string } `yaml:"transport_socket"`
	} `yaml:"transport_socket_matches"`
	Socket struct {
		Name   string
		Config struct {
			Config struct{ Version string }
		} `yaml:"typed_config"`
	} `yaml:"transport_socket"`
	Load struct {
		Cluster   string `yaml:"cluster_name"`
		Endpoints []struct {
			LB []struct {
				Endpoint struct {
					Address envoyAddress
					Health  struct {
						Port string `yaml:"port_value"`
					} `yaml:"health_check_config"`
				}
			} `yaml:"lb_endpoints"`
		}
	} `yaml:"load_assignment"`
}

// There is no Envoy here to run the recipe with: this holds what it says to what
// the server has, and its parts to each other.
func TestEnvoyRecipe(t *testing.T) {
	var c envoyConfig
	if err := yaml.Unmarshal(readFile(t, envoyRecipe), &c); err != nil {
		t.Fatal(err)
	}
	clusters := map[string]envoyCluster{}
	for _, cl := range c.Static.Clusters {
		clusters[cl.Name] = cl
	}
	if len(c.Static.Listeners) != 3 || len(clusters) != 3 {
		t.Fatalf("%d listeners, %d clusters, want 3 each", len(c.Static.Listeners), len(clusters))
	}
	for _, l := range c.Static.Listeners {
		if l.Address.Socket.Port != clientPorts[l.Name] {
			t.Errorf("%s listens on %s, want %s", l.Name, l.Address.Socket.Port, clientPorts[l.Name])
		}
		f := l.Chains[0].Filters[0].Config
		if d, err := time.ParseDuration(f.Idle); f.Cluster != l.Name || err != nil || d <= longestSilence {
			t.Errorf("%s goes to %s with the time-out %s", l.Name, f.Cluster, f.Idle)
		}
		checkEnvoyCluster(t, l.Name, clusters[l.Name])
	}
}

func checkEnvoyCluster(t *testing.T, name string, cl envoyCluster) {
	t.Helper()
	if cl.Socket.Name != "envoy.transport_sockets.upstream_proxy_protocol" || cl.Socket.Config.Config.Version != "V2" {
		t.Errorf("%s: links go over %+v, want PROXY V2", name, cl.Socket)
	}
	if len(cl.Health) != 1 || cl.Health[0].HTTP.Path != "/readyz" {
		t.Fatalf("%s: health %+v", name, cl.Health)
	}
	// A PROXY header before the health check would be a bad request to the admin listener.
	if len(cl.Matches) != 1 || cl.Matches[0].Socket.Name != "envoy.transport_sockets.raw_buffer" || fmt.Sprint(cl.Matches[0].Match) != fmt.Sprint(cl.Health[0].Criteria) {
		t.Errorf("%s: health is asked over %+v by %v", name, cl.Matches, cl.Health[0].Criteria)
	}
	if cl.Load.Cluster != name || len(cl.Load.Endpoints) != 1 || len(cl.Load.Endpoints[0].LB) != len(recipeNodes) {
		t.Fatalf("%s: load %+v", name, cl.Load)
	}
	for i, node := range recipeNodes {
		e := cl.Load.Endpoints[0].LB[i].Endpoint
		if e.Address.Socket.Address != node || e.Address.Socket.Port != clientPorts[name] || e.Health.Port != adminPort {
			t.Errorf("%s: endpoint %+v, want port %s of %s with health at %s", name, e, clientPorts[name], node, adminPort)
		}
	}
}

// haproxy is a running HAProxy with the recipe, its ports and the nodes' replaced.
type haproxy struct {
	socket string
	addr   map[string]string // by listener
	log    *syncBuffer
}

// startHAProxy runs the recipe in front of nodes on 127.0.0.1.
func startHAProxy(t *testing.T, nodes []*server) *haproxy {
	t.Helper()
	bin, err := exec.LookPath("haproxy")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs haproxy, and it is not here")
		}
		t.Skip("haproxy is not installed; Debian has it")
	}
	h := &haproxy{socket: filepath.Join(t.TempDir(), "admin.sock"), addr: map[string]string{}, log: new(syncBuffer)}
	text := strings.ReplaceAll(string(readFile(t, haproxyRecipe)), "/run/haproxy/admin.sock mode 660", h.socket+" mode 600")
	for name, port := range clientPorts {
		h.addr[name] = unusedPort(t)
		text = strings.ReplaceAll(text, "bind :"+port+"\n", "bind "+h.addr[name]+"\n")
		for i, n := range nodes {
			at := n.addr[name]
			if at == "" {
				at = "127.0.0.1:1" // this listener is off: nobody goes there
			}
			_, admin, _ := net.SplitHostPort(n.addr["admin"])
			text = strings.ReplaceAll(text, recipeNodes[i]+":"+port+"\n", at+" port "+admin+"\n")
		}
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	writeFile(t, file, text, 0o600)
	cmd := exec.Command(bin, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = h.log, h.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return h
}

// unusedPort is an address of 127.0.0.1 that was free a moment ago.
func unusedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// health is what HAProxy thinks of each node behind a listener: "UP L7OK".
func (h *haproxy) health(listener string) map[string]string {
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	fmt.Fprint(conn, "show stat\n")
	r := csv.NewReader(conn)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[strings.TrimPrefix(name, "# ")] = i
	}
	health := map[string]string{}
	for _, row := range rows[1:] {
		if len(row) > column["check_status"] && row[column["pxname"]] == listener && strings.HasPrefix(row[column["svname"]], "node") {
			health[row[column["svname"]]] = row[column["status"]] + " " + row[column["check_status"]]
		}
	}
	return health
}

// wait waits until HAProxy thinks so of the nodes.
func (h *haproxy) wait(t *testing.T, listener string, ok func(map[string]string) bool) {
	t.Helper()
	var last map[string]string
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if last = h.health(listener); ok(last) {
			return
		}
	}
	t.Fatalf("HAProxy thinks of the nodes %v; it says:\n%s", last, h.log)
}

// loginFrom logs in from an address of the loopback net, and returns the link and its own address.
func loginFrom(t *testing.T, p bench.Protocol, host, addr, user string) (*testLink, netip.AddrPort) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: deadline}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := codec.Login{SDKAppID: devApp, UserID: []byte(user), UserSig: []byte(sig), Platform: codec.Android, DeviceID: []byte("dev-" + user)}
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if err := bench.LogIn(conn, p, &m); err != nil {
		t.Fatalf("%s by %s: %v", user, p, err)
	}
	return &testLink{conn: conn, user: user}, conn.LocalAddr().(*net.TCPAddr).AddrPort()
}

// linkOf is the address and listener that the console shows for the user's link, "" if the node has none.
func linkOf(t *testing.T, s *server, user string) (addr, listener string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/console/v1/apps/%d/users/%s", s.addr["admin"], devApp, user), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.DevToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		_, _ = io.Copy(io.Discard, resp.Body)
		return "", ""
	}
	var view struct {
		Instances []struct {
			Link struct{ Addr, Listener string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&view); err != nil {
		t.Fatal(err)
	}
	if len(view.Instances) == 0 {
		return "", ""
	}
	return view.Instances[0].Link.Addr, view.Instances[0].Link.Listener
}

// HAProxy with our recipe: clients log in through it, the console shows where
// they come from, health checks pass without a trace, and a node that stops gets no
// more links.
func TestHAProxy(t *testing.T) {
	behind := []string{"--proxy-networks", "127.0.0.1"}
	nodes := []*server{
		running(t, startServer, behind...),
		running(t, startServer, behind...),
	}
	h := startHAProxy(t, nodes)
	const well = "UP L7OK"
	h.wait(t, "native", func(is map[string]string) bool { return is["node1"] == well && is["node2"] == well })

	perNode := [2]int{}
	for i := range 4 {
		user := fmt.Sprintf("user-%d", i)
		l, from := loginFrom(t, bench.Native, fmt.Sprintf("127.0.0.%d", 10+i), h.addr["native"], user)
		for n, s := range nodes {
			if addr, listener := linkOf(t, s, user); addr != "" {
				perNode[n]++
				if addr != from.String() || listener != "native" {
					t.Errorf("the console shows %s at %s, it is %s at native", user, addr+" at "+listener, from)
				}
			}
		}
		l.heartbeat(t)
	}
	if perNode != [2]int{2, 2} { // leastconn
		t.Errorf("links per node: %v", perNode)
	}
	for listener, p := range map[string]bench.Protocol{"ws": bench.WS, "mqtt": bench.MQTT} {
		_, from := loginFrom(t, p, "127.0.0.30", h.addr[listener], listener+"-user")
		addr, name := linkOf(t, nodes[0], listener+"-user")
		if addr == "" {
			addr, name = linkOf(t, nodes[1], listener+"-user")
		}
		if addr != from.String() || name != listener {
			t.Errorf("the console shows %s at %s, it is %s at %s", addr, name, from, listener)
		}
	}
	for _, s := range nodes {
		text := get(t, "http://"+s.addr["admin"]+"/metrics")
		if !strings.Contains(text, `rollcall_proxy_headers_total{kind="v2"} `) || regexp.MustCompile(`rollcall_(proxy_refused_total|closes_total)\{.*\} [1-9]`).MatchString(text) {
			t.Errorf("metrics:\n%s", text)
		}
		if strings.Contains(s.log.String(), "level=WARN") || strings.Contains(s.log.String(), "level=ERROR") {
			t.Errorf("the log:\n%s", s.log)
		}
	}

	if err := nodes[0].terminate(); err != nil {
		t.Fatalf("%v; its log:\n%s", err, nodes[0].log)
	}
	h.wait(t, "native", func(is map[string]string) bool { return strings.HasPrefix(is["node1"], "DOWN") && is["node2"] == well })
	_, from := loginFrom(t, bench.Native, "127.0.0.20", h.addr["native"], "late")
	if addr, _ := linkOf(t, nodes[1], "late"); addr != from.String() {
		t.Errorf("the console shows %s, it is %s", addr, from)
	}
}
