package queue

import (
	"container/heap"
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Draft is what a sender says of a message.
type Draft struct {
	Body       string
	Attributes map[string]Attribute // at most 10
	Trace      string               // the system attribute AWSTraceHeader
	Delay      *int                 // seconds; nil is the queue's own
}

// Attribute is one of a message's attributes: text, or bytes when its type is
// Binary or begins with "Binary.".
type Attribute struct {
	Type  string
	Text  string
	Bytes []byte
}

// Binary reports whether the attribute is bytes.
func (a Attribute) Binary() bool { return a.Type == "Binary" || strings.HasPrefix(a.Type, "Binary.") }

// size is what counts against the limit of a message.
func (d Draft) size() int {
	n := len(d.Body)
	for name, a := range d.Attributes {
		n += len(name) + len(a.Type) + len(a.Text) + len(a.Bytes)
	}
	return n
}

// check finds what is wrong with a draft for a queue whose messages may have
// size bytes.
func (d Draft) check(size int) error {
	if d.Body == "" {
		return errorf(InvalidParameter, "The request must contain the parameter MessageBody, which is not empty.")
	}
	if d.size() > size {
		return errorf(InvalidParameter, "One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", size)
	}
	if d.Delay != nil && (*d.Delay < 0 || *d.Delay > limits["DelaySeconds"].most) {
		return errorf(InvalidParameter, "Value %d for parameter DelaySeconds is invalid: it is from 0 to %d.", *d.Delay, limits["DelaySeconds"].most)
	}
	if len(d.Attributes) > 10 {
		return errorf(InvalidParameter, "Number of message attributes [%d] exceeds the allowed maximum [10].", len(d.Attributes))
	}

	if !isText(d.Body) {
		return errorf(InvalidContents, "Invalid characters found: a message has the characters of XML 1.0. Encode others, for example as base64.")
	}
	for name, a := range d.Attributes {
		base, _, _ := strings.Cut(a.Type, ".")
		switch {
		case name == "" || len(name) > 256:
			return errorf(InvalidParameter, "The name of a message attribute has 1 to 256 characters.")
		case base != "String" && base != "Number" && base != "Binary":
			return errorf(InvalidParameter, "The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", name)
		case a.Text == "" && len(a.Bytes) == 0:
			return errorf(InvalidParameter, "Message attribute '%s' must contain a non-empty value of type '%s'.", name, base)
		case !isText(a.Text):
			return errorf(InvalidContents, "Invalid characters found in message attribute '%s'.", name)
		}
	}
	return nil
}

// isText reports whether a string has only characters that SQS carries, which
// are those of XML 1.0.
func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
			return false
		}
	}
	return true
}

// Send queues a message and returns its id.
func (b *Broker) Send(name string, d Draft) (id string, err error) {
	err = b.with(name, func(q *queue) error {
		if err := d.check(q.settings.size); err != nil {
			return err
		}
		delay := q.settings.seconds["DelaySeconds"]
		if d.Delay != nil {
			delay = time.Duration(*d.Delay) * time.Second
		}

		now := time.Now()
		m := &message{Draft: d, id: newID(), number: b.next(), sent: now, visible: now.Add(delay)}
		q.put(m, now)
		id = m.id
		return nil
	})
	return id, err
}

// next is the number of the next message.
func (b *Broker) next() uint64 {
	b.last++
	return b.last
}

// Received is a message as a receiver gets it.
type Received struct {
	Draft
	ID       string
	Handle   string // for deleting it and changing its visibility
	Sent     time.Time
	First    time.Time // when it was received first
	Receives int
	Source   string // the queue that it came from as a dead letter
}

// Request is what a receiver asks for. What is nil is as the queue has it.
type Request struct {
	Most       int  // messages, 1 to 10
	Wait       *int // seconds until the answer is that there is none
	Visibility *int // seconds until others see what was received
}

// Receive takes messages, and waits for one. What it returns is invisible to
// others until it is deleted or its visibility timeout is over. Messages that
// were received as often as the queue allows go to the queue for dead letters
// instead. It ends with the context's error when that ends first.
func (b *Broker) Receive(ctx context.Context, name string, r Request) ([]Received, error) {
	if r.Most < 1 || r.Most > 10 {
		return nil, errorf(InvalidParameter, "Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", r.Most)
	}
	for parameter, value := range map[string]*int{"WaitTimeSeconds": r.Wait, "VisibilityTimeout": r.Visibility} {
		most := maxVisibility
		if parameter == "WaitTimeSeconds" {
			most = limits["ReceiveMessageWaitTimeSeconds"].most
		}
		if value != nil && (*value < 0 || *value > most) {
			return nil, errorf(InvalidParameter, "Value %d for parameter %s is invalid. Reason: Must be between 0 and %d, if provided.", *value, parameter, most)
		}
	}

	began := time.Now()
	for {
		var got []Received
		var changed chan struct{}
		var until time.Time
		err := b.with(name, func(q *queue) error {
			until = began.Add(orSeconds(r.Wait, q.settings.seconds["ReceiveMessageWaitTimeSeconds"]))
			got, changed = b.take(q, r, time.Now()), q.changed
			if len(q.hidden) > 0 && q.hidden[0].visible.Before(until) {
				until = q.hidden[0].visible
			} else if !time.Now().Before(until) {
				changed = nil
			}
			return nil
		})
		if err != nil || len(got) > 0 || changed == nil {
			return got, err
		}

		timer := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// take receives what is visible.
func (b *Broker) take(q *queue, r Request, now time.Time) []Received {
	visible := now.Add(orSeconds(r.Visibility, q.settings.seconds["VisibilityTimeout"]))
	var got []Received
	var again []*message // at a visibility timeout of 0
	for len(got) < r.Most && len(q.ready) > 0 {
		m := heap.Pop(&q.ready).(*message)
		if b.bury(q, m, now) {
			continue
		}

		m.receives++
		if m.receives == 1 {
			m.first = now
		}
		m.visible, m.inFlight = visible, true
		if visible.After(now) {
			heap.Push(&q.hidden, m)
		} else {
			again = append(again, m)
		}
		got = append(got, Received{
			Draft: m.Draft, ID: m.id, Handle: handle(q.name, m),
			Sent: m.sent, First: m.first, Receives: m.receives, Source: m.source,
		})
	}
	for _, m := range again {
		m.inFlight = false
		heap.Push(&q.ready, m)
	}
	return got
}

// bury moves a message that is in no heap to the queue for dead letters, if it
// was received as often as is allowed, and reports whether it has.
func (b *Broker) bury(q *queue, m *message, now time.Time) bool {
	policy := q.settings.redrive
	if policy == nil || m.receives < policy.most {
		return false
	}
	target := b.queues[policy.target()]
	if target == nil || target == q {
		return false
	}
	delete(q.messages, m.id)
	m.number, m.source, m.visible = b.next(), q.name, now
	target.put(m, now)
	return true
}

func orSeconds(given *int, normal time.Duration) time.Duration {
	if given == nil {
		return normal
	}
	return time.Duration(*given) * time.Second
}

// handle names one receipt of a message.
func handle(queue string, m *message) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s/%s/%d", queue, m.id, m.receives))
}

// received finds the message of a handle. It is nil when the message is gone or
// was received again since.
func (q *queue) received(handle string) (*message, error) {
	decoded, err := base64.RawURLEncoding.DecodeString(handle)
	parts := strings.Split(string(decoded), "/")
	if err != nil || len(parts) != 3 || parts[0] != q.name {
		return nil, errorf(InvalidHandle, "The input receipt handle is invalid: it is the one that a receive of this queue returned.")
	}
	m := q.messages[parts[1]]
	if m == nil || strconv.Itoa(m.receives) != parts[2] {
		return nil, nil
	}
	return m, nil
}

// DeleteMessage deletes a message that was received. It is no fault when it is
// gone already; an old handle of a message that was received again since deletes
// nothing.
func (b *Broker) DeleteMessage(name, handle string) error {
	return b.with(name, func(q *queue) error {
		m, err := q.received(handle)
		if m != nil {
			q.drop(m)
		}
		return err
	})
}

// ChangeVisibility has a message that is in flight be seen again after some
// seconds from now. It fails as [NotInFlight] when it is not in flight.
func (b *Broker) ChangeVisibility(name, handle string, seconds int) error {
	if seconds < 0 || seconds > maxVisibility {
		return errorf(InvalidParameter, "Value %d for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and %d.", seconds, maxVisibility)
	}
	return b.with(name, func(q *queue) error {
		m, err := q.received(handle)
		if err != nil {
			return err
		}
		if m == nil {
			return errorf(InvalidParameter, "Value %s for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change.", handle)
		}
		if !m.inFlight {
			return errorf(NotInFlight, "The message referred to isn't in flight.")
		}

		now := time.Now()
		heap.Remove(&q.hidden, m.index)
		m.visible = now.Add(time.Duration(seconds) * time.Second)
		q.put(m, now)
		return nil
	})
}
