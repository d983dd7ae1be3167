//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// editor is a client of code-server's WebSocket: the part of the browser that
// opens terminals. The protocol is VS Code's own, of its files ipc.net.ts
// (frames), remoteAgentConnection.ts (handshake) and ipc.ts (calls).
type editor struct {
	conn net.Conn
	sent uint32 // regular messages
	call int
}

// Types of frames. A frame is the type (1 byte), the sender's number of the
// message, the number of the last one it received, and the length of what
// follows (4 bytes each, big-endian).
const (
	frameRegular = 1
	frameControl = 2
)

// dialEditor opens a management connection; dial reaches the server.
func dialEditor(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), commit string) *editor {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: dial}}
	address := fmt.Sprintf("ws://workspace/stable-%s?reconnectionToken=%s&reconnection=false&skipWebSocketFrames=false", commit, rand.Text())
	ws, _, err := websocket.Dial(t.Context(), address, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatalf("open the editor's WebSocket: %v", err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	e := &editor{conn: websocket.NetConn(t.Context(), ws, websocket.MessageBinary)}
	e.control(t, map[string]any{"type": "auth", "auth": "00000000000000000000", "data": "hello"})
	signed := e.answer(t, "sign")
	e.control(t, map[string]any{"type": "connectionType", "commit": commit, "signedData": signed["data"], "desiredConnectionType": 1})
	e.answer(t, "ok")
	e.send(t, frameRegular, value(map[string]any{"remoteAuthority": "workspace", "clientId": "e2e"}))
	return e
}

func (e *editor) send(t *testing.T, kind byte, body []byte) {
	t.Helper()
	head := make([]byte, 13)
	head[0] = kind
	if kind == frameRegular {
		e.sent++
		binary.BigEndian.PutUint32(head[1:], e.sent)
	}
	binary.BigEndian.PutUint32(head[9:], uint32(len(body)))
	if _, err := e.conn.Write(append(head, body...)); err != nil {
		t.Fatalf("write to the editor: %v", err)
	}
}

// receive returns the next message of a kind and passes over others.
func (e *editor) receive(t *testing.T, kind byte) []byte {
	t.Helper()
	for {
		head := make([]byte, 13)
		if _, err := io.ReadFull(e.conn, head); err != nil {
			t.Fatalf("read from the editor: %v", err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[9:]))
		if _, err := io.ReadFull(e.conn, body); err != nil {
			t.Fatalf("read from the editor: %v", err)
		}
		if head[0] == kind {
			return body
		}
	}
}

func (e *editor) control(t *testing.T, message map[string]any) {
	t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	e.send(t, frameControl, b)
}

func (e *editor) answer(t *testing.T, want string) map[string]any {
	t.Helper()
	var m map[string]any
	if b := e.receive(t, frameControl); json.Unmarshal(b, &m) != nil || m["type"] != want {
		t.Fatalf("the editor answered %s, want type %s", b, want)
	}
	return m
}

// Kinds of calls and answers.
const (
	callPromise  = 100
	callListen   = 102
	replySuccess = 201
	replyError   = 202
	replyObject  = 203
	replyEvent   = 204
)

// request sends a call and returns its number.
func (e *editor) request(t *testing.T, kind int, name string, arg any) int {
	t.Helper()
	e.call++
	e.send(t, frameRegular, append(value([]any{kind, e.call, "remoteterminal", name}), value(arg)...))
	return e.call
}

// next returns the kind, the call's number and the body of the next answer.
func (e *editor) next(t *testing.T) (kind, call int, body any) {
	t.Helper()
	r := bytes.NewReader(e.receive(t, frameRegular))
	head, ok := parse(t, r).([]any)
	if !ok || len(head) == 0 {
		t.Fatalf("the editor sent a message without a head: %v", head)
	}
	kind = head[0].(int)
	if len(head) > 1 {
		call = head[1].(int)
	}
	if r.Len() > 0 {
		body = parse(t, r)
	}
	return kind, call, body
}

// promise calls and waits for the answer.
func (e *editor) promise(t *testing.T, name string, arg any) any {
	t.Helper()
	want := e.request(t, callPromise, name, arg)
	for {
		switch kind, call, body := e.next(t); {
		case call != want:
		case kind == replySuccess:
			return body
		case kind == replyError || kind == replyObject:
			t.Fatalf("%s: %v", name, body)
		}
	}
}

// terminal runs a command line in a new terminal and returns what it shows
// until it contains want.
func (e *editor) terminal(t *testing.T, line, want string) string {
	t.Helper()
	created, ok := e.promise(t, "$createProcess", map[string]any{
		"configuration": map[string]any{}, "resolvedVariables": map[string]any{}, "envVariableCollections": []any{},
		"shellLaunchConfig": map[string]any{"executable": "/bin/bash", "args": []any{"--norc"}},
		"workspaceId":       "e2e", "workspaceName": "e2e", "workspaceFolders": []any{},
		"shouldPersistTerminal": false, "cols": 200, "rows": 40, "unicodeVersion": "11", "resolverEnv": map[string]any{},
		"options": map[string]any{
			"shellIntegration": map[string]any{"enabled": false, "suggestEnabled": false, "nonce": ""}, "windowsEnableConpty": false,
			"windowsUseConptyDll": false, "environmentVariableCollections": nil, "workspaceFolder": nil, "isScreenReaderOptimized": false,
		},
	}).(map[string]any)
	if !ok {
		t.Fatal("the editor created no terminal")
	}

	id := created["persistentTerminalId"]
	events := e.request(t, callListen, "$onProcessDataEvent", nil)
	if failed, _ := e.promise(t, "$start", []any{id}).(map[string]any); failed["message"] != nil {
		t.Fatalf("the editor started no terminal: %v", failed["message"])
	}

	e.request(t, callPromise, "$input", []any{id, line + "\r"})
	var shown strings.Builder
	for !strings.Contains(shown.String(), want) {
		kind, call, body := e.next(t)
		if kind == replyError || kind == replyObject {
			t.Fatalf("call %d failed: %v", call, body)
		}
		if kind != replyEvent || call != events {
			continue
		}
		event, _ := body.(map[string]any)
		switch data := event["event"].(type) {
		case string:
			shown.WriteString(data)
		case map[string]any:
			fmt.Fprint(&shown, data["data"])
		}
	}
	return shown.String()
}

// value serializes as ipc.ts does: a type, a length in groups of seven bits,
// the value. Objects are JSON.
func value(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{0}
	case string:
		return append(append([]byte{1}, size(len(v))...), v...)
	case int:
		return append([]byte{6}, size(v)...)
	case float64:
		return value(int(v))
	case []any:
		b := append([]byte{4}, size(len(v))...)
		for _, item := range v {
			b = append(b, value(item)...)
		}
		return b
	}

	object, err := json.Marshal(v)
	if err != nil {
		panic(err) // of this file's own making
	}
	return append(append([]byte{5}, size(len(object))...), object...)
}

func size(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// parse reads what value writes; JSON numbers become float64.
func parse(t *testing.T, r *bytes.Reader) any {
	t.Helper()
	kind, err := r.ReadByte()
	if err != nil || kind == 0 {
		return nil
	}

	n, err := binary.ReadUvarint(r)
	if err != nil {
		t.Fatalf("the editor sent a value without a size: %v", err)
	}

	switch kind {
	case 6:
		return int(n)
	case 4:
		list := make([]any, n)
		for i := range list {
			list[i] = parse(t, r)
		}
		return list
	}

	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatalf("the editor sent a short value: %v", err)
	}
	if kind == 1 {
		return string(b)
	}

	var object any
	if err := json.Unmarshal(b, &object); err != nil {
		t.Fatalf("the editor sent %q: %v", b, err)
	}
	return object
}
