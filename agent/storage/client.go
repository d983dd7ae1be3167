package storage

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"

	"github.com/rockpool/rootvm/agent"
)

// Client asks the machine's root for what [agent.Storage] can do.
type Client struct{ Socket string }

var _ agent.Storage = Client{}

// Open implements [agent.Storage].
func (c Client) Open(ctx context.Context, f agent.Files, report func(string)) (agent.FilesView, error) {
	a, err := c.ask(ctx, message{Verb: verbOpen, ID: f.ID, Slot: f.Slot, Image: f.Image, Quota: f.Quota}, nil, report)
	if err != nil {
		return agent.FilesView{}, err
	}
	if a.View == nil {
		return agent.FilesView{}, errors.New("storage: open: an answer without a view")
	}
	return *a.View, nil
}

// Close implements [agent.Storage].
func (c Client) Close(ctx context.Context, id string) error {
	_, err := c.ask(ctx, message{Verb: verbClose, ID: id}, nil, nil)
	return err
}

// Remove implements [agent.Storage].
func (c Client) Remove(ctx context.Context, id string) error {
	_, err := c.ask(ctx, message{Verb: verbRemove, ID: id}, nil, nil)
	return err
}

// SetQuota implements [agent.Storage].
func (c Client) SetQuota(ctx context.Context, id string, quota int64) error {
	_, err := c.ask(ctx, message{Verb: verbSetQuota, ID: id, Quota: quota}, nil, nil)
	return err
}

// ChangeImage implements [agent.Storage].
func (c Client) ChangeImage(ctx context.Context, id, digest string) error {
	_, err := c.ask(ctx, message{Verb: verbChangeImage, ID: id, Image: digest}, nil, nil)
	return err
}

// Usage implements [agent.Storage].
func (c Client) Usage(ctx context.Context) (agent.StorageUsage, error) {
	a, err := c.ask(ctx, message{Verb: verbUsage}, nil, nil)
	if err != nil {
		return agent.StorageUsage{}, err
	}
	if a.Usage == nil {
		return agent.StorageUsage{}, errors.New("storage: usage: an answer without one")
	}
	return *a.Usage, nil
}

// AddImage implements [agent.Storage].
func (c Client) AddImage(ctx context.Context, digest string, archive io.Reader) error {
	_, err := c.ask(ctx, message{Verb: verbAddImage, Image: digest}, archive, nil)
	return err
}

// KeepImage implements [agent.Storage].
func (c Client) KeepImage(ctx context.Context) error {
	_, err := c.ask(ctx, message{Verb: verbKeepImage}, nil, nil)
	return err
}

// RemoveImage implements [agent.Storage].
func (c Client) RemoveImage(ctx context.Context, digest string) error {
	_, err := c.ask(ctx, message{Verb: verbRemoveImage, Image: digest}, nil, nil)
	return err
}

// ask sends a request, and an archive after it where there is one, and returns the
// last answer.
func (c Client) ask(ctx context.Context, m message, archive io.Reader, report func(string)) (answer, error) {
	fault := func(err error) (answer, error) {
		return answer{}, fmt.Errorf("storage: %s: %w", m.Verb, errors.Join(err, context.Cause(ctx)))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return fault(err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	a, err := converse(conn, m, archive, report)
	if err != nil {
		return fault(err)
	}
	if a.Code != "" {
		return answer{}, agent.Errorf(a.Code, "%s", a.Error)
	}
	if a.Error != "" {
		return fault(errors.New(a.Error))
	}
	return a, nil
}

// converse sends a request and returns the last answer. Then nothing reads the
// archive any more.
func converse(conn net.Conn, m message, archive io.Reader, report func(string)) (answer, error) {
	if err := json.NewEncoder(conn).Encode(m); err != nil {
		return answer{}, errors.Join(err, conn.Close())
	}
	sent := make(chan error, 1)
	go func() { sent <- send(conn, archive) }()
	a, err := readAnswer(conn, report)
	closeErr := conn.Close()
	sendErr := <-sent
	if err != nil { // an answer may come before the archive's end
		return answer{}, errors.Join(sendErr, err, closeErr)
	}
	return a, nil
}

// send writes an archive and its end. One that cannot be read to its end gets none,
// so that it is not taken for whole.
func send(conn net.Conn, archive io.Reader) error {
	if archive == nil {
		return nil
	}
	chunks := httputil.NewChunkedWriter(conn)
	if _, err := io.CopyBuffer(chunks, onlyReader{archive}, make([]byte, copyBuffer)); err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := chunks.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(conn, "\r\n")
	return err
}

// readAnswer reads up to the last answer and passes on what comes before it.
func readAnswer(conn io.Reader, report func(string)) (answer, error) {
	for lines := json.NewDecoder(bufio.NewReader(conn)); ; {
		var a answer
		if err := lines.Decode(&a); err != nil {
			return a, fmt.Errorf("no answer: %w", err)
		}
		switch {
		case a.Done || a.Error != "":
			return a, nil
		case report != nil:
			report(a.Progress)
		}
	}
}
