// A stock whatsmeow client on a leash: it does what it reads on standard input, one command a line, and says what
// happens as JSON, one object a line, on standard output. For tests against the simulated WhatsApp.
//
//	connect            link (a "qr" comes for every code) or log in
//	pair-code NUMBER   ask for a code for this phone number; a "pairCode" comes
//	reconnect          a new client over the same keys, as after a restart of the program
//	send NUMBER TEXT   send a message; "sent" comes with the server's confirmation, a "receipt" with each of the other's
//	ask NUMBER         ask for groups, a profile picture and whether the number is on WhatsApp; "asked" comes
//	logout             unlink this device; "loggedOutByMe" comes
//
// The library is as published. Replaced from outside are the certificate root it trusts, which it then checks in
// full, and where its connections go.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// How long one command may take.
const limit = 30 * time.Second

// Where events go.
var output = os.Stdout

func main() {
	address := flag.String("address", "", "host and port of the simulated WhatsApp")
	root := flag.String("root", "", "public key of its certificate root, in hex")
	debug := flag.Bool("debug", false, "log on standard error")
	flag.Parse()
	key, err := hex.DecodeString(*root)
	if err != nil || len(key) != len(whatsmeow.WACertPubKey) {
		fmt.Fprintln(os.Stderr, "whatsmeow-client: --root must be 32 bytes in hex")
		os.Exit(2)
	}
	copy(whatsmeow.WACertPubKey[:], key)
	log := waLog.Noop
	if *debug {
		// The library logs on what is standard output by now; that is kept for events.
		os.Stdout = os.Stderr
		log = waLog.Stdout("whatsmeow", "DEBUG", false)
	}
	leash := &leash{device: newDevice(log), log: log, address: *address}
	leash.newClient()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		command, rest, _ := strings.Cut(lines.Text(), " ")
		if err := leash.obey(command, rest); err != nil {
			say("failed", map[string]any{"command": command, "error": err.Error()})
		}
	}
	leash.client.Disconnect()
}

type leash struct {
	device  *store.Device
	client  *whatsmeow.Client
	log     waLog.Logger
	address string
}

// newClient makes a client over the device's keys. Its connections go to the simulated WhatsApp: the library dials a
// fixed https address, so the step that would make a TLS connection makes a plain one there.
func (leash *leash) newClient() {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, leash.address)
	}
	nowhere := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("there is no plain HTTP in this test")
	}
	client := &http.Client{Transport: &http.Transport{DialTLSContext: dial, DialContext: nowhere}}
	leash.client = whatsmeow.NewClient(leash.device, leash.log)
	leash.client.SetWebsocketHTTPClient(client)
	leash.client.SetPreLoginHTTPClient(client)
	leash.client.SetMediaHTTPClient(client)
	leash.client.AddEventHandler(report)
}

func (leash *leash) obey(command, rest string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	switch command {
	case "connect":
		return leash.client.Connect()
	case "reconnect":
		leash.client.Disconnect()
		leash.newClient()
		return leash.client.Connect()
	case "pair-code":
		code, err := leash.client.PairPhone(ctx, rest, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
		if err != nil {
			return err
		}
		say("pairCode", map[string]any{"code": code})
		return nil
	case "send":
		number, text, _ := strings.Cut(rest, " ")
		to := types.NewJID(strings.TrimPrefix(number, "+"), types.DefaultUserServer)
		sent, err := leash.client.SendMessage(ctx, to, &waE2E.Message{Conversation: &text})
		if err != nil {
			return err
		}
		say("sent", map[string]any{"id": sent.ID})
		return nil
	case "ask":
		return leash.ask(ctx, rest)
	case "logout":
		if err := leash.client.Logout(ctx); err != nil {
			return err
		}
		say("loggedOutByMe", nil)
		return nil
	}
	return fmt.Errorf("there is no command %q", command)
}

func (leash *leash) ask(ctx context.Context, number string) error {
	groups, err := leash.client.GetJoinedGroups(ctx)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	answers, err := leash.client.IsOnWhatsApp(ctx, []string{number})
	if err != nil {
		return fmt.Errorf("is on WhatsApp: %w", err)
	}
	if len(answers) != 1 {
		return fmt.Errorf("is on WhatsApp: %d answers to one question", len(answers))
	}
	picture, err := leash.client.GetProfilePictureInfo(ctx, answers[0].JID, nil)
	if err != nil && !errors.Is(err, whatsmeow.ErrProfilePictureNotSet) {
		return fmt.Errorf("profile picture: %w", err)
	}
	say("asked", map[string]any{
		"groups": len(groups), "picture": picture != nil, "onWhatsApp": answers[0].IsIn, "jid": answers[0].JID.String(),
	})
	return nil
}

func report(event any) {
	switch event := event.(type) {
	case *events.QR:
		for _, code := range event.Codes {
			say("qr", map[string]any{"code": code})
		}
	case *events.PairSuccess:
		say("paired", map[string]any{"jid": event.ID.String(), "lid": event.LID.String()})
	case *events.PairError:
		say("pairError", map[string]any{"error": event.Error.Error()})
	case *events.Connected:
		say("connected", nil)
	case *events.Disconnected:
		say("disconnected", nil)
	case *events.LoggedOut:
		say("loggedOut", map[string]any{"onConnect": event.OnConnect, "reason": int(event.Reason)})
	case *events.OfflineSyncCompleted:
		say("offlineSyncCompleted", map[string]any{"count": event.Count})
	case *events.Message:
		if event.Message.GetProtocolMessage() != nil {
			return // the phone's own words to its companions
		}
		text := event.Message.GetConversation()
		if text == "" {
			text = event.Message.GetExtendedTextMessage().GetText() // as Baileys writes every text
		}
		say("message", map[string]any{
			"from": event.Info.Sender.String(), "text": text, "name": event.Info.PushName,
		})
	case *events.Receipt:
		kind := string(event.Type)
		if event.Type == types.ReceiptTypeDelivered {
			kind = "delivered"
		}
		say("receipt", map[string]any{"ids": event.MessageIDs, "type": kind, "from": event.Sender.String()})
	case *events.UndecryptableMessage:
		say("undecryptable", map[string]any{"from": event.Info.Sender.String()})
	case *events.PushNameSetting:
		say("renamed", map[string]any{"name": event.Action.GetName()})
	case *events.StreamError:
		say("streamError", map[string]any{"code": event.Code})
	}
}

func say(event string, fields map[string]any) {
	line := map[string]any{"event": event}
	for name, value := range fields {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		fmt.Fprintln(os.Stderr, "whatsmeow-client:", err)
		return
	}
	// One write a line, so that the lines of concurrent events do not mix.
	_, _ = output.Write(append(text, '\n'))
}
