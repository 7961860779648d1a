import io.lettuce.core.ClientOptions;
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
import java.util.List;

/** Lettuce: see ../../../../README.md. */
public class LettuceConversation {
  private static StatefulRedisConnection<String, String> connect(
      RedisClient client, String[] args, String name) {
    return client.connect(
        RedisURI.builder()
            .withHost(args[0])
            .withPort(Integer.parseInt(args[1]))
            .withPassword(args[2].toCharArray())
            .withDatabase(2)
            .withClientName(name)
            .withTimeout(Duration.ofSeconds(60))
            .build());
  }

  private static CommandArgs<String, String> arguments(String... values) {
    var arguments = new CommandArgs<>(StringCodec.UTF8);
    for (String value : values) {
      arguments.add(value);
    }
    return arguments;
  }

  public static void main(String[] args) {
    RedisClient client = RedisClient.create();
    client.setOptions(
        ClientOptions.builder()
            .protocolVersion("3".equals(args[5]) ? ProtocolVersion.RESP3 : ProtocolVersion.RESP2)
            .build());
    String name = args[3];
    String topic = args[4];
    String key = "topics:" + topic;
    try (var connection = connect(client, args, name)) {
      RedisCommands<String, String> redis = connection.sync();
      System.out.println("ping " + redis.ping());
      System.out.printf(
          "produced %d %d %d%n",
          redis.rpushx(key, "one"),
          redis.rpushx(key, "café"),
          redis.rpushx(key + ":cust-9", "three"));
      System.out.println(
          "outstanding "
              + redis.dispatch(
                  CommandType.DUMP, new IntegerOutput<>(StringCodec.UTF8), arguments("30000")));
      List<String> positions = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        List<Object> parts =
            redis.dispatch(
                CommandType.BLPOP, new ArrayOutput<>(StringCodec.UTF8), arguments(key, "30"));
        if (!List.of(parts.get(0), parts.get(2), parts.get(4), parts.get(6))
            .equals(List.of("topic", "partition", "offset", "value"))) {
          throw new IllegalStateException(parts.toString());
        }
        System.out.printf(
            "message %s %s %s %s%n", parts.get(1), parts.get(3), parts.get(5), parts.get(7));
        positions.add(parts.get(1) + ":" + parts.get(3) + ":" + parts.get(5));
      }
      System.out.print("acked");
      for (String position : positions) {
        System.out.print(" " + redis.rpush("acks", position));
      }
      System.out.println();
      try {
        redis.blpop(1, "nonsense");
      } catch (RedisCommandExecutionException error) {
        System.out.println("error " + error.getMessage());
      }
      System.out.println("ping " + redis.ping());
    }
    try (var connection = connect(client, args, "pair-" + name)) {
      for (int i = 0; i < 3; i++) {
        var pair = connection.sync().blpop(30, key + ":{\"barnabas.reply\":\"pair\"}");
        System.out.println("pair " + pair.getKey() + " " + pair.getValue());
      }
    }
    client.shutdown();
  }
}
