package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
)

// mqttLogin sends CONNECT (MQTT 3.1.1, clean session, keep-alive 600 s) with a
// client id of 16 bytes and reads CONNACK.
func mqttLogin(c net.Conn, i int) error {
	id := fmt.Sprintf("peer-%011d", i)
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 600 >> 8, 600 & 0xff, 0, byte(len(id))}, id...)
	if _, err := c.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if !bytes.Equal(answer, []byte{0x20, 2, 0, 0}) {
		return fmt.Errorf("CONNECT answered with %x", answer)
	}
	return nil
}
