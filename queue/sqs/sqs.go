// Package sqs serves the queues of package queue by the two protocols of Amazon
// SQS: AWS JSON 1.0, which the AWS SDKs speak since the end of 2023, and the
// query protocol, forms that are answered in XML, which they spoke before. Shapes
// and names are those of the API of 2012-11-05. It owns no state.
//
// Requests are not authenticated: it listens for programs of its own machine.
package sqs

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/rockpool/rootvm/queue"
)

// maxRequest is how long a request may be, in bytes: a batch of 1 MiB, escaped.
const maxRequest = 8 << 20

// Handler serves the queues of a broker.
type Handler struct {
	Broker *queue.Broker
	Log    *slog.Logger
}

// ServeHTTP answers one request. Browsers are refused: a page of anybody's could
// otherwise use the queues of whoever looks at it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") != "" || r.Method != http.MethodPost {
		http.Error(w, "This is a queue with the API of Amazon SQS: an AWS SDK reaches it with this address as its endpoint.", http.StatusForbidden)
		return
	}

	wire, action, decode, err := read(http.MaxBytesReader(w, r.Body, maxRequest), r)
	var answer any
	if err == nil {
		answer, err = h.do(r, action, decode)
	}
	if r.Context().Err() != nil {
		return // nobody hears it
	}

	id := uuid.NewString()
	w.Header().Set("x-amzn-RequestId", id)
	if err != nil {
		f := fault(err)
		if f.status >= http.StatusInternalServerError {
			h.Log.Error("request failed", "action", action, "err", err)
		}
		wire.fail(w, f, id)
		return
	}
	wire.answer(w, action, answer, id)
}

// do runs an action. What decode decodes into is the action's own input.
func (h *Handler) do(r *http.Request, action string, decode func(any) error) (any, error) {
	run, ok := actions[action]
	if !ok {
		return nil, &queue.Error{Code: invalidAction, Message: fmt.Sprintf("The action %q is not valid for this server.", action)}
	}
	return run(&call{Context: r.Context(), Broker: h.Broker, base: "http://" + r.Host + "/" + queue.Account + "/", path: r.URL.Path}, decode)
}

// protocol is how answers are written.
type protocol interface {
	answer(w http.ResponseWriter, action string, output any, id string)
	fail(w http.ResponseWriter, f failure, id string)
}

// read finds out which protocol a request is of, what it asks for, and how its
// input is decoded.
func read(body io.Reader, r *http.Request) (protocol, string, func(any) error, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	content, err := io.ReadAll(body)
	if kind != "application/x-www-form-urlencoded" {
		action := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.")
		return jsonProtocol{}, action, func(into any) error { return decodeJSON(content, into) }, tooLong(err)
	}

	if err != nil {
		return queryProtocol{}, "", nil, tooLong(err)
	}
	form, err := url.ParseQuery(string(content))
	if err != nil {
		err = malformed(err)
	}
	return queryProtocol{}, form.Get("Action"), func(into any) error { return decodeForm(form, into) }, err
}

func tooLong(err error) error {
	if err == nil {
		return nil
	}
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return &queue.Error{Code: batchTooLong, Message: "The request is too long."}
	}
	return malformed(err)
}

func malformed(err error) error {
	return &queue.Error{Code: queue.InvalidParameter, Message: "The request cannot be read: " + err.Error()}
}

func decodeJSON(content []byte, into any) error {
	if len(content) == 0 {
		return nil
	}
	if err := json.Unmarshal(content, into); err != nil {
		return malformed(err)
	}
	return nil
}

// jsonProtocol is AWS JSON 1.0.
type jsonProtocol struct{}

func (jsonProtocol) answer(w http.ResponseWriter, _ string, output any, _ string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(output)
}

func (jsonProtocol) fail(w http.ResponseWriter, f failure, _ string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.Header().Set("x-amzn-query-error", f.query+";"+f.blame())
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": f.shape, "message": f.message})
}

// queryProtocol is the query protocol.
type queryProtocol struct{}

// namespace is that of the answers' elements.
const namespace = "http://queue.amazonaws.com/doc/2012-11-05/"

func (queryProtocol) answer(w http.ResponseWriter, action string, output any, id string) {
	type metadata struct {
		RequestID string `xml:"RequestId"`
	}
	type answer struct {
		XMLName          xml.Name
		Result           any
		ResponseMetadata metadata
	}
	writeXML(w, http.StatusOK, answer{
		xml.Name{Space: namespace, Local: action + "Response"},
		named{action + "Result", output},
		metadata{id},
	})
}

func (queryProtocol) fail(w http.ResponseWriter, f failure, id string) {
	type detail struct{ Type, Code, Message string }
	type answer struct {
		XMLName   xml.Name
		Error     detail
		RequestID string `xml:"RequestId"`
	}
	writeXML(w, f.status, answer{xml.Name{Space: namespace, Local: "ErrorResponse"}, detail{f.blame(), f.query, f.message}, id})
}

// named is an element whose name is known only at run time.
type named struct {
	name    string
	content any
}

// MarshalXML implements xml.Marshaler.
func (n named) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	start.Name.Local = n.name
	return e.EncodeElement(n.content, start)
}

// plainSpace writes line feeds and tabs as themselves, as SQS does: AWS SDKs for
// JavaScript of before 2023-11 do not know them as references.
var plainSpace = strings.NewReplacer("&#xA;", "\n", "&#x9;", "\t")

func writeXML(w http.ResponseWriter, status int, content any) {
	var b strings.Builder
	b.WriteString(xml.Header)
	if err := xml.NewEncoder(&b).Encode(content); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = plainSpace.WriteString(w, b.String())
}

// call is one request on its way to the broker.
type call struct {
	context.Context
	*queue.Broker
	base string // of the addresses of queues, as this client reaches them
	path string // that the request was sent to
}

// url is the address of a queue.
func (c *call) url(name string) string { return c.base + name }

// urls are the addresses of queues.
func (c *call) urls(names []string) []string {
	var urls []string
	for _, name := range names {
		urls = append(urls, c.url(name))
	}
	return urls
}

// name is the name of the queue of an address. Without one, it is the queue that
// the request was sent to.
func (c *call) name(address string) string {
	if address == "" {
		address = c.path
	}
	return address[strings.LastIndexByte(address, '/')+1:]
}
