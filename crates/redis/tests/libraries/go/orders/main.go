// A stream of orders, as in ../../python/streams.py, with go-redis:
//
//	orders HOST PORT PASSWORD GROUP KEY PROTOCOL
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	ctx   = context.Background()
	group string
	key   string
)

// must ends the program unless a call went well.
func must[T any](value T, err error) T {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
	return value
}

func connect() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:     net.JoinHostPort(os.Args[1], os.Args[2]),
		Password: os.Args[3],
		Protocol: must(strconv.Atoi(os.Args[6])),
		// What is sent again is there twice.
		ReadTimeout: time.Minute,
	})
}

func read(client *redis.Client, start string, count int, wait time.Duration) []redis.XMessage {
	streams, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group:    group,
		Consumer: "worker",
		Streams:  []string{key, start},
		Count:    int64(count),
		Block:    wait,
	}).Result()
	if err == redis.Nil {
		return nil
	}
	return must(streams, err)[0].Messages
}

// until repeats: joining a group takes its time.
func until(what string, ready func() bool) {
	deadline := time.Now().Add(30 * time.Second)
	for !ready() {
		if time.Now().After(deadline) {
			log.Fatal(what)
		}
	}
}

func values(found []redis.XMessage) string {
	var all []string
	for _, message := range found {
		all = append(all, message.Values["value"].(string))
	}
	return strings.Join(all, " ")
}

func acked(client *redis.Client, ids ...string) {
	fmt.Println("acked", must(client.XAck(ctx, key, group, ids...).Result()))
}

func word(yes bool) string {
	if yes {
		return "True"
	}
	return "False"
}

func produce(client *redis.Client) {
	for i := range 4 {
		must(client.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{
			"value", fmt.Sprint("order-", i), "key", fmt.Sprint("customer-", i),
		}}).Result())
	}
	four := func(from int) func(redis.Pipeliner) error {
		return func(pipeline redis.Pipeliner) error {
			for i := from; i < from+4; i++ {
				pipeline.XAdd(ctx, &redis.XAddArgs{
					Stream: key, MaxLen: 1000, Approx: true,
					Values: []string{"value", fmt.Sprint("order-", i), "shop", "north"},
				})
			}
			return nil
		}
	}
	must(client.Pipelined(ctx, four(4)))
	must(client.TxPipelined(ctx, four(8)))
}

func main() {
	log.SetFlags(log.Lshortfile)
	group, key = os.Args[4], os.Args[5]
	producer := connect()
	created := must(producer.XGroupCreateMkStream(ctx, key, group, "0").Result())
	fmt.Println("created", word(created == "OK"))
	fmt.Println("error", producer.XGroupCreate(ctx, key, group, "$").Err())

	// One by one, in a pipeline, and in a transaction.
	produce(producer)
	fmt.Println("length", must(producer.XLen(ctx, key).Result()), must(producer.Type(ctx, key).Result()))

	worker := connect()
	var got []redis.XMessage
	until("eight orders", func() bool {
		got = append(got, read(worker, ">", 8-len(got), time.Second)...)
		return len(got) == 8
	})
	fmt.Println("got", values(got))
	fmt.Println("fields", got[0].Values["key"], got[4].Values["shop"])
	// Out of order, one of them twice.
	acked(worker, got[6].ID, got[1].ID, got[4].ID)
	acked(worker, got[1].ID, got[0].ID)
	must(0, worker.Close())

	// After the crash: first what was begun, then the rest.
	worker = connect()
	begun := read(worker, "0", 100, time.Second)
	fmt.Println("pending", values(begun))
	fmt.Println("behind", values(read(worker, begun[1].ID, 100, time.Second)))
	var ids []string
	for _, message := range begun {
		ids = append(ids, message.ID)
	}
	acked(worker, ids...)
	var rest []redis.XMessage
	until("the other orders", func() bool {
		rest = append(rest, read(worker, ">", 100, time.Second)...)
		return len(rest) == 4
	})
	fmt.Println("got", values(rest))
	for _, message := range rest {
		acked(worker, message.ID)
	}
	fmt.Println("nothing", read(worker, ">", 10, 100*time.Millisecond))
	fmt.Println("pending", values(read(worker, "0", 100, time.Second)))

	// Kafka learns of acknowledgements a little later.
	var info redis.XInfoGroup
	until("nothing is left", func() bool {
		info = must(producer.XInfoGroups(ctx, key).Result())[0]
		return info.Lag == 0
	})
	fmt.Println("group", info.Consumers, info.Pending, info.Lag)
	fmt.Println("deleted", must(producer.XGroupDelConsumer(ctx, key, group, "worker").Result()))
	for range 2 {
		fmt.Println("destroyed", word(must(producer.XGroupDestroy(ctx, key, group).Result()) == 1))
	}
	must(0, producer.Close())
	must(0, worker.Close())
}
