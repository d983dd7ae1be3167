// Package queue is message queues in memory, with the behaviour of the standard
// queues of Amazon SQS: visibility timeouts, delays, long polling, dead letters.
// It owns the queues and their messages, which end with the process, and imports
// nothing of this project; package sqs has it speak the protocols of the AWS
// SDKs.
package queue

import (
	"container/heap"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Code says what kind of failure an [Error] is, by the name of the SQS API.
type Code string

// Codes of failures.
const (
	AlreadyExists    Code = "QueueNameExists"
	NotFound         Code = "QueueDoesNotExist"
	InvalidHandle    Code = "ReceiptHandleIsInvalid"
	NotInFlight      Code = "MessageNotInflight"
	InvalidContents  Code = "InvalidMessageContents"
	InvalidName      Code = "InvalidAttributeName"
	InvalidValue     Code = "InvalidAttributeValue"
	InvalidParameter Code = "InvalidParameterValue"
	Unsupported      Code = "UnsupportedOperation"
)

// Error is a failure that the client has caused and is told.
type Error struct {
	Code    Code
	Message string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

func errorf(code Code, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Broker holds the queues. Its zero value has none and is ready to use.
type Broker struct {
	mu     sync.Mutex
	queues map[string]*queue
	last   uint64 // number of the message that was queued last, of any queue
}

// queue is one queue. Each message is in exactly one of the two heaps.
type queue struct {
	name     string
	settings settings
	tags     map[string]string
	created  time.Time
	modified time.Time

	messages map[string]*message // by id
	ready    byNumber            // visible to receivers
	hidden   byTime              // delayed or in flight, until their time

	changed chan struct{} // closed when a receiver should look again
}

// validName is what a queue may be called.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// Create creates a queue. It is no fault if there is one with the same
// attributes; with others it fails as [AlreadyExists].
func (b *Broker) Create(name string, attributes, tags map[string]string) error {
	if strings.HasSuffix(name, ".fifo") || attributes["FifoQueue"] == "true" {
		return errorf(Unsupported, "Queue %q would be a FIFO queue, and this server has standard queues only: give the VM ElasticMQ (doc/root-vm-dev.md), or use a standard queue.", name)
	}
	if !validName.MatchString(name) {
		return errorf(InvalidParameter, "The name of a queue is 1 to 80 letters, digits, hyphens and underscores.")
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.set(defaults(), attributes)
	if err != nil {
		return err
	}
	if q := b.queues[name]; q != nil {
		for _, key := range slices.Sorted(maps.Keys(attributes)) {
			if s.text(key) != q.settings.text(key) {
				return errorf(AlreadyExists, "A queue already exists with the same name and a different value for attribute %s", key)
			}
		}
		return nil
	}

	now := time.Now()
	if b.queues == nil {
		b.queues = map[string]*queue{}
	}
	b.queues[name] = &queue{
		name: name, settings: s, tags: maps.Clone(tags), created: now, modified: now,
		messages: map[string]*message{}, changed: make(chan struct{}),
	}
	return nil
}

// Delete deletes a queue with its messages. Receivers that wait are told that it
// does not exist.
func (b *Broker) Delete(name string) error {
	return b.with(name, func(q *queue) error {
		delete(b.queues, name)
		q.announce()
		return nil
	})
}

// Has fails as [NotFound] when there is no such queue.
func (b *Broker) Has(name string) error {
	return b.with(name, func(*queue) error { return nil })
}

// Names lists the queues whose names begin with prefix, sorted.
func (b *Broker) Names(prefix string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name := range b.queues {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// DeadLetterSources lists the queues whose dead letters go to the named one,
// sorted.
func (b *Broker) DeadLetterSources(name string) ([]string, error) {
	var sources []string
	err := b.with(name, func(*queue) error {
		for _, q := range b.queues {
			if q.settings.redrive != nil && q.settings.redrive.target() == name {
				sources = append(sources, q.name)
			}
		}
		return nil
	})
	slices.Sort(sources)
	return sources, err
}

// Purge deletes a queue's messages, at once.
func (b *Broker) Purge(name string) error {
	return b.with(name, func(q *queue) error {
		clear(q.messages)
		q.ready, q.hidden = nil, nil
		return nil
	})
}

// Tags are a queue's tags.
func (b *Broker) Tags(name string) (map[string]string, error) {
	var tags map[string]string
	err := b.with(name, func(q *queue) error {
		tags = maps.Clone(q.tags)
		return nil
	})
	return tags, err
}

// SetTags sets tags of a queue and removes others, and leaves the rest.
func (b *Broker) SetTags(name string, set map[string]string, remove []string) error {
	return b.with(name, func(q *queue) error {
		if q.tags == nil {
			q.tags = map[string]string{}
		}
		for _, key := range remove {
			delete(q.tags, key)
		}
		maps.Copy(q.tags, set)
		return nil
	})
}

// with does something with a queue, as of now, while nobody else does.
func (b *Broker) with(name string, do func(*queue) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[name]
	if q == nil {
		return errorf(NotFound, "The specified queue does not exist: %s", name)
	}
	q.advance(time.Now())
	return do(q)
}

// advance makes visible what is due, and drops what the queue does not retain
// any longer.
func (q *queue) advance(now time.Time) {
	for len(q.hidden) > 0 && !q.hidden[0].visible.After(now) {
		m := heap.Pop(&q.hidden).(*message)
		m.inFlight = false
		heap.Push(&q.ready, m)
	}
	retained := now.Add(-q.settings.seconds["MessageRetentionPeriod"])
	for len(q.ready) > 0 && q.ready[0].sent.Before(retained) {
		q.drop(q.ready[0])
	}
}

// put adds a message that is not in the queue, to be seen at its time.
func (q *queue) put(m *message, now time.Time) {
	q.messages[m.id] = m
	if m.visible.After(now) {
		heap.Push(&q.hidden, m)
	} else {
		m.inFlight = false
		heap.Push(&q.ready, m)
	}
	q.announce()
}

// drop removes a message that is in the queue.
func (q *queue) drop(m *message) {
	if m.index < len(q.ready) && q.ready[m.index] == m {
		heap.Remove(&q.ready, m.index)
	} else {
		heap.Remove(&q.hidden, m.index)
	}
	delete(q.messages, m.id)
}

// announce has receivers that wait look again.
func (q *queue) announce() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// message is one message of a queue.
type message struct {
	Draft
	id       string
	number   uint64 // its place in the queue
	sent     time.Time
	first    time.Time // when it was received first
	receives int
	source   string // the queue that it came from as a dead letter

	visible  time.Time // in hidden: until when
	inFlight bool      // in hidden: received, and not delayed
	index    int       // in its heap
}

// byNumber is a heap of messages, the one that was queued first on top.
type byNumber []*message

func (h byNumber) Len() int           { return len(h) }
func (h byNumber) Less(i, j int) bool { return h[i].number < h[j].number }
func (h byNumber) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }

// Push implements heap.Interface.
func (h *byNumber) Push(x any) { push((*[]*message)(h), x) }

// Pop implements heap.Interface.
func (h *byNumber) Pop() any { return pop((*[]*message)(h)) }

// byTime is a heap of messages, the one that is visible first on top.
type byTime []*message

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].visible.Before(h[j].visible) }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }

// Push implements heap.Interface.
func (h *byTime) Push(x any) { push((*[]*message)(h), x) }

// Pop implements heap.Interface.
func (h *byTime) Pop() any { return pop((*[]*message)(h)) }

func push(list *[]*message, x any) {
	m := x.(*message)
	m.index = len(*list)
	*list = append(*list, m)
}

func pop(list *[]*message) *message {
	last := len(*list) - 1
	m := (*list)[last]
	(*list)[last] = nil
	*list = (*list)[:last]
	return m
}

// newID is the id of a new message.
func newID() string { return uuid.NewString() }
