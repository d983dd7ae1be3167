package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// broker is a broker with a queue "q".
func broker(t *testing.T, attributes map[string]string) *Broker {
	t.Helper()
	b := new(Broker)
	if err := b.Create("q", attributes, nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t *testing.T, b *Broker, name, body string) {
	t.Helper()
	if _, err := b.Send(name, Draft{Body: body}); err != nil {
		t.Fatal(err)
	}
}

// receive takes up to 10 messages, and waits for some seconds.
func receive(t *testing.T, b *Broker, name string, wait int) []Received {
	t.Helper()
	got, err := b.Receive(t.Context(), name, Request{Most: 10, Wait: &wait})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// bodies are the messages' bodies.
func bodies(all []Received) string {
	var list []string
	for _, m := range all {
		list = append(list, m.Body)
	}
	return strings.Join(list, " ")
}

func wantCode(t *testing.T, err error, code Code) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func TestBroker_Receive_Order(t *testing.T) {
	b := broker(t, nil)
	for i := range 25 {
		send(t, b, "q", fmt.Sprint(i))
	}
	if got := bodies(receive(t, b, "q", 0)); got != "0 1 2 3 4 5 6 7 8 9" {
		t.Errorf("first: %s", got)
	}
	one, err := b.Receive(t.Context(), "q", Request{Most: 1})
	if err != nil || bodies(one) != "10" {
		t.Errorf("one: %s, %v", bodies(one), err)
	}
}

func TestBroker_Receive_Visibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker(t, map[string]string{"VisibilityTimeout": "5"})
		send(t, b, "q", "a")
		first := receive(t, b, "q", 0)
		if again := receive(t, b, "q", 0); bodies(first) != "a" || len(again) != 0 {
			t.Fatalf("received %s, then %s", bodies(first), bodies(again))
		}

		began := time.Now()
		second := receive(t, b, "q", 20)
		if bodies(second) != "a" || second[0].Receives != 2 || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), second)
		}
		if !second[0].First.Equal(first[0].First) || second[0].Handle == first[0].Handle {
			t.Errorf("second receipt: %+v, first: %+v", second[0], first[0])
		}

		// The old handle is no longer the message's.
		if err := b.DeleteMessage("q", first[0].Handle); err != nil {
			t.Error(err)
		}
		wantCode(t, b.ChangeVisibility("q", first[0].Handle, 1), InvalidParameter)
		if err := b.ChangeVisibility("q", second[0].Handle, 60); err != nil {
			t.Error(err)
		}
		began = time.Now()
		third := receive(t, b, "q", 20)
		if len(third) != 0 || time.Since(began) != 20*time.Second {
			t.Errorf("after %v: %s", time.Since(began), bodies(third))
		}
		time.Sleep(40 * time.Second)
		wantCode(t, b.ChangeVisibility("q", second[0].Handle, 60), NotInFlight)
		if err := b.DeleteMessage("q", second[0].Handle); err != nil {
			t.Error(err)
		}
		if left := receive(t, b, "q", 1); len(left) != 0 {
			t.Errorf("left: %s", bodies(left))
		}
	})
}

func TestBroker_Receive_Wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker(t, map[string]string{"ReceiveMessageWaitTimeSeconds": "10"})
		began := time.Now()
		if got, err := b.Receive(t.Context(), "q", Request{Most: 1}); err != nil || len(got) != 0 || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %s, %v", time.Since(began), bodies(got), err)
		}

		// Two receivers wait, and each message goes to one.
		type result struct {
			body  string
			after time.Duration
		}
		results := make(chan result)
		began = time.Now()
		for range 2 {
			go func() {
				got, _ := b.Receive(t.Context(), "q", Request{Most: 1})
				results <- result{bodies(got), time.Since(began)}
			}()
		}
		time.Sleep(3 * time.Second)
		send(t, b, "q", "a")
		if r := <-results; r != (result{"a", 3 * time.Second}) {
			t.Errorf("the first receiver: %+v", r)
		}
		if r := <-results; r != (result{"", 10 * time.Second}) {
			t.Errorf("the second receiver: %+v", r)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got, err := b.Receive(ctx, "q", Request{Most: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a receiver that has gone: %s, %v", bodies(got), err)
		}
		go func() {
			time.Sleep(time.Second)
			_ = b.Delete("q")
		}()
		_, err := b.Receive(t.Context(), "q", Request{Most: 1})
		wantCode(t, err, NotFound)
	})
}

func TestBroker_Send_Delay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker(t, map[string]string{"DelaySeconds": "2"})
		send(t, b, "q", "late")
		none := 0
		if _, err := b.Send("q", Draft{Body: "now", Delay: &none}); err != nil {
			t.Fatal(err)
		}
		counts, err := b.Attributes("q", []string{"All"})
		if err != nil || counts["ApproximateNumberOfMessages"] != "1" || counts["ApproximateNumberOfMessagesDelayed"] != "1" {
			t.Errorf("%v, %v", counts, err)
		}
		began := time.Now()
		now, late := receive(t, b, "q", 5), receive(t, b, "q", 5)
		if bodies(now) != "now" || bodies(late) != "late" || time.Since(began) != 2*time.Second {
			t.Errorf("after %v: %s, %s", time.Since(began), bodies(now), bodies(late))
		}
	})
}

func TestBroker_Send_Retention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker(t, map[string]string{"MessageRetentionPeriod": "60"})
		send(t, b, "q", "old")
		time.Sleep(59 * time.Second)
		send(t, b, "q", "new")
		time.Sleep(2 * time.Second)
		if got := bodies(receive(t, b, "q", 0)); got != "new" {
			t.Errorf("after the period: %s", got)
		}
	})
}

func TestBroker_DeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker(t, nil)
		policy := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"2"}`, ARN("dead"))
		wantCode(t, b.SetAttributes("q", map[string]string{"RedrivePolicy": policy}), InvalidValue)
		if err := errors.Join(b.Create("dead", nil, nil), b.SetAttributes("q", map[string]string{"RedrivePolicy": policy})); err != nil {
			t.Fatal(err)
		}
		if sources, err := b.DeadLetterSources("dead"); err != nil || len(sources) != 1 || sources[0] != "q" {
			t.Errorf("sources %v, %v", sources, err)
		}

		dead := make(chan []Received)
		go func() { dead <- receive(t, b, "dead", 20) }()
		send(t, b, "q", "poison")
		var id string
		for range 2 {
			got := receive(t, b, "q", 0)
			if bodies(got) != "poison" {
				t.Fatalf("received %q", bodies(got))
			}
			id = got[0].ID
			if err := b.ChangeVisibility("q", got[0].Handle, 0); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, b, "q", 0); len(got) != 0 {
			t.Errorf("received a third time: %s", bodies(got))
		}
		got := <-dead
		if len(got) != 1 || got[0].ID != id || got[0].Source != "q" || got[0].Receives != 3 {
			t.Errorf("dead letters: %+v", got)
		}

		if err := b.SetAttributes("q", map[string]string{"RedrivePolicy": ""}); err != nil {
			t.Error(err)
		}
		if all, err := b.Attributes("q", []string{"All"}); err != nil || all["RedrivePolicy"] != "" {
			t.Errorf("attributes %v, %v", all, err)
		}
	})
}

func TestBroker_Create(t *testing.T) {
	b := broker(t, map[string]string{"VisibilityTimeout": "5"})
	if err := errors.Join(b.Create("q", nil, nil), b.Create("q", map[string]string{"VisibilityTimeout": "5"}, nil)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name       string
		attributes map[string]string
		code       Code
	}{
		{"q", map[string]string{"VisibilityTimeout": "6"}, AlreadyExists},
		{"a b", nil, InvalidParameter},
		{"", nil, InvalidParameter},
		{"orders.fifo", nil, Unsupported},
		{"n", map[string]string{"VisibilityTimeout": "43201"}, InvalidValue},
		{"n", map[string]string{"Colour": "red"}, InvalidName},
		{"n", map[string]string{"RedrivePolicy": "{"}, InvalidValue},
		{"n", map[string]string{"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:q","maxReceiveCount":0}`}, InvalidValue},
	} {
		wantCode(t, b.Create(c.name, c.attributes, nil), c.code)
	}
	if names := b.Names("q"); len(names) != 1 || len(b.Names("")) != 1 || len(b.Names("x")) != 0 {
		t.Errorf("names: %v", names)
	}
}

func TestBroker_Send_Invalid(t *testing.T) {
	b := broker(t, map[string]string{"MaximumMessageSize": "1024"})
	late := 901
	for name, c := range map[string]struct {
		draft Draft
		code  Code
	}{
		"empty":            {Draft{}, InvalidParameter},
		"too long":         {Draft{Body: strings.Repeat("x", 1025)}, InvalidParameter},
		"long attributes":  {Draft{Body: "x", Attributes: map[string]Attribute{"a": {Type: "String", Text: strings.Repeat("x", 1024)}}}, InvalidParameter},
		"control":          {Draft{Body: "\x01"}, InvalidContents},
		"no UTF-8":         {Draft{Body: "\xff"}, InvalidContents},
		"no character":     {Draft{Body: "\ufffe"}, InvalidContents},
		"delay":            {Draft{Body: "x", Delay: &late}, InvalidParameter},
		"attribute's type": {Draft{Body: "x", Attributes: map[string]Attribute{"a": {Type: "Colour", Text: "red"}}}, InvalidParameter},
		"empty attribute":  {Draft{Body: "x", Attributes: map[string]Attribute{"a": {Type: "String"}}}, InvalidParameter},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Send("q", c.draft)
			wantCode(t, err, c.code)
		})
	}
	_, err := b.Send("none", Draft{Body: "x"})
	wantCode(t, err, NotFound)
	if _, err := b.Send("q", Draft{Body: "\t\r\n\U0001F3A3"}); err != nil {
		t.Error(err)
	}
}

func TestBroker_Purge(t *testing.T) {
	b := broker(t, nil)
	send(t, b, "q", "a")
	send(t, b, "q", "b")
	got, err := b.Receive(t.Context(), "q", Request{Most: 1})
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if err := b.Purge("q"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteMessage("q", got[0].Handle); err != nil {
		t.Error(err)
	}
	send(t, b, "q", "c")
	if got := bodies(receive(t, b, "q", 0)); got != "c" {
		t.Errorf("after the purge: %s", got)
	}
}

// FuzzBroker gives a broker what clients may send: no handle and no policy may
// break it.
func FuzzBroker(f *testing.F) {
	f.Add("cS9hLzE", `{"deadLetterTargetArn":"x:q","maxReceiveCount":1}`)
	f.Add("", "null")
	f.Fuzz(func(t *testing.T, handle, policy string) {
		b := new(Broker)
		if err := b.Create("q", nil, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Send("q", Draft{Body: "x"}); err != nil {
			t.Fatal(err)
		}
		_ = b.DeleteMessage("q", handle)
		_ = b.ChangeVisibility("q", handle, 1)
		if b.SetAttributes("q", map[string]string{"RedrivePolicy": policy}) == nil && policy != "" && !json.Valid([]byte(policy)) {
			t.Errorf("the policy %q is accepted", policy)
		}
		for range 3 {
			if _, err := b.Receive(t.Context(), "q", Request{Most: 10, Visibility: new(int)}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
