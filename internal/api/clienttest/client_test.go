package clienttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"time"

	im "github.com/dobyte/tencent-im"
	"github.com/dobyte/tencent-im/account"

	"github.com/rollcall-im/rollcall/internal/api"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const (
	app    = 1400000000
	secret = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	admin  = "administrator"

	// The client knows one host, by https. Its name is made to mean this
	// address, where nobody else listens.
	addr = "127.43.43.43:443"
)

// TestPublicClient imports, queries, checks, kicks and deletes.
func TestPublicClient(t *testing.T) {
	dir := newDirectory(t)
	serve(t, dir)
	resolveAll(t, addr)
	accounts := im.NewIM(&im.Options{AppId: app, AppSecret: secret, UserId: admin, Expiration: 3600}).Account()

	if err := accounts.ImportAccount(&account.Account{UserId: "alice", Nickname: "Alice", FaceUrl: "https://example.com/a.png"}); err != nil {
		t.Fatalf("import: %v", err)
	}
	failed, err := accounts.ImportAccounts("bob", "carol", "é")
	if err != nil || !slices.Equal(failed, []string{"é"}) {
		t.Fatalf("import of several: failed %q, %v", failed, err)
	}
	login(t, dir, "alice", presence.IPhone)
	login(t, dir, "carol", presence.Windows)

	state, err := accounts.GetAccountOnlineState("alice", true)
	if err != nil || state.Status != "Online" || len(state.Detail) != 1 || state.Detail[0].Platform != "iPhone" || state.Detail[0].Status != "Online" {
		t.Fatalf("state of alice: %+v, %v", state, err)
	}
	states, err := accounts.GetAccountsOnlineState([]string{"bob", "nobody", "carol"})
	if err != nil || len(states.Results) != 2 || len(states.Errors) != 1 {
		t.Fatalf("states: %+v, %v", states, err)
	}
	if b, c, n := states.Results[0], states.Results[1], states.Errors[0]; b.Status != "Offline" || c.Status != "Online" || n.UserId != "nobody" || n.ErrorCode != 70107 {
		t.Errorf("states: %+v", states)
	}

	checked, err := accounts.CheckAccounts("alice", "nobody")
	if err != nil || len(checked) != 2 || checked[0].Status != "Imported" || checked[1].Status != "NotImported" {
		t.Errorf("check: %+v, %v", checked, err)
	}

	if err := accounts.KickAccount("alice"); err != nil {
		t.Fatalf("kick: %v", err)
	}
	if state, err = accounts.GetAccountOnlineState("alice", true); err != nil || state.Status != "Offline" || state.Detail != nil {
		t.Errorf("after the kick: %+v, %v", state, err)
	}
	var refused im.Error
	if err := accounts.KickAccount("nobody"); !errors.As(err, &refused) || refused.Code() != 70107 {
		t.Errorf("kick of nobody: %v", err)
	}

	if err := accounts.DeleteAccount("carol"); err != nil {
		t.Errorf("delete: %v", err)
	}
	deleted, err := accounts.DeleteAccounts("bob", "carol")
	if want := []int{0, 70107}; err != nil || len(deleted) != 2 || !reflect.DeepEqual([]int{deleted[0].ResultCode, deleted[1].ResultCode}, want) {
		t.Errorf("delete of several: %+v, %v", deleted, err)
	}
	if there, err := accounts.CheckAccount("carol"); err != nil || there {
		t.Errorf("carol after the deletion: %v, %v", there, err)
	}
	stranger := im.NewIM(&im.Options{AppId: app, AppSecret: "another key", UserId: admin}).Account()
	if err := stranger.KickAccount("alice"); !errors.As(err, &refused) || refused.Code() != 70009 {
		t.Errorf("kick by a stranger: %v", err)
	}
}

func newDirectory(t *testing.T) *embedded.Directory {
	t.Helper()
	dir, err := embedded.New(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	done := make(chan error, 1)
	dir.UpdateApp(&directory.UpdateAppOp{
		SDKAppID: app, Create: true, NowMS: time.Now().UnixMilli(),
		Mutate: func(a *directory.App) error {
			a.Keys = []directory.Key{{ID: 1, Secret: secret}}
			return nil
		},
		Done: func(op *directory.UpdateAppOp) { done <- op.Err },
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return dir
}

func login(t *testing.T, dir *embedded.Directory, user string, p presence.Platform) {
	t.Helper()
	done := make(chan int, 1)
	now := time.Now()
	dir.Login(&directory.LoginOp{
		Key: presence.Key{App: app, UserID: user},
		Login: presence.Login{
			Device: presence.Device{Platform: p, ID: "d"}, Cred: presence.Credential{SigTimeS: now.Unix()},
			Link: presence.Link{Node: 1, ID: presence.MakeLinkID(0, uint32(p), 1)}, NowMS: now.UnixMilli(),
		},
		Done: func(op *directory.LoginOp) { done <- op.Code },
	})
	if code := <-done; code != presence.CodeOK {
		t.Fatalf("login of %s: %d", user, code)
	}
}

// serve starts the REST API on addr by TLS.
func serve(t *testing.T, dir directory.Directory) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := api.New(api.Options{Directory: dir, ListenAPITLS: addr,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); errors.Is(err, syscall.EACCES) {
		t.Skipf("the client's port is fixed: run this as root, or with sysctl net.ipv4.ip_unprivileged_port_start=443 (%v)", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}

func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// resolveAll makes every name mean the host of addr, for this process: it asks a
// name server that lives in here.
func resolveAll(t *testing.T, addr string) {
	t.Helper()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerNames(server, net.ParseIP(host).To4())
		return client, nil
	}}
	t.Cleanup(func() { net.DefaultResolver = was })
}

// answerNames serves DNS over a stream (RFC 1035, 4.2.2): ip for A questions,
// nothing for others.
func answerNames(c net.Conn, ip net.IP) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		question := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, question); err != nil || len(question) < 12 {
			return
		}
		end := 12
		for end < len(question) && question[end] != 0 {
			end += 1 + int(question[end])
		}
		if end += 5; end > len(question) {
			return
		}
		reply := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:end]...)
		if binary.BigEndian.Uint16(question[end-4:]) == 1 {
			reply[7] = 1
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
			reply = append(reply, ip...)
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}
