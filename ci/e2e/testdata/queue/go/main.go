// Command client is a client of a queue by the AWS SDK for Go v2: client ENDPOINT.
// It is compiled with go.mod, whose SDK speaks AWS JSON 1.0, and with query.mod,
// whose SDK speaks the query protocol. It fails with the first thing that is not
// as SQS does it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoint string) error {
	c := sqs.New(sqs.Options{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Retryer:      aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		}),
	})
	name := fmt.Sprintf("go-%d", os.Getpid())
	created, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: map[string]string{"VisibilityTimeout": "30"}})
	if err != nil {
		return err
	}
	dead, err := c.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(name + "-dead")})
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *sqs.Client, *string, *string) error{messages, batches, deadLetters, faults} {
		if err := step(ctx, c, created.QueueUrl, dead.QueueUrl); err != nil {
			return err
		}
	}
	for _, address := range []*string{created.QueueUrl, dead.QueueUrl} {
		if _, err := c.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: address}); err != nil {
			return err
		}
	}
	return nil
}

// receive takes messages and wants their bodies.
func receive(ctx context.Context, c *sqs.Client, address *string, in sqs.ReceiveMessageInput, bodies ...string) ([]types.Message, error) {
	in.QueueUrl, in.MaxNumberOfMessages, in.MessageAttributeNames = address, 10, []string{"All"}
	out, err := c.ReceiveMessage(ctx, &in)
	if err != nil {
		return nil, err
	}
	var got []string
	for _, m := range out.Messages {
		got = append(got, *m.Body)
	}
	if !slices.Equal(got, bodies) {
		return nil, fmt.Errorf("received %q, want %q", got, bodies)
	}
	return out.Messages, nil
}

// messages sends one to a receiver that waits, and has it seen again.
func messages(ctx context.Context, c *sqs.Client, address, _ *string) error {
	const body = "ü <&> \"x\"\t1\n2\r3 🎣"
	failed := make(chan error)
	go func() {
		got, err := receive(ctx, c, address, sqs.ReceiveMessageInput{WaitTimeSeconds: 20, VisibilityTimeout: 1}, body)
		if err == nil && (string(got[0].MessageAttributes["bytes"].BinaryValue) != "\x00\xff" || *got[0].MessageAttributes["text"].StringValue != "ä") {
			err = fmt.Errorf("attributes %+v", got[0].MessageAttributes)
		}
		failed <- err
	}()
	_, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: address, MessageBody: aws.String(body), MessageAttributes: map[string]types.MessageAttributeValue{
		"bytes": {DataType: aws.String("Binary"), BinaryValue: []byte("\x00\xff")},
		"text":  {DataType: aws.String("String"), StringValue: aws.String("ä")},
	}})
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	got, err := receive(ctx, c, address, sqs.ReceiveMessageInput{WaitTimeSeconds: 20}, body)
	if err != nil {
		return err
	}
	_, err = c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: address, ReceiptHandle: got[0].ReceiptHandle})
	return err
}

func batches(ctx context.Context, c *sqs.Client, address, _ *string) error {
	sent, err := c.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: address, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("a"), MessageBody: aws.String("one")}, {Id: aws.String("b"), MessageBody: aws.String("two")},
	}})
	if err != nil {
		return err
	}
	if len(sent.Successful) != 2 || len(sent.Failed) != 0 || *sent.Successful[1].Id != "b" {
		return fmt.Errorf("sent %+v", sent)
	}
	got, err := receive(ctx, c, address, sqs.ReceiveMessageInput{}, "one", "two")
	if err != nil {
		return err
	}
	in := sqs.DeleteMessageBatchInput{QueueUrl: address}
	for i, m := range got {
		in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), ReceiptHandle: m.ReceiptHandle})
	}
	deleted, err := c.DeleteMessageBatch(ctx, &in)
	if err != nil {
		return err
	}
	if len(deleted.Successful) != 2 || len(deleted.Failed) != 0 {
		return fmt.Errorf("deleted %+v", deleted)
	}
	return nil
}

func deadLetters(ctx context.Context, c *sqs.Client, address, dead *string) error {
	found, err := c.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: dead, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return err
	}
	policy := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":1}`, found.Attributes["QueueArn"])
	if _, err := c.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: address, Attributes: map[string]string{"RedrivePolicy": policy}}); err != nil {
		return err
	}
	if _, err := c.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: address, MessageBody: aws.String("poison")}); err != nil {
		return err
	}
	got, err := receive(ctx, c, address, sqs.ReceiveMessageInput{}, "poison")
	if err != nil {
		return err
	}
	if _, err := c.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: address, ReceiptHandle: got[0].ReceiptHandle, VisibilityTimeout: 0}); err != nil {
		return err
	}
	if _, err := receive(ctx, c, address, sqs.ReceiveMessageInput{}); err != nil {
		return err
	}
	_, err = receive(ctx, c, dead, sqs.ReceiveMessageInput{}, "poison")
	return err
}

func faults(ctx context.Context, c *sqs.Client, address, _ *string) error {
	_, err := c.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String("none")})
	var noQueue *types.QueueDoesNotExist
	if !errors.As(err, &noQueue) {
		return fmt.Errorf("a queue that is not there: %w", err)
	}
	_, err = c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: address, ReceiptHandle: aws.String("nonsense")})
	var handle *types.ReceiptHandleIsInvalid
	if !errors.As(err, &handle) {
		return fmt.Errorf("a handle that is none: %w", err)
	}
	return nil
}
