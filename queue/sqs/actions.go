package sqs

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rockpool/rootvm/queue"
)

// actions are what can be asked for.
var actions = map[string]func(*call, func(any) error) (any, error){
	"CreateQueue":                  action((*call).createQueue),
	"DeleteQueue":                  action((*call).deleteQueue),
	"GetQueueUrl":                  action((*call).getQueueURL),
	"ListQueues":                   action((*call).listQueues),
	"ListDeadLetterSourceQueues":   action((*call).listDeadLetterSourceQueues),
	"GetQueueAttributes":           action((*call).getQueueAttributes),
	"SetQueueAttributes":           action((*call).setQueueAttributes),
	"PurgeQueue":                   action((*call).purgeQueue),
	"TagQueue":                     action((*call).tagQueue),
	"UntagQueue":                   action((*call).untagQueue),
	"ListQueueTags":                action((*call).listQueueTags),
	"SendMessage":                  action((*call).sendMessage),
	"SendMessageBatch":             action((*call).sendMessageBatch),
	"ReceiveMessage":               action((*call).receiveMessage),
	"DeleteMessage":                action((*call).deleteMessage),
	"DeleteMessageBatch":           action((*call).deleteMessageBatch),
	"ChangeMessageVisibility":      action((*call).changeMessageVisibility),
	"ChangeMessageVisibilityBatch": action((*call).changeMessageVisibilityBatch),
}

// action decodes the input of a method and runs it.
func action[Input, Output any](method func(*call, Input) (Output, error)) func(*call, func(any) error) (any, error) {
	return func(c *call, decode func(any) error) (any, error) {
		var input Input
		if err := decode(&input); err != nil {
			return nil, err
		}
		return method(c, input)
	}
}

func (c *call) createQueue(in createQueueInput) (queueURL, error) {
	return queueURL{c.url(in.QueueName)}, c.Create(in.QueueName, in.Attributes, in.Tags)
}

func (c *call) deleteQueue(in queueURL) (nothing, error) {
	return nothing{}, c.Delete(c.name(in.QueueURL))
}

func (c *call) getQueueURL(in getQueueURLInput) (queueURL, error) {
	return queueURL{c.url(in.QueueName)}, c.Has(in.QueueName)
}

// listQueues lists all at once when it is not asked for pages. The name of the
// last queue of a page leads to the next.
func (c *call) listQueues(in listQueuesInput) (listQueuesOutput, error) {
	names, next := page(c.Names(in.QueueNamePrefix), in.NextToken, in.MaxResults)
	return listQueuesOutput{QueueURLs: c.urls(names), NextToken: next}, nil
}

func (c *call) listDeadLetterSourceQueues(in deadLetterSourcesInput) (deadLetterSourcesOutput, error) {
	names, err := c.DeadLetterSources(c.name(in.QueueURL))
	names, next := page(names, in.NextToken, in.MaxResults)
	return deadLetterSourcesOutput{QueueURLs: append([]string{}, c.urls(names)...), NextToken: next}, err
}

// page is the part of sorted names that comes after one of them.
func page(names []string, after string, most int) (part []string, next string) {
	first, found := slices.BinarySearch(names, after)
	if found {
		first++
	}
	names = names[first:]
	if most <= 0 || most >= len(names) {
		return names, ""
	}
	return names[:most], names[most-1]
}

func (c *call) getQueueAttributes(in getQueueAttributesInput) (attributesOutput, error) {
	attributes, err := c.Attributes(c.name(in.QueueURL), in.AttributeNames)
	return attributesOutput{attributes}, err
}

func (c *call) setQueueAttributes(in setQueueAttributesInput) (nothing, error) {
	return nothing{}, c.SetAttributes(c.name(in.QueueURL), in.Attributes)
}

func (c *call) purgeQueue(in queueURL) (nothing, error) {
	return nothing{}, c.Purge(c.name(in.QueueURL))
}

func (c *call) tagQueue(in tagQueueInput) (nothing, error) {
	return nothing{}, c.SetTags(c.name(in.QueueURL), in.Tags, nil)
}

func (c *call) untagQueue(in untagQueueInput) (nothing, error) {
	return nothing{}, c.SetTags(c.name(in.QueueURL), nil, in.TagKeys)
}

func (c *call) listQueueTags(in queueURL) (tagsOutput, error) {
	t, err := c.Tags(c.name(in.QueueURL))
	return tagsOutput{t}, err
}

func (c *call) sendMessage(in sendMessageInput) (sendMessageOutput, error) {
	return c.send(c.name(in.QueueURL), in.draft)
}

// send sends a message and says what the SDKs check.
func (c *call) send(queueName string, d draft) (sendMessageOutput, error) {
	id, err := c.Send(queueName, d.domain())
	if err != nil {
		return sendMessageOutput{}, err
	}
	return sendMessageOutput{
		MessageID:             id,
		MD5OfBody:             digest([]byte(d.MessageBody)),
		MD5OfAttributes:       digestAttributes(d.MessageAttributes),
		MD5OfSystemAttributes: digestAttributes(d.MessageSystemAttributes),
	}, nil
}

func (c *call) sendMessageBatch(in sendMessageBatchInput) (batchOutput[sendMessageEntryOutput], error) {
	size := 0
	for _, e := range in.Entries {
		size += len(e.MessageBody)
	}
	if size > 1<<20 {
		return batchOutput[sendMessageEntryOutput]{}, &queue.Error{Code: batchTooLong, Message: "Batch requests cannot be longer than 1048576 bytes."}
	}
	name := c.name(in.QueueURL)
	return batch(c, name, in.Entries, func(e sendMessageEntry) (sendMessageEntryOutput, error) {
		sent, err := c.send(name, e.draft)
		return sendMessageEntryOutput{e.ID, sent}, err
	})
}

func (c *call) receiveMessage(in receiveMessageInput) (receiveMessageOutput, error) {
	request := queue.Request{Most: 1, Wait: in.WaitTimeSeconds, Visibility: in.VisibilityTimeout}
	if in.MaxNumberOfMessages != nil {
		request.Most = *in.MaxNumberOfMessages
	}
	received, err := c.Receive(c, c.name(in.QueueURL), request)
	var out receiveMessageOutput
	for _, m := range received {
		attributes := ofDomain(m.Attributes, in.MessageAttributeNames)
		out.Messages = append(out.Messages, message{
			MessageID: m.ID, ReceiptHandle: m.Handle,
			Body: m.Body, MD5OfBody: digest([]byte(m.Body)),
			Attributes:        systemAttributes(m, slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)),
			MessageAttributes: attributes, MD5OfAttributes: digestAttributes(attributes),
		})
	}
	return out, err
}

// systemAttributes are those attributes of a message that are asked for.
func systemAttributes(m queue.Received, names []string) attributes {
	all := attributes{
		"SenderId":                         queue.Account,
		"SentTimestamp":                    milliseconds(m.Sent),
		"ApproximateFirstReceiveTimestamp": milliseconds(m.First),
		"ApproximateReceiveCount":          strconv.Itoa(m.Receives),
	}
	if m.Trace != "" {
		all["AWSTraceHeader"] = m.Trace
	}
	if m.Source != "" {
		all["DeadLetterQueueSourceArn"] = queue.ARN(m.Source)
	}
	if !slices.Contains(names, "All") {
		for name := range all {
			if !slices.Contains(names, name) {
				delete(all, name)
			}
		}
	}
	return all
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

func (c *call) deleteMessage(in deleteMessageInput) (nothing, error) {
	return nothing{}, c.DeleteMessage(c.name(in.QueueURL), in.ReceiptHandle)
}

func (c *call) deleteMessageBatch(in deleteMessageBatchInput) (batchOutput[deletedEntry], error) {
	name := c.name(in.QueueURL)
	return batch(c, name, in.Entries, func(e deleteMessageEntry) (deletedEntry, error) {
		return deletedEntry{e.ID}, c.DeleteMessage(name, e.ReceiptHandle)
	})
}

func (c *call) changeMessageVisibility(in changeVisibilityInput) (nothing, error) {
	if in.VisibilityTimeout == nil {
		return nothing{}, &queue.Error{Code: missingParameter, Message: "The request must contain the parameter VisibilityTimeout."}
	}
	return nothing{}, c.ChangeVisibility(c.name(in.QueueURL), in.ReceiptHandle, *in.VisibilityTimeout)
}

func (c *call) changeMessageVisibilityBatch(in changeVisibilityBatchInput) (batchOutput[changedEntry], error) {
	name := c.name(in.QueueURL)
	return batch(c, name, in.Entries, func(e changeVisibilityEntry) (changedEntry, error) {
		return changedEntry{e.ID}, c.ChangeVisibility(name, e.ReceiptHandle, e.VisibilityTimeout)
	})
}

// entryIDs are what an entry of a batch may be called.
var entryIDs = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// batch does something for each entry of a batch. An entry that fails is named
// in the answer; the others are done.
func batch[Entry interface{ id() string }, Output any](c *call, name string, entries []Entry, do func(Entry) (Output, error)) (batchOutput[Output], error) {
	var out batchOutput[Output]
	if err := c.Has(name); err != nil {
		return out, err
	}
	if len(entries) == 0 {
		return out, &queue.Error{Code: emptyBatch, Message: "There should be at least one entry in the request."}
	}
	if len(entries) > 10 {
		return out, &queue.Error{Code: tooManyEntries, Message: fmt.Sprintf("Maximum number of entries per request are 10. You have sent %d.", len(entries))}
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if !entryIDs.MatchString(e.id()) {
			return out, &queue.Error{Code: invalidEntryID, Message: "The id of a batch entry is 1 to 80 letters, digits, hyphens and underscores."}
		}
		if seen[e.id()] {
			return out, &queue.Error{Code: sameEntryIDs, Message: "Id " + e.id() + " repeated."}
		}
		seen[e.id()] = true
	}

	for _, e := range entries {
		done, err := do(e)
		if err != nil {
			f := fault(err)
			out.Failed = append(out.Failed, failedEntry{ID: e.id(), Code: f.query, Message: f.message, SenderFault: f.blame() == "Sender"})
			continue
		}
		out.Successful = append(out.Successful, done)
	}
	return out, nil
}

// digest is the MD5 sum of content, by which the SDKs find out whether a message
// has come through whole.
func digest(content []byte) string {
	sum := md5.Sum(content)
	return hex.EncodeToString(sum[:])
}

// digestAttributes is the MD5 sum of attributes of a message in the form of the
// SQS Developer Guide, "Calculating the MD5 message digest for message
// attributes"; "" for none.
func digestAttributes(all messageAttributes) string {
	if len(all) == 0 {
		return ""
	}
	var form []byte
	part := func(b []byte) {
		form = append(form, byte(len(b)>>24), byte(len(b)>>16), byte(len(b)>>8), byte(len(b)))
		form = append(form, b...)
	}
	for _, name := range sortedKeys(all) {
		a := all[name]
		part([]byte(name))
		part([]byte(a.DataType))
		if (queue.Attribute{Type: a.DataType}).Binary() {
			form = append(form, 2)
			part(a.BinaryValue)
		} else {
			form = append(form, 1)
			part([]byte(a.StringValue))
		}
	}
	return digest(form)
}

// wanted reports whether an attribute's name is among those asked for: by its
// name, by "All", or by a prefix such as "trace.*".
func wanted(name string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, isPrefix := strings.CutSuffix(n, ".*")
		return n == name || n == "All" || n == ".*" || isPrefix && strings.HasPrefix(name, prefix+".")
	})
}
