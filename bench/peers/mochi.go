package main

import (
	"io"
	"log/slog"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func init() {
	peers = append(peers, &peer{
		name: "mochi-mqtt", does: "MQTT CONNECT, nobody checked", serve: serveMochi, login: mqttLogin,
	})
}

func serveMochi(addr string) error {
	s := mochi.New(&mochi.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "peer", Address: addr})); err != nil {
		return err
	}
	return s.Serve()
}
