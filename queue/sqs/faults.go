package sqs

import (
	"errors"
	"net/http"

	"github.com/rockpool/rootvm/queue"
)

// Codes of failures that only the wire knows.
const (
	invalidAction    queue.Code = "InvalidAction"
	emptyBatch       queue.Code = "EmptyBatchRequest"
	batchTooLong     queue.Code = "BatchRequestTooLong"
	tooManyEntries   queue.Code = "TooManyEntriesInBatchRequest"
	invalidEntryID   queue.Code = "InvalidBatchEntryId"
	sameEntryIDs     queue.Code = "BatchEntryIdsNotDistinct"
	internalFailure  queue.Code = "InternalError"
	missingParameter queue.Code = "MissingParameter"
)

// failure is what a client is told of an error.
type failure struct {
	shape   string // by JSON
	query   string // by the query protocol
	status  int
	message string
}

// blame is who has caused it.
func (f failure) blame() string {
	if f.status >= http.StatusInternalServerError {
		return "Receiver"
	}
	return "Sender"
}

// failures are the names of codes, of those that are not the same in both
// protocols and 400. They are the awsQueryError traits of the SDKs' model.
var failures = map[queue.Code]failure{
	queue.NotFound:         {query: "AWS.SimpleQueueService.NonExistentQueue"},
	queue.AlreadyExists:    {query: "QueueAlreadyExists"},
	queue.InvalidHandle:    {status: http.StatusNotFound},
	queue.NotInFlight:      {query: "AWS.SimpleQueueService.MessageNotInflight"},
	queue.Unsupported:      {query: "AWS.SimpleQueueService.UnsupportedOperation"},
	queue.InvalidParameter: {shape: "InvalidParameterValueException"},
	missingParameter:       {shape: "MissingRequiredParameterException"},
	emptyBatch:             {query: "AWS.SimpleQueueService.EmptyBatchRequest"},
	batchTooLong:           {query: "AWS.SimpleQueueService.BatchRequestTooLong"},
	tooManyEntries:         {query: "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"},
	invalidEntryID:         {query: "AWS.SimpleQueueService.InvalidBatchEntryId"},
	sameEntryIDs:           {query: "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"},
	internalFailure:        {status: http.StatusInternalServerError},
}

// fault is what a client is told of an error. One that it has not caused has no
// details.
func fault(err error) failure {
	e := &queue.Error{Code: internalFailure, Message: "We encountered an internal error."}
	errors.As(err, &e)
	f := failures[e.Code]
	if f.shape == "" {
		f.shape = string(e.Code)
	}
	f.shape = "com.amazonaws.sqs#" + f.shape
	if f.query == "" {
		f.query = string(e.Code)
	}
	if f.status == 0 {
		f.status = http.StatusBadRequest
	}
	f.message = e.Message
	return f
}
