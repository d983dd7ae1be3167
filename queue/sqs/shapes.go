package sqs

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"slices"

	"github.com/rockpool/rootvm/queue"
)

// Shapes of the API. The tag json is a member's name in the JSON protocol, xml
// its name in the query protocol, in forms and in answers; without one, it is the
// field's. Lists are repeated members there, numbered from 1 in forms.

type nothing struct{}

type queueURL struct {
	QueueURL string `json:"QueueUrl" xml:"QueueUrl"`
}

type createQueueInput struct {
	QueueName  string
	Attributes attributes `xml:"Attribute"`
	Tags       tags       `json:"tags" xml:"Tag"`
}

type getQueueURLInput struct{ QueueName string }

type listQueuesInput struct {
	QueueNamePrefix string
	MaxResults      int
	NextToken       string
}

type listQueuesOutput struct {
	QueueURLs []string `json:"QueueUrls,omitempty" xml:"QueueUrl"`
	NextToken string   `json:",omitempty" xml:",omitempty"`
}

type deadLetterSourcesInput struct {
	queueURL
	MaxResults int
	NextToken  string
}

type deadLetterSourcesOutput struct {
	QueueURLs []string `json:"queueUrls" xml:"QueueUrl"`
	NextToken string   `json:",omitempty" xml:",omitempty"`
}

type getQueueAttributesInput struct {
	queueURL
	AttributeNames []string `xml:"AttributeName"`
}

type attributesOutput struct {
	Attributes attributes `json:",omitempty" xml:"Attribute"`
}

type setQueueAttributesInput struct {
	queueURL
	Attributes attributes `xml:"Attribute"`
}

type tagQueueInput struct {
	queueURL
	Tags tags `xml:"Tag"`
}

type untagQueueInput struct {
	queueURL
	TagKeys []string `xml:"TagKey"`
}

type tagsOutput struct {
	Tags tags `json:",omitempty" xml:"Tag"`
}

// draft is what a sender says of a message.
type draft struct {
	MessageBody             string
	DelaySeconds            *int
	MessageAttributes       messageAttributes `xml:"MessageAttribute"`
	MessageSystemAttributes messageAttributes `xml:"MessageSystemAttribute"`
}

func (d draft) domain() queue.Draft {
	to := queue.Draft{Body: d.MessageBody, Delay: d.DelaySeconds, Trace: d.MessageSystemAttributes["AWSTraceHeader"].StringValue}
	for name, a := range d.MessageAttributes {
		if to.Attributes == nil {
			to.Attributes = map[string]queue.Attribute{}
		}
		to.Attributes[name] = queue.Attribute{Type: a.DataType, Text: a.StringValue, Bytes: a.BinaryValue}
	}
	return to
}

type sendMessageInput struct {
	queueURL
	draft
}

type sendMessageOutput struct {
	MessageID             string `json:"MessageId" xml:"MessageId"`
	MD5OfBody             string `json:"MD5OfMessageBody" xml:"MD5OfMessageBody"`
	MD5OfAttributes       string `json:"MD5OfMessageAttributes,omitempty" xml:"MD5OfMessageAttributes,omitempty"`
	MD5OfSystemAttributes string `json:"MD5OfMessageSystemAttributes,omitempty" xml:"MD5OfMessageSystemAttributes,omitempty"`
}

type sendMessageEntry struct {
	ID string `json:"Id" xml:"Id"`
	draft
}

func (e sendMessageEntry) id() string { return e.ID }

type sendMessageBatchInput struct {
	queueURL
	Entries []sendMessageEntry `xml:"SendMessageBatchRequestEntry"`
}

type sendMessageEntryOutput struct {
	ID string `json:"Id" xml:"Id"`
	sendMessageOutput
}

func (sendMessageEntryOutput) element() string { return "SendMessageBatchResultEntry" }

type receiveMessageInput struct {
	queueURL
	AttributeNames              []string `xml:"AttributeName"`
	MessageSystemAttributeNames []string `xml:"MessageSystemAttributeName"`
	MessageAttributeNames       []string `xml:"MessageAttributeName"`
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
}

type receiveMessageOutput struct {
	Messages []message `json:",omitempty" xml:"Message"`
}

type message struct {
	MessageID         string `json:"MessageId" xml:"MessageId"`
	ReceiptHandle     string
	MD5OfBody         string
	Body              string
	Attributes        attributes        `json:",omitempty" xml:"Attribute"`
	MD5OfAttributes   string            `json:"MD5OfMessageAttributes,omitempty" xml:"MD5OfMessageAttributes,omitempty"`
	MessageAttributes messageAttributes `json:",omitempty" xml:"MessageAttribute"`
}

type deleteMessageInput struct {
	queueURL
	ReceiptHandle string
}

type deleteMessageEntry struct {
	ID            string `json:"Id" xml:"Id"`
	ReceiptHandle string
}

func (e deleteMessageEntry) id() string { return e.ID }

type deleteMessageBatchInput struct {
	queueURL
	Entries []deleteMessageEntry `xml:"DeleteMessageBatchRequestEntry"`
}

type changeVisibilityInput struct {
	queueURL
	ReceiptHandle     string
	VisibilityTimeout *int
}

type changeVisibilityEntry struct {
	ID                string `json:"Id" xml:"Id"`
	ReceiptHandle     string
	VisibilityTimeout int
}

func (e changeVisibilityEntry) id() string { return e.ID }

type changeVisibilityBatchInput struct {
	queueURL
	Entries []changeVisibilityEntry `xml:"ChangeMessageVisibilityBatchRequestEntry"`
}

type deletedEntry struct {
	ID string `json:"Id" xml:"Id"`
}

func (deletedEntry) element() string { return "DeleteMessageBatchResultEntry" }

type changedEntry struct {
	ID string `json:"Id" xml:"Id"`
}

func (changedEntry) element() string { return "ChangeMessageVisibilityBatchResultEntry" }

// batchOutput is what became of the entries of a batch.
type batchOutput[Output any] struct {
	Successful []Output      `json:",omitempty"`
	Failed     []failedEntry `json:",omitempty"`
}

type failedEntry struct {
	ID          string `json:"Id" xml:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

// MarshalXML implements xml.Marshaler: the results are named by what was asked.
func (b batchOutput[Output]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return encodeInside(e, start, func() error {
		for _, done := range b.Successful {
			if err := e.EncodeElement(done, element(any(done).(interface{ element() string }).element())); err != nil {
				return err
			}
		}
		for _, failed := range b.Failed {
			if err := e.EncodeElement(failed, element("BatchResultErrorEntry")); err != nil {
				return err
			}
		}
		return nil
	})
}

// attributes are a map that is a repeated member of a name and a value in the
// query protocol.
type attributes map[string]string

// MarshalXML implements xml.Marshaler.
func (a attributes) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	type entry struct{ Name, Value string }
	return encodeEach(e, start, a, func(name, value string) any { return entry{name, value} })
}

// tags are attributes whose names are called keys.
type tags map[string]string

// MarshalXML implements xml.Marshaler.
func (t tags) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	type entry struct{ Key, Value string }
	return encodeEach(e, start, t, func(key, value string) any { return entry{key, value} })
}

// messageAttribute is text or bytes.
type messageAttribute struct {
	StringValue string `json:",omitempty" xml:",omitempty"`
	BinaryValue binary `json:",omitempty" xml:",omitempty"`
	DataType    string
}

// binary is bytes, base64 in either protocol.
type binary []byte

// MarshalText implements encoding.TextMarshaler.
func (b binary) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *binary) UnmarshalText(text []byte) error {
	decoded, err := base64.StdEncoding.AppendDecode(nil, text)
	*b = decoded
	return err
}

// messageAttributes are a message's attributes.
type messageAttributes map[string]messageAttribute

// MarshalXML implements xml.Marshaler.
func (m messageAttributes) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	type entry struct {
		Name  string
		Value messageAttribute
	}
	return encodeEach(e, start, m, func(name string, value messageAttribute) any { return entry{name, value} })
}

// ofDomain are those of a message's attributes that are asked for.
func ofDomain(all map[string]queue.Attribute, names []string) messageAttributes {
	found := messageAttributes{}
	for name, a := range all {
		if wanted(name, names) {
			found[name] = messageAttribute{StringValue: a.Text, BinaryValue: a.Bytes, DataType: a.Type}
		}
	}
	return found
}

// encodeEach writes the entries of a map as elements of the same name, sorted.
func encodeEach[Map ~map[string]Value, Value any](e *xml.Encoder, start xml.StartElement, m Map, entry func(string, Value) any) error {
	for _, name := range sortedKeys(m) {
		if err := e.EncodeElement(entry(name, m[name]), start); err != nil {
			return err
		}
	}
	return nil
}

// encodeInside writes an element whose content is written by content.
func encodeInside(e *xml.Encoder, start xml.StartElement, content func() error) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if err := content(); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

func sortedKeys[Map ~map[string]Value, Value any](m Map) []string {
	return slices.Sorted(maps.Keys(m))
}
