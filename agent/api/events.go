package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/agent"
)

// [Events] answers with server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html). The name of
// one is an [agent.EventKind], its data an [Event], and its id
// "<epoch>-<seq>". A client without an id, or with one of another life of the
// agent, is first told [EventReset]: read everything anew.
const (
	EventReset        = "reset"
	HeaderLastEventID = "Last-Event-ID"
)

// Event is the data of a server-sent event.
type Event struct {
	WorkspaceID Text       `json:"workspaceId"`
	Workspace   *Workspace `json:"workspace"`
	Step        *Step      `json:"step"`
	Name        Text       `json:"name"`
	At          Time       `json:"at"`
}

// EventFrame is e as it is in a stream. JSON has no line ends, so the data is
// one line.
func EventFrame(e agent.Event) ([]byte, error) {
	shape := Event{WorkspaceID: Text(e.WorkspaceID), Name: Text(e.Name), At: Time(e.At)}
	if e.Workspace != nil {
		w := FromWorkspace(*e.Workspace)
		shape.Workspace = &w
	}
	if e.Step != nil {
		s := FromStep(*e.Step)
		shape.Step = &s
	}
	data, err := json.Marshal(shape)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", EventID(e.Epoch, e.Seq), e.Kind, data), nil
}

// DecodeEvent understands the fields of one event that is no reset.
func DecodeEvent(id, name, data string) (agent.Event, error) {
	var shape Event
	if err := json.Unmarshal([]byte(data), &shape); err != nil {
		return agent.Event{}, fmt.Errorf("read event %q: %w", id, err)
	}
	epoch, seq, ok := ParseEventID(id)
	if !ok {
		return agent.Event{}, fmt.Errorf("read event: %q is not the id of one", id)
	}

	e := agent.Event{
		Seq: seq, Epoch: epoch, Kind: agent.EventKind(name),
		WorkspaceID: string(shape.WorkspaceID), Name: string(shape.Name), At: time.Time(shape.At),
	}
	if shape.Workspace != nil {
		w := shape.Workspace.Domain()
		e.Workspace = &w
	}
	if shape.Step != nil {
		s := shape.Step.Domain()
		e.Step = &s
	}
	return e, nil
}

// EventID is the id of an event.
func EventID(epoch string, seq uint64) string { return fmt.Sprintf("%s-%d", epoch, seq) }

// ParseEventID takes an id apart; ok is false when it is none.
func ParseEventID(id string) (epoch string, seq uint64, ok bool) {
	i := strings.LastIndexByte(id, '-')
	if i <= 0 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(id[i+1:], 10, 64)
	return id[:i], seq, err == nil
}
