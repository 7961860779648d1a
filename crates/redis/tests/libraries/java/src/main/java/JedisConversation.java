import java.util.ArrayList;
import java.util.List;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.util.SafeEncoder;

/** Jedis: see ../../../../README.md. */
public class JedisConversation {
  private static Jedis connect(String[] args, String name) {
    var config =
        DefaultJedisClientConfig.builder()
            .password(args[2])
            .database(2)
            .clientName(name)
            .protocol("3".equals(args[5]) ? RedisProtocol.RESP3 : RedisProtocol.RESP2)
            .socketTimeoutMillis(60_000)
            .build();
    return new Jedis(new HostAndPort(args[0], Integer.parseInt(args[1])), config);
  }

  private static String text(Object part) {
    return part instanceof byte[] bytes ? SafeEncoder.encode(bytes) : String.valueOf(part);
  }

  public static void main(String[] args) {
    String name = args[3];
    String topic = args[4];
    String key = "topics:" + topic;
    try (Jedis client = connect(args, name)) {
      System.out.println("ping " + client.ping());
      System.out.printf(
          "produced %d %d %d%n",
          client.rpushx(key, "one"),
          client.rpushx(key, "café"),
          client.rpushx(key + ":cust-9", "three"));
      System.out.println("outstanding " + client.sendCommand(Protocol.Command.DUMP, "30000"));
      List<String> positions = new ArrayList<>();
      for (int i = 0; i < 2; i++) {
        var message = (List<?>) client.sendCommand(Protocol.Command.BLPOP, key, "30");
        List<String> parts = message.stream().map(JedisConversation::text).toList();
        if (!List.of(parts.get(0), parts.get(2), parts.get(4), parts.get(6))
            .equals(List.of("topic", "partition", "offset", "value"))) {
          throw new IllegalStateException(parts.toString());
        }
        System.out.printf(
            "message %s %s %s %s%n", parts.get(1), parts.get(3), parts.get(5), parts.get(7));
        positions.add(String.join(":", parts.get(1), parts.get(3), parts.get(5)));
      }
      System.out.print("acked");
      for (String position : positions) {
        System.out.print(" " + client.rpush("acks", position));
      }
      System.out.println();
      try {
        client.blpop(1, "nonsense");
      } catch (JedisDataException error) {
        System.out.println("error " + error.getMessage());
      }
      System.out.println("ping " + client.ping());
    }
    try (Jedis client = connect(args, "pair-" + name)) {
      for (int i = 0; i < 3; i++) {
        List<String> pair = client.blpop(30, key + ":{\"barnabas.reply\":\"pair\"}");
        System.out.println("pair " + String.join(" ", pair));
      }
    }
  }
}
