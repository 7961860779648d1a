import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.util.SafeEncoder;

/** Jedis: see ../../../../README.md. */
public class JedisConversation {
  private static Jedis connect(String[] args) {
    var config =
        DefaultJedisClientConfig.builder()
            .password(args[2])
            .database(2)
            .clientName(args[3])
            // DUMP may take its time.
            .timeoutMillis(60_000)
            .protocol("3".equals(args[5]) ? RedisProtocol.RESP3 : RedisProtocol.RESP2)
            .build();
    var client = new Jedis(new HostAndPort(args[0], Integer.parseInt(args[1])), config);
    Map<String, String> about =
        Arrays.stream(client.clientInfo().trim().split(" "))
            .map(field -> field.split("=", 2))
            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1]));
    System.out.println(
        "connected " + about.get("name") + " " + about.get("db") + " " + about.get("resp"));
    return client;
  }

  private static String text(Object part) {
    return SafeEncoder.encode((byte[]) part);
  }

  private static void showRefusal(Runnable call) {
    try {
      call.run();
      System.out.println("no error");
    } catch (JedisDataException error) {
      System.out.println("error " + error.getMessage());
    }
  }

  private static void showNothing(Object reply) {
    if (reply != null) {
      throw new IllegalStateException(reply.toString());
    }
    System.out.println("nothing");
  }

  private static void showPair(List<String> pair) {
    System.out.println("pair " + String.join(" ", pair));
  }

  private static void consumeAndAck(Jedis client, String key) {
    List<String> positions = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      var parts = (List<?>) client.sendBlockingCommand(Protocol.Command.BLPOP, key, "30");
      var names = List.of(0, 2, 4, 6).stream().map(at -> text(parts.get(at))).toList();
      if (!names.equals(List.of("topic", "partition", "offset", "value"))) {
        throw new IllegalStateException(names.toString());
      }
      String topic = text(parts.get(1));
      long partition = (Long) parts.get(3);
      long offset = (Long) parts.get(5);
      System.out.printf("message %s %d %d %s%n", topic, partition, offset, text(parts.get(7)));
      positions.add(topic + ":" + partition + ":" + offset);
    }
    System.out.print("acked");
    for (String position : positions.subList(0, 3)) {
      System.out.print(" " + client.rpush("acks", position));
    }
    System.out.println();
  }

  public static void main(String[] args) {
    String key = "topics:" + args[4];
    try (Jedis client = connect(args)) {
      long connection = client.clientId();
      System.out.println("ping " + client.ping());
      System.out.printf(
          "produced %d %d %d%n",
          client.rpushx(key, "one"),
          client.rpushx(key + ":cust-9", "café"),
          client.rpushx(key, "three", "four"));
      System.out.println("outstanding " + client.sendCommand(Protocol.Command.DUMP, "30000"));
      System.out.println("accepted " + client.hgetAll("stats:connection").get("accepted"));
      consumeAndAck(client, key);
      showNothing(client.sendBlockingCommand(Protocol.Command.BLPOP, key, "0.1"));
      showRefusal(() -> client.blpop(1, "nonsense"));
      showRefusal(() -> client.rpushx("topics:no/topic", "x"));
      System.out.println("ping " + client.ping());
      if (client.clientId() == connection) {
        System.out.println("same connection");
      }
    }
    try (Jedis client = connect(args)) {
      String pairs = key + ":{\"barnabas.reply\":\"pair\"}";
      showPair(client.blpop(30, pairs));
      System.out.println("produced " + client.rpushx(key, "five"));
      showPair(client.blpop(30, pairs));
      showNothing(client.blpop(1, pairs));
      System.out.println("produced " + client.rpushx(key, "six"));
      showPair(client.blpop(30, pairs));
      System.out.println("acked " + client.rpush("acks", "last"));
    }
  }
}
