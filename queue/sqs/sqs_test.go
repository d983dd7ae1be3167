package sqs

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/rockpool/rootvm/queue"
)

// server is a server with a queue "q".
func server(t testing.TB) (*httptest.Server, *queue.Broker) {
	t.Helper()
	b := new(queue.Broker)
	if err := b.Create("q", nil, nil); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(&Handler{Broker: b, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(s.Close)
	return s, b
}

// fetch sends a request and returns status, body and headers of the answer.
func fetch(t testing.TB, r *http.Request) (int, string, http.Header) {
	t.Helper()
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

// byJSON asks by AWS JSON 1.0.
func byJSON(t testing.TB, s *httptest.Server, action, input string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "AmazonSQS."+action)
	return fetch(t, r)
}

// byQuery asks by the query protocol, at a path.
func byQuery(t testing.TB, s *httptest.Server, path string, members ...string) (int, string) {
	t.Helper()
	form := url.Values{"Version": {"2012-11-05"}}
	for i := 0; i < len(members); i += 2 {
		form.Set(members[i], members[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	status, body, _ := fetch(t, r)
	return status, body
}

// varying finds what differs from run to run: ids, handles, times.
var varying = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|cS[\w-]{40,}|\b1\d{12}\b`)

// want compares an answer, in which what differs from run to run is a "*".
func want(t *testing.T, got, want string) {
	t.Helper()
	if got = strings.TrimSpace(varying.ReplaceAllString(got, "*")); got != want {
		t.Errorf("answered\n%s\nwant\n%s", got, want)
	}
}

func TestHandler_JSON(t *testing.T) {
	s, _ := server(t)
	_, body, header := byJSON(t, s, "GetQueueUrl", `{"QueueName":"q"}`)
	address := s.URL + "/000000000000/q"
	want(t, body, `{"QueueUrl":"`+address+`"}`)
	if header.Get("Content-Type") != "application/x-amz-json-1.0" || header.Get("x-amzn-RequestId") == "" {
		t.Errorf("headers %v", header)
	}

	_, body, _ = byJSON(t, s, "SendMessageBatch", `{"QueueUrl":"`+address+`","Entries":[
		{"Id":"a","MessageBody":"one","MessageAttributes":{"n":{"DataType":"Number","StringValue":"7"},"b":{"DataType":"Binary","BinaryValue":"AAH/"}}},
		{"Id":"b","MessageBody":"two","DelaySeconds":901}]}`)
	want(t, body, `{"Successful":[{"Id":"a","MessageId":"*","MD5OfMessageBody":"f97c5d29941bfb1b2fdab0874906ab82","MD5OfMessageAttributes":"301e0859acb3cbe3d0e86f8964250fe8"}],"Failed":[{"Id":"b","SenderFault":true,"Code":"InvalidParameterValue","Message":"Value 901 for parameter DelaySeconds is invalid: it is from 0 to 900."}]}`)

	_, body, _ = byJSON(t, s, "ReceiveMessage", `{"QueueUrl":"`+address+`","MaxNumberOfMessages":10,"AttributeNames":["ApproximateReceiveCount","SentTimestamp"],"MessageAttributeNames":["b"]}`)
	want(t, body, `{"Messages":[{"MessageId":"*","ReceiptHandle":"*","MD5OfBody":"f97c5d29941bfb1b2fdab0874906ab82","Body":"one","Attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"*"},"MD5OfMessageAttributes":"35842bdf855d374207ff397bc05e1ca4","MessageAttributes":{"b":{"BinaryValue":"AAH/","DataType":"Binary"}}}]}`)
	var received receiveMessageOutput
	if err := json.Unmarshal([]byte(body), &received); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := byJSON(t, s, "DeleteMessage", `{"QueueUrl":"`+address+`","ReceiptHandle":"`+received.Messages[0].ReceiptHandle+`"}`); status != http.StatusOK || strings.TrimSpace(body) != "{}" {
		t.Errorf("deleting: %d %s", status, body)
	}
}

func TestHandler_Query(t *testing.T) {
	s, _ := server(t)
	const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	const tail = `<ResponseMetadata><RequestId>*</RequestId></ResponseMetadata>`
	_, body := byQuery(t, s, "/", "Action", "CreateQueue", "QueueName", "r", "Attribute.1.Name", "DelaySeconds", "Attribute.1.Value", "3", "Tag.1.Key", "team", "Tag.1.Value", "a & b")
	want(t, body, head+`<CreateQueueResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><CreateQueueResult><QueueUrl>`+s.URL+`/000000000000/r</QueueUrl></CreateQueueResult>`+tail+`</CreateQueueResponse>`)
	_, body = byQuery(t, s, "/000000000000/r", "Action", "GetQueueAttributes", "AttributeName.1", "DelaySeconds", "AttributeName.2", "VisibilityTimeout")
	want(t, body, head+`<GetQueueAttributesResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><GetQueueAttributesResult><Attribute><Name>DelaySeconds</Name><Value>3</Value></Attribute><Attribute><Name>VisibilityTimeout</Name><Value>30</Value></Attribute></GetQueueAttributesResult>`+tail+`</GetQueueAttributesResponse>`)
	_, body = byQuery(t, s, "/", "Action", "ListQueueTags", "QueueUrl", s.URL+"/000000000000/r")
	want(t, body, head+`<ListQueueTagsResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><ListQueueTagsResult><Tag><Key>team</Key><Value>a &amp; b</Value></Tag></ListQueueTagsResult>`+tail+`</ListQueueTagsResponse>`)

	queueURL := s.URL + "/000000000000/q"
	_, body = byQuery(t, s, "/", "Action", "SendMessageBatch", "QueueUrl", queueURL,
		"SendMessageBatchRequestEntry.1.Id", "a", "SendMessageBatchRequestEntry.1.MessageBody", "x\ny",
		"SendMessageBatchRequestEntry.1.MessageAttribute.1.Name", "b", "SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.DataType", "Binary",
		"SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue", base64.StdEncoding.EncodeToString([]byte{0, 1, 255}),
		"SendMessageBatchRequestEntry.2.Id", "b", "SendMessageBatchRequestEntry.2.MessageBody", "")
	want(t, body, head+`<SendMessageBatchResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><SendMessageBatchResult>`+
		`<SendMessageBatchResultEntry><Id>a</Id><MessageId>*</MessageId><MD5OfMessageBody>16151ff14c884e2d18c9903202288ba0</MD5OfMessageBody><MD5OfMessageAttributes>35842bdf855d374207ff397bc05e1ca4</MD5OfMessageAttributes></SendMessageBatchResultEntry>`+
		`<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault><Code>InvalidParameterValue</Code><Message>The request must contain the parameter MessageBody, which is not empty.</Message></BatchResultErrorEntry>`+
		`</SendMessageBatchResult>`+tail+`</SendMessageBatchResponse>`)
	_, body = byQuery(t, s, "/", "Action", "ReceiveMessage", "QueueUrl", queueURL, "MaxNumberOfMessages", "10", "AttributeName.1", "ApproximateReceiveCount", "MessageAttributeName.1", "All")
	want(t, body, head+`<ReceiveMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><ReceiveMessageResult><Message>`+
		`<MessageId>*</MessageId><ReceiptHandle>*</ReceiptHandle><MD5OfBody>16151ff14c884e2d18c9903202288ba0</MD5OfBody><Body>x`+"\n"+`y</Body><Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>`+
		`<MD5OfMessageAttributes>35842bdf855d374207ff397bc05e1ca4</MD5OfMessageAttributes><MessageAttribute><Name>b</Name><Value><BinaryValue>AAH/</BinaryValue><DataType>Binary</DataType></Value></MessageAttribute></Message></ReceiveMessageResult>`+tail+`</ReceiveMessageResponse>`)
	_, body = byQuery(t, s, "/", "Action", "DeleteMessageBatch", "QueueUrl", queueURL, "DeleteMessageBatchRequestEntry.1.Id", "x", "DeleteMessageBatchRequestEntry.1.ReceiptHandle", "nonsense")
	if !strings.Contains(body, "<BatchResultErrorEntry><Id>x</Id>") {
		t.Errorf("deleting by a bad handle: %s", body)
	}
}

// TestHandler_Faults wants the names of failures that the SDKs know, in both
// protocols.
func TestHandler_Faults(t *testing.T) {
	s, _ := server(t)
	queueURL := s.URL + "/000000000000/q"
	many := `{"Id":"1","MessageBody":"x"}` + strings.Repeat(`,{"Id":"1","MessageBody":"x"}`, 10)
	for _, c := range []struct {
		name, action, input string
		form                []string
		status              int
		shape, query        string
	}{
		{"no queue", "GetQueueUrl", `{"QueueName":"none"}`, []string{"QueueName", "none"}, 400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
		{"other attributes", "CreateQueue", `{"QueueName":"q","Attributes":{"DelaySeconds":"9"}}`, []string{"QueueName", "q", "Attribute.1.Name", "DelaySeconds", "Attribute.1.Value", "9"}, 400, "QueueNameExists", "QueueAlreadyExists"},
		{"no action", "BrewCoffee", `{}`, nil, 400, "InvalidAction", "InvalidAction"},
		{"empty batch", "SendMessageBatch", `{"QueueUrl":"` + queueURL + `"}`, []string{"QueueUrl", queueURL}, 400, "EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"},
		{"long batch", "SendMessageBatch", `{"QueueUrl":"` + queueURL + `","Entries":[` + many + `]}`, nil, 400, "TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"},
		{"same ids", "SendMessageBatch", `{"QueueUrl":"` + queueURL + `","Entries":[{"Id":"1","MessageBody":"x"},{"Id":"1","MessageBody":"x"}]}`, nil, 400, "BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"},
		{"bad id", "SendMessageBatch", `{"QueueUrl":"` + queueURL + `","Entries":[{"Id":"a b","MessageBody":"x"}]}`, nil, 400, "InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"},
		{"bad handle", "DeleteMessage", `{"QueueUrl":"` + queueURL + `","ReceiptHandle":"x"}`, []string{"QueueUrl", queueURL, "ReceiptHandle", "x"}, 404, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"},
		{"no timeout", "ChangeMessageVisibility", `{"QueueUrl":"` + queueURL + `","ReceiptHandle":"x"}`, []string{"QueueUrl", queueURL}, 400, "MissingRequiredParameterException", "MissingParameter"},
		{"no JSON", "SendMessage", `{`, nil, 400, "InvalidParameterValueException", "InvalidParameterValue"},
		{"no number", "ReceiveMessage", `{"QueueUrl":"` + queueURL + `","MaxNumberOfMessages":"many"}`, []string{"QueueUrl", queueURL, "MaxNumberOfMessages", "many"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
		{"no base64", "SendMessage", `{"MessageAttributes":{"a":{"BinaryValue":"?"}}}`, []string{"MessageAttribute.1.Name", "a", "MessageAttribute.1.Value.BinaryValue", "?"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
		{"half an attribute", "CreateQueue", `{"QueueName":1}`, []string{"QueueName", "n", "Attribute.1.Name", "DelaySeconds"}, 400, "InvalidParameterValueException", "InvalidParameterValue"},
		{"too long", "SendMessage", `{"MessageBody":"` + strings.Repeat("x", maxRequest) + `"}`, nil, 400, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, header := byJSON(t, s, c.action, c.input)
			var f struct {
				Type    string `json:"__type"`
				Message string `json:"message"`
			}
			if err := json.Unmarshal([]byte(body), &f); err != nil {
				t.Fatal(err)
			}
			if status != c.status || f.Type != "com.amazonaws.sqs#"+c.shape || f.Message == "" || header.Get("x-amzn-query-error") != c.query+";Sender" {
				t.Errorf("JSON: %d %s %s", status, body, header.Get("x-amzn-query-error"))
			}
			if c.form == nil && c.input != `{}` {
				return
			}
			status, body = byQuery(t, s, "/", append([]string{"Action", c.action}, c.form...)...)
			if status != c.status || !strings.Contains(body, "<Error><Type>Sender</Type><Code>"+c.query+"</Code><Message>") {
				t.Errorf("query: %d %s", status, body)
			}
		})
	}
}

// TestHandler_Browser refuses what a page could send.
func TestHandler_Browser(t *testing.T) {
	s, b := server(t)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/?Action=PurgeQueue", strings.NewReader("Action=SendMessage&QueueUrl=/q&MessageBody=x"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if method == http.MethodPost {
			r.Header.Set("Origin", "https://example.org")
		}
		if status, body, _ := fetch(t, r); status != http.StatusForbidden {
			t.Errorf("%s: %d %s", method, status, body)
		}
	}
	if counts, err := b.Attributes("q", []string{"All"}); err != nil || counts["ApproximateNumberOfMessages"] != "0" {
		t.Errorf("%v, %v", counts, err)
	}
}

func TestHandler_ListQueues_Pages(t *testing.T) {
	s, b := server(t)
	for _, name := range []string{"a", "b", "c"} {
		if err := b.Create(name, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for next := ""; ; {
		_, body, _ := byJSON(t, s, "ListQueues", `{"MaxResults":2,"NextToken":"`+next+`"}`)
		var out listQueuesOutput
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		for _, u := range out.QueueURLs {
			names = append(names, u[strings.LastIndexByte(u, '/')+1:])
		}
		if next = out.NextToken; next == "" {
			break
		}
	}
	if got := strings.Join(names, ""); got != "abcq" {
		t.Errorf("pages: %s", got)
	}
}

// FuzzForm decodes forms of clients into shapes with all kinds of members.
func FuzzForm(f *testing.F) {
	f.Add("Entries.1.Id=a&SendMessageBatchRequestEntry.1.MessageAttribute.1.Name=n&SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.BinaryValue=AA==")
	f.Add("Attribute.1.Name=a&Attribute.1.Value=b&Tag.member.1.Key=x&.=.")
	f.Fuzz(func(_ *testing.T, text string) {
		form, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		_ = decodeForm(form, new(sendMessageBatchInput))
		_ = decodeForm(form, new(createQueueInput))
		_ = decodeForm(form, new(receiveMessageInput))
	})
}

// BenchmarkHandler sends, receives and deletes one message, and ten at a time, by
// each protocol.
func BenchmarkHandler(b *testing.B) {
	s, _ := server(b)
	address := s.URL + "/000000000000/q"
	body := strings.Repeat("x", 256)
	b.Run("json/one", func(b *testing.B) {
		for b.Loop() {
			byJSON(b, s, "SendMessage", `{"QueueUrl":"`+address+`","MessageBody":"`+body+`"}`)
			_, answer, _ := byJSON(b, s, "ReceiveMessage", `{"QueueUrl":"`+address+`"}`)
			var out receiveMessageOutput
			if err := json.Unmarshal([]byte(answer), &out); err != nil || len(out.Messages) != 1 {
				b.Fatal(answer, err)
			}
			byJSON(b, s, "DeleteMessage", `{"QueueUrl":"`+address+`","ReceiptHandle":"`+out.Messages[0].ReceiptHandle+`"}`)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("query/one", func(b *testing.B) {
		handles := regexp.MustCompile(`<ReceiptHandle>(.+)</ReceiptHandle>`)
		for b.Loop() {
			byQuery(b, s, "/", "Action", "SendMessage", "QueueUrl", address, "MessageBody", body)
			_, answer := byQuery(b, s, "/", "Action", "ReceiveMessage", "QueueUrl", address)
			found := handles.FindStringSubmatch(answer)
			if found == nil {
				b.Fatal(answer)
			}
			byQuery(b, s, "/", "Action", "DeleteMessage", "QueueUrl", address, "ReceiptHandle", found[1])
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("json/ten", func(b *testing.B) {
		var entries []string
		for id := range 10 {
			entries = append(entries, `{"Id":"`+string(rune('a'+id))+`","MessageBody":"`+body+`"}`)
		}
		batch := `{"QueueUrl":"` + address + `","Entries":[` + strings.Join(entries, ",") + `]}`
		for b.Loop() {
			byJSON(b, s, "SendMessageBatch", batch)
			_, answer, _ := byJSON(b, s, "ReceiveMessage", `{"QueueUrl":"`+address+`","MaxNumberOfMessages":10}`)
			var out receiveMessageOutput
			if err := json.Unmarshal([]byte(answer), &out); err != nil || len(out.Messages) != 10 {
				b.Fatal(answer, err)
			}
			var handles []string
			for _, m := range out.Messages {
				handles = append(handles, `{"Id":"`+m.MessageID+`","ReceiptHandle":"`+m.ReceiptHandle+`"}`)
			}
			byJSON(b, s, "DeleteMessageBatch", `{"QueueUrl":"`+address+`","Entries":[`+strings.Join(handles, ",")+`]}`)
		}
		b.ReportMetric(10*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}
