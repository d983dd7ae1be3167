package build

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

func TestBegin_ShowsWhenWaitedFor(t *testing.T) {
	p, out := pipeline(t)
	said, goOn := make(chan bool), make(chan bool)
	b := p.begin(t.Context(), func(_ context.Context, p *Pipeline) (bool, error) {
		p.say("early")
		said <- true
		<-goOn
		p.say("late")
		return true, errors.New("broken")
	})
	defer b.end()
	<-said
	if out.Len() > 0 {
		t.Errorf("before anybody waited it showed %q", out)
	}
	var shown bytes.Buffer
	close(goOn)
	cached, err := b.wait(&shown)
	if !cached || err == nil || err.Error() != "broken" {
		t.Errorf("wait = %v, %v", cached, err)
	}
	if shown.String() != "early\nlate\n" {
		t.Errorf("it showed %q", shown.String())
	}
}

func TestBegin_EndStopsIt(t *testing.T) {
	p, out := pipeline(t)
	b := p.begin(t.Context(), func(ctx context.Context, p *Pipeline) (bool, error) {
		<-ctx.Done()
		p.say("never shown")
		return false, ctx.Err()
	})
	b.end()
	if !errors.Is(b.err, context.Canceled) || out.Len() > 0 {
		t.Errorf("error %v, shown %q", b.err, out)
	}
}
