import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * The marks that the driver measures between, as lines of standard output: when the first records of a run have come out
 * of a consumer, each million, and when the run is over.  As an interceptor of the consumer it is called once for each poll, so it costs
 * nothing that could be seen.
 */
public final class Meter implements ConsumerInterceptor<Object, Object>
{
	/** What consumers have got. */
	static final AtomicLong events = new AtomicLong();
	/** What sinks have got. */
	static final LongAdder rows = new LongAdder();
	private static volatile int run;

	static void begin(int number)
	{
		events.set(0);
		rows.reset();
		run = number;
	}

	static void say(String text)
	{
		System.out.println("peer: " + text);
		System.out.flush();
	}

	static void end()
	{
		say("end " + run + " events " + events.get() + " rows " + rows.sum());
	}

	@Override
	public ConsumerRecords<Object, Object> onConsume(ConsumerRecords<Object, Object> records)
	{
		int n = records.count();
		long before = events.getAndAdd(n);

		if (n > 0 && before == 0)
			say("first " + run);
		if ((before + n) / 1000000 != before / 1000000)
			say("million " + (before + n) / 1000000);
		return records;
	}

	@Override
	public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets)
	{
	}

	@Override
	public void configure(Map<String, ?> configs)
	{
	}

	@Override
	public void close()
	{
	}
}
