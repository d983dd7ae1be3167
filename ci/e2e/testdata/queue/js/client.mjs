// A client of a queue by one AWS SDK: node client.mjs sqs-json|sqs-query ENDPOINT.
// It fails with the first thing that is not as SQS does it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

const [sdk, endpoint] = process.argv.slice(2);
const sqs = await import(sdk);
const client = new sqs.SQSClient({ endpoint, region: 'us-east-1', credentials: { accessKeyId: 'any', secretAccessKey: 'any' }, maxAttempts: 1 });
const call = (action, input) => client.send(new sqs[`${action}Command`](input));
const name = `${sdk}-${process.pid}`;
const attributes = { VisibilityTimeout: '30', ReceiveMessageWaitTimeSeconds: '0' };

async function fails(codes, action, input) {
  await assert.rejects(call(action, input), (e) => {
    assert.ok([e.name, e.Code, e.Error?.Code].some((code) => codes.includes(code)), `${action}: ${e.name}: ${e.message}`);
    return true;
  });
}

async function receive(QueueUrl, more = {}) {
  const input = { QueueUrl, MaxNumberOfMessages: 10, AttributeNames: ['All'], MessageAttributeNames: ['All'], ...more };
  return (await call('ReceiveMessage', input)).Messages ?? [];
}

// Queues.
const { QueueUrl } = await call('CreateQueue', { QueueName: name, Attributes: attributes });
assert.ok(QueueUrl.startsWith(`${endpoint}/`), QueueUrl);
assert.equal((await call('CreateQueue', { QueueName: name, Attributes: attributes })).QueueUrl, QueueUrl);
await fails(['QueueNameExists', 'QueueAlreadyExists'], 'CreateQueue', { QueueName: name, Attributes: { VisibilityTimeout: '6' } });
assert.equal((await call('GetQueueUrl', { QueueName: name })).QueueUrl, QueueUrl);
const noQueue = ['QueueDoesNotExist', 'AWS.SimpleQueueService.NonExistentQueue'];
await fails(noQueue, 'GetQueueUrl', { QueueName: `${name}-none` });
await fails(noQueue, 'SendMessage', { QueueUrl: `${QueueUrl}-none`, MessageBody: 'x' });
assert.deepEqual((await call('ListQueues', { QueueNamePrefix: name })).QueueUrls, [QueueUrl]);
await call('TagQueue', { QueueUrl, Tags: { team: 'a & b' } });
assert.deepEqual((await call('ListQueueTags', { QueueUrl })).Tags, { team: 'a & b' });

// A message, with what is hard to carry. The SDK compares the digests itself.
const body = 'ü <&> "x" \'y\'\t1\n2\r3 🎣';
const bytes = Uint8Array.of(0, 1, 255);
const sent = await call('SendMessage', {
  QueueUrl, MessageBody: body,
  MessageAttributes: {
    text: { DataType: 'String', StringValue: 'ä' },
    number: { DataType: 'Number', StringValue: '7' },
    bytes: { DataType: 'Binary', BinaryValue: bytes },
  },
});
assert.equal(sent.MD5OfMessageBody, createHash('md5').update(body).digest('hex'));
const [first] = await receive(QueueUrl);
assert.equal(first.Body, body);
assert.equal(first.MessageId, sent.MessageId);
assert.equal(first.MD5OfMessageAttributes, sent.MD5OfMessageAttributes);
assert.equal(first.MessageAttributes.text.StringValue, 'ä');
assert.equal(first.MessageAttributes.number.StringValue, '7');
assert.deepEqual(Uint8Array.from(first.MessageAttributes.bytes.BinaryValue), bytes);
assert.equal(first.Attributes.ApproximateReceiveCount, '1');

// It is invisible, then visible again, then deleted.
assert.equal((await receive(QueueUrl)).length, 0);
await call('ChangeMessageVisibility', { QueueUrl, ReceiptHandle: first.ReceiptHandle, VisibilityTimeout: 0 });
const [second] = await receive(QueueUrl, { VisibilityTimeout: 1 });
assert.equal(second.Attributes.ApproximateReceiveCount, '2');
const [third] = await receive(QueueUrl, { WaitTimeSeconds: 20 });
assert.equal(third.Attributes.ApproximateReceiveCount, '3');
await call('DeleteMessage', { QueueUrl, ReceiptHandle: third.ReceiptHandle });
await fails(['ReceiptHandleIsInvalid'], 'DeleteMessage', { QueueUrl, ReceiptHandle: 'nonsense' });
const counts = (await call('GetQueueAttributes', { QueueUrl, AttributeNames: ['All'] })).Attributes;
assert.equal(counts.ApproximateNumberOfMessages + counts.ApproximateNumberOfMessagesNotVisible, '00');

// A receiver that waits is woken by a message that is sent meanwhile.
const waiting = receive(QueueUrl, { WaitTimeSeconds: 20 });
await call('SendMessage', { QueueUrl, MessageBody: 'wake', DelaySeconds: 1 });
const [woken] = await waiting;
assert.equal(woken.Body, 'wake');
await call('DeleteMessage', { QueueUrl, ReceiptHandle: woken.ReceiptHandle });
assert.equal((await receive(QueueUrl, { WaitTimeSeconds: 1 })).length, 0);

// Batches.
const batch = await call('SendMessageBatch', { QueueUrl, Entries: ['a', 'b', 'c'].map((Id) => ({ Id, MessageBody: `body ${Id}` })) });
assert.deepEqual(batch.Successful.map((s) => s.Id), ['a', 'b', 'c']);
assert.ok(batch.Successful.every((s) => s.MessageId && s.MD5OfMessageBody));
assert.equal(batch.Failed?.length ?? 0, 0);
const received = await receive(QueueUrl);
assert.deepEqual(received.map((m) => m.Body), ['body a', 'body b', 'body c']);
const entries = received.map((m, i) => ({ Id: `e${i}`, ReceiptHandle: m.ReceiptHandle }));
const changed = await call('ChangeMessageVisibilityBatch', { QueueUrl, Entries: entries.map((e) => ({ ...e, VisibilityTimeout: 60 })) });
assert.equal(changed.Successful.length, 3);
const deleted = await call('DeleteMessageBatch', { QueueUrl, Entries: [...entries, { Id: 'bad', ReceiptHandle: 'nonsense' }] });
assert.deepEqual([deleted.Successful.length, deleted.Failed.map((f) => [f.Id, f.Code])], [3, [['bad', 'ReceiptHandleIsInvalid']]]);
await fails(['EmptyBatchRequest', 'AWS.SimpleQueueService.EmptyBatchRequest'], 'SendMessageBatch', { QueueUrl, Entries: [] });

// Dead letters.
const dead = (await call('CreateQueue', { QueueName: `${name}-dead` })).QueueUrl;
const { QueueArn } = (await call('GetQueueAttributes', { QueueUrl: dead, AttributeNames: ['QueueArn'] })).Attributes;
const policy = { deadLetterTargetArn: QueueArn, maxReceiveCount: 1 };
await call('SetQueueAttributes', { QueueUrl, Attributes: { RedrivePolicy: JSON.stringify(policy) } });
assert.deepEqual((await call('ListDeadLetterSourceQueues', { QueueUrl: dead })).queueUrls, [QueueUrl]);
await call('SendMessage', { QueueUrl, MessageBody: 'poison' });
assert.equal((await receive(QueueUrl, { VisibilityTimeout: 0 })).length, 1);
assert.equal((await receive(QueueUrl)).length, 0);
assert.deepEqual((await receive(dead)).map((m) => m.Body), ['poison']);

// The end.
await call('SendMessage', { QueueUrl, MessageBody: 'rest' });
await call('PurgeQueue', { QueueUrl });
assert.equal((await receive(QueueUrl)).length, 0);
await call('DeleteQueue', { QueueUrl });
await call('DeleteQueue', { QueueUrl: dead });
await fails(noQueue, 'GetQueueUrl', { QueueName: name });
