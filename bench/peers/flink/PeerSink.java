import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.types.RowKind;

/**
 * The connector 'peer'.  Without a path it counts rows and throws them away, as 'blackhole' does.  With one each subtask
 * writes its rows into a file PATH.SUBTASK for COPY: number of the line, kind of the change, the columns.
 */
public final class PeerSink implements DynamicTableSinkFactory
{
	private static final ConfigOption<String> PATH = ConfigOptions.key("path").stringType().noDefaultValue();

	@Override
	public String factoryIdentifier()
	{
		return "peer";
	}

	@Override
	public Set<ConfigOption<?>> requiredOptions()
	{
		return Set.of();
	}

	@Override
	public Set<ConfigOption<?>> optionalOptions()
	{
		return Set.of(PATH);
	}

	@Override
	public DynamicTableSink createDynamicTableSink(Context context)
	{
		FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);

		helper.validate();
		return new Table(helper.getOptions().get(PATH), context.getPhysicalRowDataType().getLogicalType().getChildren());
	}

	private static final class Table implements DynamicTableSink
	{
		private final String path;
		private final List<LogicalType> types;

		Table(String path, List<LogicalType> types)
		{
			this.path = path;
			this.types = types;
		}

		@Override
		public ChangelogMode getChangelogMode(ChangelogMode requested)
		{
			ChangelogMode.Builder mode = ChangelogMode.newBuilder();

			for (RowKind kind : requested.getContainedKinds())
				if (kind != RowKind.UPDATE_BEFORE)
					mode.addContainedKind(kind);
			return mode.build();
		}

		@Override
		public SinkRuntimeProvider getSinkRuntimeProvider(Context context)
		{
			RowData.FieldGetter[] getters = new RowData.FieldGetter[types.size()];

			for (int i = 0; i < getters.length; i++)
				getters[i] = RowData.createFieldGetter(types.get(i), i);
			return SinkV2Provider.of(new Rows(path, getters));
		}

		@Override
		public DynamicTableSink copy()
		{
			return new Table(path, types);
		}

		@Override
		public String asSummaryString()
		{
			return "peer";
		}
	}

	private static final class Rows implements Sink<RowData>
	{
		private static final long serialVersionUID = 1;
		private final String path;
		private final RowData.FieldGetter[] getters;

		Rows(String path, RowData.FieldGetter[] getters)
		{
			this.path = path;
			this.getters = getters;
		}

		@Override
		public SinkWriter<RowData> createWriter(WriterInitContext context) throws IOException
		{
			if (path == null)
				return new Discard();
			return new ToFile(Path.of(path + "." + context.getTaskInfo().getIndexOfThisSubtask()), getters);
		}
	}

	private static final class Discard implements SinkWriter<RowData>
	{
		@Override
		public void write(RowData row, Context context)
		{
			Meter.rows.increment();
		}

		@Override
		public void flush(boolean end)
		{
		}

		@Override
		public void close()
		{
		}
	}

	private static final class ToFile implements SinkWriter<RowData>
	{
		private final BufferedWriter out;
		private final RowData.FieldGetter[] getters;
		private final StringBuilder line = new StringBuilder();
		private long number;

		ToFile(Path path, RowData.FieldGetter[] getters) throws IOException
		{
			out = Files.newBufferedWriter(path);
			this.getters = getters;
		}

		@Override
		public void write(RowData row, Context context) throws IOException
		{
			Meter.rows.increment();
			line.setLength(0);
			line.append(++number).append('\t').append(row.getRowKind().shortString());
			for (RowData.FieldGetter getter : getters)
			{
				Object value = getter.getFieldOrNull(row);

				line.append('\t');
				if (value == null)
					line.append("\\N");
				else if (value instanceof TimestampData)
					line.append(((TimestampData) value).toInstant());
				else
					line.append(value.toString().replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n"));
			}
			out.append(line.append('\n'));
		}

		@Override
		public void flush(boolean end) throws IOException
		{
			out.flush();
		}

		@Override
		public void close() throws IOException
		{
			out.close();
		}
	}
}
