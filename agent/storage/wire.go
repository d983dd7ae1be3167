package storage

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rockpool/rootvm/agent"
)

// maxRequest bounds a request, in bytes, its end included. Answers are not
// bounded: the agent believes root.
const maxRequest = 1024

// The names of requests.
const (
	verbOpen        = "open"
	verbClose       = "close"
	verbRemove      = "remove"
	verbSetQuota    = "set-quota"
	verbChangeImage = "change-image"
	verbUsage       = "usage"
	verbAddImage    = "add-image" // the archive follows the request, in chunks (RFC 9112, 7.1)
	verbKeepImage   = "keep-image"
	verbRemoveImage = "remove-image"
)

// message is a request, a line of JSON. Each verb has its fields.
type message struct {
	Verb  string `json:"verb"`
	ID    string `json:"id,omitempty"`
	Slot  int    `json:"slot,omitempty"`
	Image string `json:"image,omitempty"` // digest
	Quota int64  `json:"quota,omitempty"`
}

// answer is a line of JSON. Any number with Progress alone come before the last.
type answer struct {
	Progress string              `json:"progress,omitempty"`
	Done     bool                `json:"done,omitempty"`
	View     *agent.FilesView    `json:"view,omitempty"`
	Usage    *agent.StorageUsage `json:"usage,omitempty"`
	Code     string              `json:"code,omitempty"` // of an [agent.Error]
	Error    string              `json:"error,omitempty"`
}

// readMessage reads a request and nothing that follows it.
func readMessage(in *bufio.Reader) (message, error) {
	var m message
	line, err := in.ReadSlice('\n')
	if err != nil || len(line) > maxRequest {
		return m, errors.New("the request is not a line of JSON")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("the request is not right: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return m, errors.New("the request is more than one")
	}
	return m, nil
}
