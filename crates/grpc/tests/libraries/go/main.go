// What programs say that were generated from the two proto files, with gRPC's own library for
// Go: the old methods as a program for Kafka-Pixy calls them, then the new streams.
//
// Arguments: address, topic, group. Prints what it sees.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	v1 "barnabas/conversation/v1"
	pixy "barnabas/conversation/gen/golang"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func refused(err error) {
	said := status.Convert(err)
	fmt.Println("error", uint32(said.Code()), said.Message())
}

func main() {
	address, topic, group := os.Args[1], os.Args[2], os.Args[3]
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	methods(ctx, pixy.NewKafkaPixyClient(connection), topic, group)
	gateway := v1.NewGatewayClient(connection)
	produce(ctx, gateway, topic)
	consume(ctx, gateway, topic, group+"-stream")
	serving, err := health.NewHealthClient(connection).Check(ctx, &health.HealthCheckRequest{Service: "KafkaPixy"})
	check(err)
	fmt.Println("health", serving.Status)
}

// methods calls all eight old methods.
func methods(ctx context.Context, client pixy.KafkaPixyClient, topic, group string) {
	for _, value := range []string{"one", "two"} {
		sent, err := client.Produce(ctx, &pixy.ProdRq{
			Topic: topic, KeyValue: []byte("k"), Message: []byte(value),
			Headers: []*pixy.RecordHeader{{Key: "Größe", Value: []byte{0, 255}}},
		})
		check(err)
		fmt.Println("sync", sent.Partition, sent.Offset)
	}
	sent, err := client.Produce(ctx, &pixy.ProdRq{Topic: topic, KeyUndefined: true, Message: []byte("three"), AsyncMode: true})
	check(err)
	fmt.Println("async", sent.Partition, sent.Offset)

	first := next(ctx, client, &pixy.ConsNAckRq{Topic: topic, Group: group, NoAck: true})
	second := next(ctx, client, &pixy.ConsNAckRq{
		Topic: topic, Group: group, AckPartition: first.Partition, AckOffset: first.Offset,
	})
	_, err = client.Ack(ctx, &pixy.AckRq{Topic: topic, Group: group, Partition: second.Partition, Offset: second.Offset})
	check(err)
	next(ctx, client, &pixy.ConsNAckRq{Topic: topic, Group: group, AutoAck: true})
	_, err = client.ConsumeNAck(ctx, &pixy.ConsNAckRq{Topic: topic, Group: group, AutoAck: true})
	refused(err)
	_, err = client.Produce(ctx, &pixy.ProdRq{Cluster: "nowhere", Topic: topic})
	refused(err)

	consumers, err := client.ListConsumers(ctx, &pixy.ListConsumersRq{Topic: topic, Group: group})
	check(err)
	for name, members := range consumers.Groups {
		fmt.Println("group", name == group, len(members.Consumers))
	}
	_, err = client.SetOffsets(ctx, &pixy.SetOffsetsRq{
		Topic: topic, Group: group + "-new", Offsets: []*pixy.PartitionOffset{{Partition: 0, Offset: 2, Metadata: "note"}},
	})
	check(err)
	offsets, err := client.GetOffsets(ctx, &pixy.GetOffsetsRq{Topic: topic, Group: group + "-new"})
	check(err)
	for _, offset := range offsets.Offsets {
		fmt.Println("offset", offset.Partition, offset.Begin, offset.End, offset.Count, offset.Offset, offset.Lag, offset.Metadata)
	}
	topics, err := client.ListTopics(ctx, &pixy.ListTopicRq{WithPartitions: true})
	check(err)
	fmt.Println("topic", len(topics.Topics[topic].Partitions))
	metadata, err := client.GetTopicMetadata(ctx, &pixy.GetTopicMetadataRq{Topic: topic, WithPartitions: true})
	check(err)
	fmt.Println("metadata", metadata.Version, len(metadata.Partitions))
}

// next is the next message, however long joining takes.
func next(ctx context.Context, client pixy.KafkaPixyClient, request *pixy.ConsNAckRq) *pixy.ConsRs {
	for {
		message, err := client.ConsumeNAck(ctx, request)
		if status.Code(err) == codes.NotFound {
			continue
		}
		check(err)
		fmt.Println("message", message.Partition, message.Offset, string(message.KeyValue), message.KeyUndefined, string(message.Message), message.Headers)
		return message
	}
}

// produce streams five records, one of which is refused.
func produce(ctx context.Context, client v1.GatewayClient, topic string) {
	stream, err := client.Produce(ctx)
	check(err)
	partition, missing := int32(0), int32(9)
	records := []*v1.Record{{Number: 0, Topic: topic, Partition: &missing, Value: []byte("nowhere")}}
	for number := uint64(1); number < 5; number++ {
		records = append(records, &v1.Record{
			Number: number, Topic: topic, Partition: &partition, Key: []byte{}, Value: []byte(fmt.Sprint("streamed ", number)),
			Headers: []*v1.Header{{Name: "n", Value: []byte{byte(number)}}},
		})
	}
	records = append(records, &v1.Record{Number: 5, Topic: topic, Partition: &partition, Key: []byte("gone")})
	check(stream.Send(&v1.ProduceRequest{Records: records}))
	check(stream.CloseSend())
	results := make([]*v1.ProduceResult, len(records))
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		check(err)
		for _, result := range frame.Results {
			results[result.Number] = result
		}
	}
	for _, result := range results {
		if result.Error != nil {
			fmt.Println("result", result.Number, result.Error.Code)
		} else {
			fmt.Println("result", result.Number, result.Partition, result.Offset, result.Timestamp != nil)
		}
	}
}

// consume reads the whole topic with a window of three, and acknowledges it.
func consume(ctx context.Context, client v1.GatewayClient, topic, group string) {
	stream, err := client.Consume(ctx)
	check(err)
	check(stream.Send(&v1.ConsumeRequest{Frame: &v1.ConsumeRequest_Start{Start: &v1.ConsumeStart{
		Topic: topic, Group: group, AckMode: v1.AckMode_ACK_MODE_EXPLICIT, Window: 3,
	}}}))
	acknowledge := func(positions ...*v1.Position) {
		check(stream.Send(&v1.ConsumeRequest{Frame: &v1.ConsumeRequest_Acks{Acks: &v1.ConsumeAcks{Positions: positions}}}))
	}
	for count := 0; count < 8; {
		frame, err := stream.Recv()
		check(err)
		var positions []*v1.Position
		for _, message := range frame.Messages {
			fmt.Printf("streamed %d %d %q %q %v\n", message.Partition, message.Offset, message.Key, message.Value, message.Value == nil)
			positions = append(positions, &v1.Position{Partition: message.Partition, Offset: message.Offset})
			count++
		}
		acknowledge(positions...)
	}
	acknowledge(&v1.Position{Partition: 0, Offset: 1000})
	for waiting := true; waiting; {
		frame, err := stream.Recv()
		check(err)
		for _, refused := range frame.Refused {
			fmt.Println("refused", refused.Position.Offset, refused.Error.Code, refused.Error.Text)
			waiting = false
		}
	}
	check(stream.CloseSend())
	_, err = stream.Recv()
	fmt.Println("end", errors.Is(err, io.EOF))
}
