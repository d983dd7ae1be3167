package storage

import (
	"context"
	"errors"
	"io"
)

func (p *Pool) AddImage(ctx context.Context, digest string, archive io.Reader) error {
	return errors.New("TODO")
}

func (p *Pool) RemoveImage(ctx context.Context, digest string) error {
	return errors.New("TODO")
}
