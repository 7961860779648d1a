import io.lettuce.core.ClientOptions;
import io.lettuce.core.KeyValue;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisURI;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.api.sync.RedisCommands;
import io.lettuce.core.codec.StringCodec;
import io.lettuce.core.output.ArrayOutput;
import io.lettuce.core.output.IntegerOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolVersion;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;

/** Lettuce: see ../../../../README.md. */
public class LettuceConversation {
  private static StatefulRedisConnection<String, String> connect(
      RedisClient client, String[] args) {
    var connection =
        client.connect(
            RedisURI.builder()
                .withHost(args[0])
                .withPort(Integer.parseInt(args[1]))
                .withPassword(args[2].toCharArray())
                .withDatabase(2)
                .withClientName(args[3])
                .withTimeout(Duration.ofSeconds(60))
                .build());
    Map<String, String> about =
        Arrays.stream(connection.sync().clientInfo().trim().split(" "))
            .map(field -> field.split("=", 2))
            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
    System.out.println(
        "connected " + about.get("name") + " " + about.get("db") + " " + about.get("resp"));
    return connection;
  }

  private static CommandArgs<String, String> arguments(String... values) {
    var arguments = new CommandArgs<>(StringCodec.UTF8);
    for (String value : values) {
      arguments.add(value);
    }
    return arguments;
  }

  private static List<Object> pop(RedisCommands<String, String> redis, String... values) {
    return redis.dispatch(
        CommandType.BLPOP, new ArrayOutput<>(StringCodec.UTF8), arguments(values));
  }

  private static void showRefusal(Runnable call) {
    try {
      call.run();
      System.out.println("no error");
    } catch (RedisCommandExecutionException error) {
      System.out.println("error " + error.getMessage());
    }
  }

  private static void showNothing(boolean holds) {
    System.out.println(holds ? "nothing" : "something");
  }

  private static void showPair(KeyValue<String, String> pair) {
    System.out.println("pair " + pair.getKey() + " " + pair.getValue());
  }

  private static void consumeAndAck(RedisCommands<String, String> redis, String key) {
    List<String> positions = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      List<Object> parts = pop(redis, key, "30");
      var names = List.of(parts.get(0), parts.get(2), parts.get(4), parts.get(6));
      if (!names.equals(List.of("topic", "partition", "offset", "value"))) {
        throw new IllegalStateException(names.toString());
      }
      long partition = (Long) parts.get(3);
      long offset = (Long) parts.get(5);
      System.out.printf(
          "message %s %d %d %s%n", parts.get(1), partition, offset, parts.get(7));
      positions.add(parts.get(1) + ":" + partition + ":" + offset);
    }
    System.out.print("acked");
    for (String position : positions.subList(0, 3)) {
      System.out.print(" " + redis.rpush("acks", position));
    }
    System.out.println();
  }

  public static void main(String[] args) {
    RedisClient client = RedisClient.create();
    client.setOptions(
        ClientOptions.builder()
            .protocolVersion("3".equals(args[5]) ? ProtocolVersion.RESP3 : ProtocolVersion.RESP2)
            .build());
    String key = "topics:" + args[4];
    try (var connection = connect(client, args)) {
      RedisCommands<String, String> redis = connection.sync();
      long id = redis.clientId();
      System.out.println("ping " + redis.ping());
      System.out.printf(
          "produced %d %d %d%n",
          redis.rpushx(key, "one"),
          redis.rpushx(key + ":cust-9", "café"),
          redis.rpushx(key, "three", "four"));
      System.out.println(
          "outstanding "
              + redis.dispatch(
                  CommandType.DUMP, new IntegerOutput<>(StringCodec.UTF8), arguments("30000")));
      System.out.println("accepted " + redis.hgetall("stats:connection").get("accepted"));
      consumeAndAck(redis, key);
      List<Object> nothing = pop(redis, key, "0.1");
      // What the library's output for arrays makes of a null: an empty array in RESP2, a null in
      // an array in RESP3; the same on Redis.
      showNothing(nothing.stream().allMatch(Objects::isNull));
      showRefusal(() -> redis.blpop(1, "nonsense"));
      showRefusal(() -> redis.rpushx("topics:no/topic", "x"));
      System.out.println("ping " + redis.ping());
      if (redis.clientId() == id) {
        System.out.println("same connection");
      }
    }
    try (var connection = connect(client, args)) {
      RedisCommands<String, String> redis = connection.sync();
      String pairs = key + ":{\"barnabas.reply\":\"pair\"}";
      showPair(redis.blpop(30, pairs));
      System.out.println("produced " + redis.rpushx(key, "five"));
      showPair(redis.blpop(30, pairs));
      showNothing(redis.blpop(1, pairs) == null);
      System.out.println("produced " + redis.rpushx(key, "six"));
      showPair(redis.blpop(30, pairs));
      System.out.println("acked " + redis.rpush("acks", "last"));
    }
    client.shutdown(Duration.ZERO, Duration.ofSeconds(2));
  }
}
