package builders_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/rockpool/rootvm/builders"
)

func TestBegin_ShowsWhenWaitedFor(t *testing.T) {
	var shown bytes.Buffer
	said, goOn := make(chan bool), make(chan bool)
	b := builders.Begin(t.Context(), func(_ context.Context, out io.Writer) (bool, error) {
		fmt.Fprintln(out, "early")
		said <- true
		<-goOn
		fmt.Fprintln(out, "late")
		return true, errors.New("broken")
	})

	defer b.End()
	<-said
	if shown.Len() > 0 {
		t.Errorf("before anybody waited it showed %q", shown.String())
	}

	close(goOn)
	cached, err := b.Wait(&shown)
	if !cached || err == nil || err.Error() != "broken" {
		t.Errorf("wait = %v, %v", cached, err)
	}
	if shown.String() != "early\nlate\n" {
		t.Errorf("it showed %q", shown.String())
	}
}

func TestBegin_EndStopsIt(t *testing.T) {
	ended := make(chan error, 1)
	b := builders.Begin(t.Context(), func(ctx context.Context, out io.Writer) (bool, error) {
		<-ctx.Done()
		fmt.Fprintln(out, "never shown")
		ended <- ctx.Err()
		return false, ctx.Err()
	})
	b.End()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
