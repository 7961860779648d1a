# What programs do that were written for rafka's own Ruby client (section 10 of
# the contract), on ruby-redis, which that client is built on:
#
#     ruby rafka_habits.rb HOST PORT PASSWORD GROUP TOPIC ABSENT
#
# TOPIC is empty and has one partition, ABSENT is not there.

require "redis"
require "securerandom"

HOST, PORT, PASSWORD, GROUP, TOPIC, ABSENT = ARGV

class ProduceError < StandardError; end
class ConsumeError < StandardError; end
class CommandError < StandardError; end

# Errors are told apart by their first word, which is cut off.
def translated
  yield
rescue Redis::CommandError => error
  case error.message
  when /\APROD (.*)/ then raise ProduceError, $1
  when /\ACONS (.*)/ then raise ConsumeError, $1
  else raise CommandError, error.message
  end
end

Message = Struct.new(:topic, :partition, :offset, :value) do
  def self.read(reply)
    raise "malformed: #{reply}" unless reply.is_a?(Array) && reply.size == 8
    new(reply[1], Integer(reply[3]), Integer(reply[5]), reply[7])
  end

  def to_s
    "#{partition} #{offset} #{value.inspect}"
  end
end

class Producer
  attr_reader :redis

  def initialize
    @redis = Redis.new(host: HOST, port: Integer(PORT), password: PASSWORD, timeout: 60)
  end

  def produce(topic, value, key: nil)
    translated { @redis.rpushx(["topics", topic, key].compact.join(":"), value) }
  end

  def flush(milliseconds = 30_000)
    Integer(translated { @redis.dump(milliseconds.to_s) })
  end
end

class Consumer
  attr_reader :redis

  def initialize(topic, name: SecureRandom.hex)
    @topic = topic
    @redis = Redis.new(host: HOST, port: Integer(PORT), password: PASSWORD, id: "#{GROUP}:#{name}", timeout: 60)
  end

  def consume(seconds = 5)
    reply = translated { @redis.blpop("topics:#{@topic}", timeout: seconds) }
    return unless reply
    message = Message.read(reply)
    yield message if block_given?
    # Reached only if the block has not raised.
    ack(message) if block_given?
    message
  end

  # One pop per message until there are enough; then one ack per partition,
  # for its highest offset.
  def consume_batch(size, seconds)
    deadline = now + seconds
    messages = []
    while messages.size < size && now < deadline
      message = consume(1.0)
      messages << message if message
    end
    yield messages
    messages.group_by { |message| [message.topic, message.partition] }
            .each_value { |group| ack(group.max_by(&:offset)) }
  end

  def close
    @redis.quit
  end

  private

  def ack(message)
    position = [message.topic, message.partition, message.offset].join(":")
    translated { @redis.rpush("acks", position) }
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end

def show_refusal
  puts "no error but #{yield}"
rescue ProduceError, ConsumeError, CommandError => error
  puts "#{error.class}: #{error.message}"
end

producer = Producer.new
10.times { |number| producer.produce(TOPIC, "number #{number}", key: "k") }
puts "left #{producer.flush}"

# A block that raises acknowledges nothing.
consumer = Consumer.new(TOPIC, name: "w-1")
begin
  consumer.consume(30) { |message| raise IOError, message.to_s }
rescue IOError => error
  puts "raised #{error.message}"
end
show_refusal { Consumer.new(TOPIC, name: "w-1").consume(1) }
consumer.close

# The name is free again, at once, and so often.
20.times do
  again = Consumer.new(TOPIC, name: "w-1")
  again.redis.ping
  again.close
end

consumer = Consumer.new(TOPIC, name: "w-1")
consumer.consume(30) { |message| puts "again #{message}" }
consumer.consume_batch(4, 60) { |batch| puts "batch #{batch.map(&:to_s).join(", ")}" }
begin
  consumer.consume_batch(2, 60) { |batch| raise IOError, batch.join(", ") }
rescue IOError => error
  puts "raised #{error.message}"
end
consumer.close

# After QUIT the next one starts behind what was acknowledged last.
consumer = Consumer.new(TOPIC)
consumer.consume_batch(5, 60) { |batch| puts "batch #{batch.map(&:to_s).join(", ")}" }
puts "nothing #{consumer.consume(0.3).inspect}"
consumer.consume_batch(2, 1) { |batch| puts "empty batch #{batch}" }
producer.produce(TOPIC, "")
consumer.consume(30) { |message| puts "empty #{message}" }
consumer.close

# The first message to an unknown topic is taken and lost, the next refused.
before = Integer(producer.redis.hgetall("stats")["producer.delivery.errors"])
puts "accepted #{producer.produce(ABSENT, "x")}"
puts "left #{producer.flush}"
show_refusal { producer.produce(ABSENT, "y") }
stats = producer.redis.hgetall("stats").transform_values { |value| Integer(value) }
puts "lost #{stats["producer.delivery.errors"] - before}"
puts "first of #{stats.keys.first(3).join(", ")}"
puts "listed #{producer.redis.keys("topics:").include?("topics:#{TOPIC}")}"
show_refusal { translated { producer.redis.incr("x") } }
