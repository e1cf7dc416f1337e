import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The benchmark's topologies in Kafka Streams.  Settings are arguments NAME=VALUE: case, brokers, topic, out, events,
 * threads, commit, dir, rows, runs; whatever has a dot in its name is a setting of Kafka Streams.  Each run is an
 * application of its own, until it has seen all events; after each a line of standard input is waited for.
 */
public final class KStreamsPeer
{
	private static final JsonFactory JSON = new JsonFactory();
	/** Records that have come into the topology, which is later than out of the consumer. */
	private static final LongAdder taken = new LongAdder();
	private static Map<String, String> option = new HashMap<>();
	private static PrintWriter rows;

	/** What is kept of a group of the windows. */
	private static final class Total
	{
		long count;
		long sum;
		long max = Long.MIN_VALUE;
	}

	private static final Serde<Total> TOTAL = Serdes.serdeFrom(
		(topic, total) -> total == null ? null : ByteBuffer.allocate(24).putLong(total.count).putLong(total.sum).putLong(total.max).array(),
		(topic, bytes) -> {
			if (bytes == null)
				return null;

			ByteBuffer buffer = ByteBuffer.wrap(bytes);
			Total total = new Total();

			total.count = buffer.getLong();
			total.sum = buffer.getLong();
			total.max = buffer.getLong();
			return total;
		});

	public static void main(String[] args) throws Exception
	{
		for (String arg : args)
			option.put(arg.substring(0, arg.indexOf('=')), arg.substring(arg.indexOf('=') + 1));

		BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
		int runs = Integer.parseInt(option.get("runs"));

		for (int i = 1; i <= runs; i++)
		{
			run(i);
			if (input.readLine() == null)
				break;
		}
		System.exit(0);
	}

	private static void run(int number) throws Exception
	{
		StreamsBuilder builder = new StreamsBuilder();
		long events = Long.parseLong(option.get("events"));

		taken.reset();
		Meter.begin(number);
		rows = option.containsKey("rows") && number == 1 ? new PrintWriter(Files.newBufferedWriter(Path.of(option.get("rows")))) : null;
		build(builder, option.get("out") + "_" + number);

		Properties properties = new Properties();

		properties.put(StreamsConfig.APPLICATION_ID_CONFIG, option.get("out") + "_" + number);
		properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, option.get("brokers"));
		properties.put(StreamsConfig.STATE_DIR_CONFIG, option.get("dir"));
		properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
		properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, option.get("threads"));
		properties.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, option.get("commit"));
		properties.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
		properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
		properties.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.INTERCEPTOR_CLASSES_CONFIG), Meter.class.getName());
		properties.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), "262144");
		for (Map.Entry<String, String> entry : option.entrySet())
			if (entry.getKey().indexOf('.') >= 0)
				properties.put(entry.getKey(), entry.getValue());

		KafkaStreams streams = new KafkaStreams(builder.build(properties), properties);

		streams.setUncaughtExceptionHandler(error -> {
			error.printStackTrace();
			System.exit(1);
			return null;
		});
		streams.start();
		while (streams.state() != KafkaStreams.State.RUNNING)
			Thread.sleep(1);
		Meter.say("running " + number);
		// 0: for ever
		while (events == 0 || taken.sum() < events)
			Thread.sleep(1);
		// commits
		streams.close();
		if (rows != null)
			rows.close();
		Meter.end();
		streams.cleanUp();
	}

	private static void build(StreamsBuilder builder, String out)
	{
		KStream<byte[], byte[]> source = builder
			.stream(option.get("topic"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
			.peek((key, value) -> taken.increment());

		switch (option.get("case"))
		{
			case "filter":
				source.mapValues(value -> transaction(value, Double.parseDouble(option.get("above")), '\t'))
					.filter((key, value) -> value != null)
					.foreach((key, value) -> row(new String(value, StandardCharsets.UTF_8)));
				break;
			case "topic":
				source.mapValues(value -> transaction(value, Double.parseDouble(option.get("above")), '\0'))
					.filter((key, value) -> value != null)
					.to(out, Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
				break;
			case "tumble":
				windows(source)
					.filter((key, total) -> total.max > 800000)
					.foreach((key, total) -> row(new String(key.key(), StandardCharsets.UTF_8) + '\t' + Instant.ofEpochMilli(key.window().start()) + '\t'
						+ Instant.ofEpochMilli(key.window().end()) + '\t' + total.count + '\t' + total.sum + '\t' + total.max));
				break;
			default:
				throw new IllegalArgumentException(option.get("case"));
		}
	}

	/** Keyed by the key of the message: no repartitioning.  Each window once, when it is over. */
	private static KStream<Windowed<byte[]>, Total> windows(KStream<byte[], byte[]> source)
	{
		return source.mapValues(KStreamsPeer::price)
			.groupByKey(Grouped.with(Serdes.ByteArray(), Serdes.Long()))
			.windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofSeconds(10), Duration.ofSeconds(2)))
			.emitStrategy(EmitStrategy.onWindowClose())
			.aggregate(Total::new, (key, price, total) -> {
				total.count++;
				total.sum += price;
				total.max = Math.max(total.max, price);
				return total;
			}, Materialized.<byte[], Total, WindowStore<Bytes, byte[]>>as("windows").withKeySerde(Serdes.ByteArray()).withValueSerde(TOTAL).withCachingEnabled()
				.withStoreType(BuiltInDslStoreSuppliers.IN_MEMORY)
				.withRetention(Duration.ofMinutes(1)))
			.toStream();
	}

	private static synchronized void row(String text)
	{
		Meter.rows.increment();
		if (rows != null)
			rows.println(text);
	}

	private static Long price(byte[] value)
	{
		try (JsonParser parser = JSON.createParser(value))
		{
			parser.nextToken();
			while (parser.nextToken() == JsonToken.FIELD_NAME)
			{
				boolean wanted = parser.currentName().equals("price");

				parser.nextToken();
				if (wanted)
					return parser.getLongValue();
			}
			throw new IllegalArgumentException("no price");
		}
		catch (IOException error)
		{
			throw new IllegalArgumentException(error);
		}
	}

	/** tx_id, card, amount, at of a transaction as one line, or as JSON if there is no separator; null if it is not above. */
	private static byte[] transaction(byte[] value, double above, char separator)
	{
		String id = null;
		String card = null;
		String amount = null;
		String at = null;

		try (JsonParser parser = JSON.createParser(value))
		{
			parser.nextToken();
			while (parser.nextToken() == JsonToken.FIELD_NAME)
			{
				String name = parser.currentName();

				parser.nextToken();
				switch (name)
				{
					case "tx_id":
						id = parser.getText();
						break;
					case "card":
						card = parser.getText();
						break;
					case "amount":
						if (parser.getDoubleValue() <= above)
							return null;
						amount = parser.getText();
						break;
					case "at":
						at = parser.getText();
						break;
					default:
						break;
				}
			}
		}
		catch (IOException error)
		{
			throw new IllegalArgumentException(error);
		}

		String text = separator != '\0' ? id + separator + card + separator + amount + separator + at
			: "{\"tx_id\":\"" + id + "\",\"card\":\"" + card + "\",\"amount\":" + amount + ",\"at\":\"" + at + "\"}";

		return text.getBytes(StandardCharsets.UTF_8);
	}
}
