import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Flink SQL in this JVM: runs each file of SQL as one job, one after the other, and waits for a line on standard input
 * after each.  The first is the warm-up of the JVM, the last is measured.
 *
 * A file is SET 'name' = 'value', CREATE and INSERT, each ended by a semicolon at the end of a line; all INSERTs of a
 * file are one job.  SET also sets what a cluster's configuration file would.  With BENCH_PEER_EXPLAIN in the environment
 * plans are printed instead.
 */
public final class FlinkPeer
{
	private static final Pattern SET = Pattern.compile("SET\\s+'([^']+)'\\s*=\\s*'([^']*)'");

	public static void main(String[] args) throws Exception
	{
		BufferedReader input = new BufferedReader(new InputStreamReader(System.in));

		for (int i = 0; i < args.length; i++)
		{
			run(i + 1, Files.readString(Path.of(args[i])));
			if (input.readLine() == null)
				break;
		}
		// threads of Flink that are no daemons
		System.exit(0);
	}

	private static void run(int number, String script) throws Exception
	{
		Configuration configuration = new Configuration();
		String[] statements = script.split(";\\s*\n");

		for (String statement : statements)
		{
			Matcher set = SET.matcher(statement.trim());

			if (set.matches())
				configuration.setString(set.group(1), set.group(2));
		}

		TableEnvironment environment = TableEnvironment.create(
			EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
		StatementSet job = environment.createStatementSet();

		for (String statement : statements)
		{
			String text = statement.trim();

			if (text.startsWith("INSERT"))
				job.addInsertSql(text);
			else if (!text.isEmpty() && !SET.matcher(text).matches())
				environment.executeSql(text);
		}
		if (System.getenv("BENCH_PEER_EXPLAIN") != null)
		{
			System.out.println(job.explain());
			return;
		}
		Meter.begin(number);

		TableResult result = job.execute();

		while (result.getJobClient().get().getJobStatus().get() == JobStatus.CREATED)
			Thread.onSpinWait();
		Meter.say("running " + number);
		result.await();
		Meter.end();
	}
}
