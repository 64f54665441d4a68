package rollcall_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/rollcall-im/rollcall/codec"
	rollcall "github.com/rollcall-im/rollcall/sdk/go"
)

// Stay logged in until somebody presses Ctrl-C, then log out.
func Example() {
	c, err := rollcall.New(rollcall.Options{
		Addr:     "127.0.0.1:7700",
		SDKAppID: 1400000000,
		UserID:   "alice",
		UserSig:  rollcall.StaticUserSig(os.Getenv("USERSIG")),
		Platform: codec.Linux,
		DeviceID: "7f9c2ba4-e88f-4b1e-9d3f-1f3a6d1b0c55",
		OnLogin:  func(l rollcall.Login) { fmt.Println("logged in as instance", l.InstID) },
		OnStatus: func(s rollcall.StatusChange) {
			if s.Status == rollcall.Waiting {
				fmt.Println(s.Err, "- next try in", s.Wait)
			}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		<-interrupted.Done()
		if err := c.Logout(context.Background()); err != nil {
			c.Close()
		}
	}()

	err = c.Run(context.Background())
	var forced *rollcall.ForcedOfflineError
	if errors.As(err, &forced) && forced.Code == codec.CodeAnotherLogin {
		fmt.Println("logged in elsewhere:", forced.ByPlatform, forced.ByDeviceModel)
	}
}
