# ruby-redis: see ../README.md. Old clients know RESP2 only.

require "redis"

host, port, password, name, topic, protocol = ARGV
raise "no RESP#{protocol}" unless protocol == "2"

connect = lambda do |id|
  Redis.new(host: host, port: Integer(port), password: password, db: 2, id: id)
end

key = "topics:#{topic}"
client = connect.call(name)
puts "ping #{client.ping}"
produced = [
  client.rpushx(key, "one"),
  client.rpushx(key, "café"),
  client.rpushx("#{key}:cust-9", "three"),
]
puts "produced #{produced.join(" ")}"
puts "outstanding #{client.dump("30000")}"
positions = 2.times.map do
  names, values = client.blpop(key, timeout: 30).each_slice(2).to_a.transpose
  raise names.inspect unless names == %w[topic partition offset value]
  puts "message #{values.join(" ")}"
  values.first(3).join(":")
end
puts "acked #{positions.map { |position| client.rpush("acks", position) }.join(" ")}"
begin
  client.blpop("nonsense", timeout: 1)
rescue Redis::CommandError => error
  puts "error #{error.message}"
end
puts "ping #{client.ping}"
client.quit

client = connect.call("pair-#{name}")
3.times do
  puts "pair #{client.blpop(%(#{key}:{"barnabas.reply":"pair"}), timeout: 30).join(" ")}"
end
client.quit
