// go-redis: see ../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

func connect(name string) *redis.Client {
	protocol, err := strconv.Atoi(os.Args[6])
	must(err)
	return redis.NewClient(&redis.Options{
		Addr:       os.Args[1] + ":" + os.Args[2],
		Password:   os.Args[3],
		DB:         2,
		ClientName: name,
		Protocol:   protocol,
		// A name belongs to one connection.
		PoolSize: 1,
	})
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(value int64, err error) int64 {
	must(err)
	return value
}

func main() {
	log.SetFlags(log.Lshortfile)
	ctx := context.Background()
	name, topic := os.Args[4], os.Args[5]
	key := "topics:" + topic

	client := connect(name)
	ping := func() {
		pong, err := client.Ping(ctx).Result()
		must(err)
		fmt.Println("ping", pong)
	}
	ping()
	fmt.Println("produced",
		number(client.RPushX(ctx, key, "one").Result()),
		number(client.RPushX(ctx, key, "café").Result()),
		number(client.RPushX(ctx, key+":cust-9", "three").Result()))
	outstanding, err := client.Do(ctx, "DUMP", 30000).Int64()
	fmt.Println("outstanding", number(outstanding, err))
	var positions []string
	for range 2 {
		message, err := client.Do(ctx, "BLPOP", key, 30).Slice()
		must(err)
		if len(message) != 8 || message[0] != "topic" || message[2] != "partition" ||
			message[4] != "offset" || message[6] != "value" {
			log.Fatal(message)
		}
		fmt.Println("message", message[1], message[3], message[5], message[7])
		positions = append(positions, fmt.Sprintf("%v:%v:%v", message[1], message[3], message[5]))
	}
	fmt.Print("acked")
	for _, position := range positions {
		fmt.Print(" ", number(client.RPush(ctx, "acks", position).Result()))
	}
	fmt.Println()
	var refused redis.Error
	if _, err := client.BLPop(ctx, time.Second, "nonsense").Result(); errors.As(err, &refused) {
		fmt.Println("error", refused)
	}
	ping()
	must(client.Close())

	client = connect("pair-" + name)
	for range 3 {
		pair, err := client.BLPop(ctx, 30*time.Second, key+`:{"barnabas.reply":"pair"}`).Result()
		must(err)
		fmt.Println("pair", pair[0], pair[1])
	}
	must(client.Close())
}
