package queue

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are the attributes of a queue that clients may set.
type settings struct {
	seconds map[string]time.Duration
	size    int // MaximumMessageSize, bytes
	redrive *redrive
	kept    map[string]string // those that have no effect here, RedrivePolicy as it was given
}

// maxSize is how large a message or a batch of them may be, in bytes.
const maxSize = 1 << 20

// limit is what an attribute in seconds is when nobody set it, and may be.
type limit struct{ normal, least, most int }

// limits are those of the attributes in seconds.
var limits = map[string]limit{
	"DelaySeconds":                  {0, 0, 900},
	"MessageRetentionPeriod":        {345600, 60, 1209600},
	"ReceiveMessageWaitTimeSeconds": {0, 0, 20},
	"VisibilityTimeout":             {30, 0, maxVisibility},
}

const maxVisibility = 43200 // seconds

// inert are attributes that are kept and shown, and have no effect: nothing here
// is encrypted, and every client may do everything.
var inert = []string{"KmsDataKeyReusePeriodSeconds", "KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "SqsManagedSseEnabled"}

// counted are attributes that say what a queue holds.
var counted = []string{
	"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible",
	"CreatedTimestamp", "LastModifiedTimestamp", "QueueArn",
}

// defaults are the settings of a queue that was created without any.
func defaults() settings {
	s := settings{seconds: map[string]time.Duration{}, size: maxSize, kept: map[string]string{}}
	for name, l := range limits {
		s.seconds[name] = time.Duration(l.normal) * time.Second
	}
	return s
}

// text is an attribute as clients see it, and "" when it is not set.
func (s settings) text(name string) string {
	if d, ok := s.seconds[name]; ok {
		return strconv.Itoa(int(d / time.Second))
	}
	if name == "MaximumMessageSize" {
		return strconv.Itoa(s.size)
	}
	return s.kept[name]
}

// set returns the settings with attributes that a client has given. The caller
// holds the lock.
func (b *Broker) set(s settings, attributes map[string]string) (settings, error) {
	s.seconds, s.kept = maps.Clone(s.seconds), maps.Clone(s.kept)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		value := attributes[name]
		switch l, timed := limits[name]; {
		case timed:
			n, err := number(name, value, l.least, l.most)
			if err != nil {
				return s, err
			}
			s.seconds[name] = time.Duration(n) * time.Second
		case name == "MaximumMessageSize":
			n, err := number(name, value, 1024, maxSize)
			if err != nil {
				return s, err
			}
			s.size = n
		case name == "RedrivePolicy":
			r, err := b.parseRedrive(value)
			if err != nil {
				return s, err
			}
			s.redrive, s.kept[name] = r, value
		case name == "FifoQueue" && value == "false":
		case slices.Contains(inert, name):
			s.kept[name] = value
		default:
			return s, errorf(InvalidName, "Unknown Attribute %s.", name)
		}
	}
	return s, nil
}

func number(name, value string, least, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, errorf(InvalidValue, "Invalid value for the parameter %s: it is a number from %d to %d.", name, least, most)
	}
	return n, nil
}

// redrive is after how many receives a message goes to which queue.
type redrive struct {
	Target string      `json:"deadLetterTargetArn"`
	Most   json.Number `json:"maxReceiveCount"`

	most int
}

// parseRedrive reads a RedrivePolicy, whose count is a number or a string; ""
// ends dead letters. The caller holds the lock.
func (b *Broker) parseRedrive(value string) (*redrive, error) {
	if value == "" {
		return nil, nil
	}
	var r redrive
	if err := json.Unmarshal([]byte(value), &r); err != nil {
		return nil, errorf(InvalidValue, `Invalid value for the parameter RedrivePolicy: it is {"deadLetterTargetArn": ARN, "maxReceiveCount": N}.`)
	}
	most, err := number("maxReceiveCount", r.Most.String(), 1, 1000)
	if err != nil {
		return nil, err
	}
	if b.queues[r.target()] == nil {
		return nil, errorf(InvalidValue, "Value %s for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.", value)
	}
	r.most = most
	return &r, nil
}

// target is the name of the queue for dead letters.
func (r *redrive) target() string { return r.Target[strings.LastIndexByte(r.Target, ':')+1:] }

// ARN is the Amazon Resource Name of a queue.
func ARN(name string) string { return "arn:aws:sqs:us-east-1:" + Account + ":" + name }

// Account is the id of the account that all queues belong to.
const Account = "000000000000"

// SetAttributes changes attributes of a queue and leaves the others. Messages
// that wait are not affected by a new delay.
func (b *Broker) SetAttributes(name string, attributes map[string]string) error {
	return b.with(name, func(q *queue) error {
		s, err := b.set(q.settings, attributes)
		if err != nil {
			return err
		}
		q.settings, q.modified = s, time.Now()
		return nil
	})
}

// Attributes are the attributes of a queue that names lists, of which "All" is
// every one.
func (b *Broker) Attributes(name string, names []string) (map[string]string, error) {
	var found map[string]string
	err := b.with(name, func(q *queue) error {
		all := q.attributes()
		if slices.Contains(names, "All") {
			found = all
			return nil
		}
		found = map[string]string{}
		for _, name := range names {
			if value, ok := all[name]; ok {
				found[name] = value
			} else if name != "RedrivePolicy" && name != "FifoQueue" && !slices.Contains(inert, name) {
				return errorf(InvalidName, "Unknown Attribute %s.", name)
			}
		}
		return nil
	})
	return found, err
}

// attributes are all attributes of the queue that have a value.
func (q *queue) attributes() map[string]string {
	inFlight := 0
	for _, m := range q.hidden {
		if m.inFlight {
			inFlight++
		}
	}

	all := map[string]string{"MaximumMessageSize": q.settings.text("MaximumMessageSize")}
	for i, value := range []string{
		strconv.Itoa(len(q.ready)), strconv.Itoa(len(q.hidden) - inFlight), strconv.Itoa(inFlight),
		strconv.FormatInt(q.created.Unix(), 10), strconv.FormatInt(q.modified.Unix(), 10), ARN(q.name),
	} {
		all[counted[i]] = value
	}
	for name := range limits {
		all[name] = q.settings.text(name)
	}
	for name, value := range q.settings.kept {
		if value != "" {
			all[name] = value
		}
	}
	return all
}
