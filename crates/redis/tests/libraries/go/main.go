// go-redis: see ../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

// must ends the program unless a call went well.
func must[T any](value T, err error) T {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
	return value
}

func connect() *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr:       net.JoinHostPort(os.Args[1], os.Args[2]),
		Password:   os.Args[3],
		ClientName: os.Args[4],
		DB:         2,
		Protocol:   must(strconv.Atoi(os.Args[6])),
		// A name belongs to one connection.
		PoolSize: 1,
		// The library knows of its own BLPop that it waits, not of Do.
		ReadTimeout: 60 * time.Second,
	})
	about := map[string]string{}
	for _, field := range strings.Fields(must(client.Do(ctx, "CLIENT", "INFO").Text())) {
		name, value, _ := strings.Cut(field, "=")
		about[name] = value
	}
	fmt.Println("connected", about["name"], about["db"], about["resp"])
	return client
}

func showRefusal(err error) {
	var refusal redis.Error
	if !errors.As(err, &refusal) {
		log.Fatal("no refusal but ", err)
	}
	fmt.Println("error", refusal)
}

func showPair(client *redis.Client, key string) {
	pair := must(client.BLPop(ctx, 30*time.Second, key).Result())
	fmt.Println("pair", pair[0], pair[1])
}

func showNothing(err error) {
	if err != redis.Nil {
		log.Fatal("not nothing but ", err)
	}
	fmt.Println("nothing")
}

func consumeAndAck(client *redis.Client, key string) {
	var positions []string
	for range 4 {
		message := must(client.Do(ctx, "BLPOP", key, 30).Slice())
		if len(message) != 8 || message[0] != "topic" || message[2] != "partition" ||
			message[4] != "offset" || message[6] != "value" {
			log.Fatal(message)
		}
		partition, offset := message[3].(int64), message[5].(int64)
		fmt.Println("message", message[1], partition, offset, message[7])
		positions = append(positions, fmt.Sprintf("%v:%d:%d", message[1], partition, offset))
	}
	fmt.Print("acked")
	for _, position := range positions[:3] {
		fmt.Print(" ", must(client.RPush(ctx, "acks", position).Result()))
	}
	fmt.Println()
}

func main() {
	log.SetFlags(log.Lshortfile)
	topic := os.Args[5]
	key := "topics:" + topic

	client := connect()
	connection := must(client.ClientID(ctx).Result())
	fmt.Println("ping", must(client.Ping(ctx).Result()))
	fmt.Println("produced",
		must(client.RPushX(ctx, key, "one").Result()),
		must(client.RPushX(ctx, key+":cust-9", "café").Result()),
		must(client.RPushX(ctx, key, "three", "four").Result()))
	fmt.Println("outstanding", must(client.Do(ctx, "DUMP", 30000).Int64()))
	stats := must(client.HGetAll(ctx, "stats:connection").Result())
	fmt.Println("accepted", stats["accepted"])
	consumeAndAck(client, key)
	showNothing(client.Do(ctx, "BLPOP", key, "0.1").Err())
	showRefusal(client.BLPop(ctx, time.Second, "nonsense").Err())
	showRefusal(client.RPushX(ctx, "topics:no/topic", "x").Err())
	fmt.Println("ping", must(client.Ping(ctx).Result()))
	if must(client.ClientID(ctx).Result()) == connection {
		fmt.Println("same connection")
	}
	// The library's own Quit is a stub that panics.
	must(client.Do(ctx, "QUIT").Result())
	must(0, client.Close())

	client = connect()
	pairs := key + `:{"barnabas.reply":"pair"}`
	showPair(client, pairs)
	fmt.Println("produced", must(client.RPushX(ctx, key, "five").Result()))
	showPair(client, pairs)
	// The library rounds shorter times up to this.
	showNothing(client.BLPop(ctx, time.Second, pairs).Err())
	fmt.Println("produced", must(client.RPushX(ctx, key, "six").Result()))
	showPair(client, pairs)
	fmt.Println("acked", must(client.RPush(ctx, "acks", "last").Result()))
	must(0, client.Close())
}
