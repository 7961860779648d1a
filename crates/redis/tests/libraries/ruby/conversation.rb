# ruby-redis: see ../README.md. Old clients know RESP2 only.

require "redis"

HOST, PORT, PASSWORD, NAME, TOPIC, PROTOCOL = ARGV
raise "no RESP#{PROTOCOL}" unless PROTOCOL == "2"

KEY = "topics:#{TOPIC}"

def connect
  client = Redis.new(host: HOST, port: Integer(PORT), password: PASSWORD, db: 2, id: NAME, timeout: 60)
  about = client.call([:client, "info"]).split.to_h { |field| field.split("=", 2) }
  puts "connected #{about.values_at("name", "db", "resp").join(" ")}"
  client
end

def show_refusal
  puts "no error but #{yield}"
rescue Redis::CommandError => error
  puts "error #{error.message}"
end

def show_nothing(reply)
  raise reply.inspect unless reply.nil?
  puts "nothing"
end

def consume_and_ack(client)
  positions = 4.times.map do
    # The library's blocking pop hands an array of any length over, which is
    # what rafka's own client is built on.
    names, values = client.blpop(KEY, timeout: 30).each_slice(2).to_a.transpose
    raise names.inspect unless names == %w[topic partition offset value]
    raise values.inspect unless values[1, 2].all?(Integer)
    puts "message #{values.join(" ")}"
    values.first(3).join(":")
  end
  puts "acked #{positions.first(3).map { |position| client.rpush("acks", position) }.join(" ")}"
end

client = connect
connection = client.call([:client, "id"])
puts "ping #{client.ping}"
produced = [
  client.rpushx(KEY, "one"),
  client.rpushx("#{KEY}:cust-9", "café"),
  client.rpushx(KEY, ["three", "four"]),
]
puts "produced #{produced.join(" ")}"
puts "outstanding #{client.dump("30000")}"
puts "accepted #{client.hgetall("stats:connection")["accepted"]}"
consume_and_ack(client)
show_nothing(client.blpop(KEY, timeout: 0.1))
show_refusal { client.blpop("nonsense", timeout: 1) }
show_refusal { client.rpushx("topics:no/topic", "x") }
puts "ping #{client.ping}"
puts "same connection" if client.call([:client, "id"]) == connection
client.quit

client = connect
pairs = %(#{KEY}:{"barnabas.reply":"pair"})
show_pair = -> { puts "pair #{client.blpop(pairs, timeout: 30).join(" ")}" }
show_pair.call
puts "produced #{client.rpushx(KEY, "five")}"
show_pair.call
show_nothing(client.blpop(pairs, timeout: 0.1))
puts "produced #{client.rpushx(KEY, "six")}"
show_pair.call
puts "acked #{client.rpush("acks", "last")}"
client.close
