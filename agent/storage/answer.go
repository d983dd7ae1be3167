package storage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httputil"

	"golang.org/x/sys/unix"

	"github.com/rockpool/rootvm/agent"
)

// leastPriority is the niceness of what nobody waits for.
const leastPriority = 19

// Answer reads one request, does it with s and writes what came of it. It stops
// when who asked goes away.
func Answer(ctx context.Context, in io.Reader, out io.Writer, s agent.Storage) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reader := bufio.NewReaderSize(in, maxRequest)
	lines := json.NewEncoder(out)

	m, err := readMessage(reader)
	var a answer
	if err == nil {
		if m.Verb != verbAddImage { // whose archive follows
			go func() {
				_, _ = io.Copy(io.Discard, reader)
				cancel(errors.New("who asked went away"))
			}()
		}
		report := func(text string) {
			if err := lines.Encode(answer{Progress: text}); err != nil {
				cancel(err)
			}
		}
		a, err = m.do(ctx, s, reader, report)
	}
	if err != nil {
		a = failure(err)
	} else {
		a.Done = true
	}
	return errors.Join(err, lines.Encode(a))
}

// do is the request, done with s.
func (m message) do(ctx context.Context, s agent.Storage, archive io.Reader, report func(string)) (answer, error) {
	switch m.Verb {
	case verbOpen:
		view, err := s.Open(ctx, agent.Files{ID: m.ID, Slot: m.Slot, Image: m.Image, Quota: m.Quota}, report)
		return answer{View: &view}, err
	case verbClose:
		return answer{}, s.Close(ctx, m.ID)
	case verbRemove:
		return answer{}, s.Remove(ctx, m.ID)
	case verbSetQuota:
		return answer{}, s.SetQuota(ctx, m.ID, m.Quota)
	case verbChangeImage:
		return answer{}, s.ChangeImage(ctx, m.ID, m.Image)
	case verbKeepImage:
		var err error
		onThread(func() { // which keeps the priority until it ends
			// Nobody waits for it, and workspaces do for the processors.
			if err = unix.Setpriority(unix.PRIO_PROCESS, 0, leastPriority); err == nil {
				err = s.KeepImage(ctx)
			}
		})
		return answer{}, err
	case verbUsage:
		usage, err := s.Usage(ctx)
		return answer{Usage: &usage}, err
	case verbAddImage:
		return answer{}, s.AddImage(ctx, m.Image, httputil.NewChunkedReader(archive))
	case verbRemoveImage:
		return answer{}, s.RemoveImage(ctx, m.Image)
	}
	return answer{}, agent.Errorf(agent.CodeValidation, "%q is no request", m.Verb)
}

// failure says why a request was not done.
func failure(err error) answer {
	if e, ok := errors.AsType[*agent.Error](err); ok {
		return answer{Code: e.Code, Error: e.Message}
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return answer{Code: agent.CodeNoSpace, Error: "The disk of the workspaces is full: delete files or workspaces, or give the VM a larger data disk"}
	}
	return answer{Error: err.Error()}
}
