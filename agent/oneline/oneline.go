// Package oneline is how the agent asks the machine's root for something: a
// socket of systemd's hands each connection to a short-lived program of root's,
// which reads a request, does it, and answers with one line, the value or
// "error: " and why not. The package imports nothing of the module and owns no
// state.
package oneline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// maxLine bounds an answer, in bytes, its end included.
const maxLine = 1024

// refusal begins the answer of a program that did not do what it was asked.
const refusal = "error: "

// Answer writes the value, or why there is none, as a line, and returns that.
func Answer(out io.Writer, value string, err error) error {
	if err != nil {
		value = refusal + strings.Join(strings.Fields(err.Error()), " ")
	}
	if len(value) >= maxLine {
		value = value[:maxLine-1]
	}
	_, writeErr := fmt.Fprintln(out, value)
	return errors.Join(err, writeErr)
}

// Ask sends a request to the program behind a socket and returns the value that
// it answers. Where it did not do it, the error says why in its words.
func Ask(ctx context.Context, socket, request string) (value string, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	if _, err := io.WriteString(conn, request); err != nil {
		return "", errors.Join(err, context.Cause(ctx))
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxLine)).ReadString('\n')
	if err != nil {
		return "", errors.Join(fmt.Errorf("no answer: %w", err), context.Cause(ctx))
	}
	line = strings.TrimSuffix(line, "\n")
	if why, refused := strings.CutPrefix(line, refusal); refused {
		return "", errors.New(why)
	}
	return line, nil
}
